// vl3 registry: the domain's registry process.

import { once } from 'node:events';
import { type Command, Option } from 'commander';
import { DEFAULT_REGISTRY_PORT } from '../../src/identity/registry-address.ts';
import { adminOption, DEFAULT_REGISTRY_STATE, withAdmin } from './admin.ts';
import { collectHosts, parseHost } from './arguments.ts';
import type { CommandGroup, Context } from './context.ts';
import { createLogger, logLevelOption } from './log.ts';
import { type OutputFormat, outputOption, printJson, printTable } from './output.ts';

interface RegistryOptions {
  stateDir: string;
  listen: { host: string; port?: number };
  trustDomain: string;
  advertise?: { host: string; port?: number }[];
  logLevel: string;
}

export const registryCommands: CommandGroup = (program: Command, context: Context): void => {
  const registry = program.command('registry').description("the domain's registry: networks, nodes, leases");

  registry
    .command('run', { isDefault: true })
    .description('run the registry; the first start creates the CA and the admin credential')
    .requiredOption('--trust-domain <name>', "the domain's name, e.g. aws-prod.example")
    .addOption(
      new Option('--listen <address:port>', 'where to listen')
        .argParser(parseHost)
        .default({ host: '0.0.0.0' }, `0.0.0.0:${DEFAULT_REGISTRY_PORT}`),
    )
    .option(
      '--advertise <host:port>',
      'an address that nodes reach it by; may be repeated (default: the listen address)',
      collectHosts,
    )
    .option(
      '--state-dir <directory>',
      'where the store, the CA and the admin credential live',
      DEFAULT_REGISTRY_STATE,
    )
    .addOption(logLevelOption())
    .addHelpText(
      'after',
      '\nThe admin credential is <state-dir>/admin.json.\n\nExamples:\n  vl3 registry run --trust-domain aws-prod.example --advertise registry.aws-prod.example:7443',
    )
    .action(async (options: RegistryOptions) => {
      const listen = { port: DEFAULT_REGISTRY_PORT, ...options.listen };
      const advertise = (options.advertise ?? []).map((one) => ({ port: listen.port, ...one }));
      const { startRegistry } = await import('../../src/registry/server.ts');
      const logger = createLogger('registry', options.logLevel);
      await using _registry = await startRegistry(
        { stateDirectory: options.stateDir, trustDomain: options.trustDomain, listen, advertise },
        { logger },
      );
      if (!context.signal.aborted) await once(context.signal, 'abort');
      logger.info('stopping');
    });

  registry
    .command('status')
    .description('show what the registry holds and whom it refused since it started')
    .addOption(adminOption(context))
    .addOption(outputOption())
    .addHelpText('after', '\nExamples:\n  vl3 registry status\n  vl3 registry status -o json')
    .action(async (options: { admin: string; output: OutputFormat }) => {
      const answer = await withAdmin(options.admin, (client) => client.getStatus({}));
      const { trustDomain, version, storeId, networks, nodes, nodesAlive, attachments, watchers } = answer;
      const revision = Number(answer.revision);
      const refusals = Object.entries(answer.refusedEnrolments).map(([reason, count]): [string, number] => [
        reason,
        Number(count),
      ]);
      if (options.output === 'json') {
        const refusedEnrolments = Object.fromEntries(refusals);
        const counts = { networks, nodes, nodesAlive, attachments, watchers, refusedEnrolments };
        return printJson(context, { trustDomain, version, storeId, revision, ...counts });
      }
      context.out(`registry of ${trustDomain}, vl3 ${version}, store ${storeId} at revision ${revision}`);
      context.out(
        `networks ${networks}  nodes ${nodes} (${nodesAlive} alive)  attachments ${attachments}  watches ${watchers}`,
      );
      if (refusals.length === 0) return;
      context.out('');
      printTable(
        context,
        ['ENROLMENTS REFUSED', 'TIMES'],
        refusals.map(([reason, count]) => [reason, String(count)]),
      );
    });
};
