// vl3 registry: the domain's registry process.

import { once } from 'node:events';
import type { Command } from 'commander';
import { registrySettings } from '../../src/config/registry-settings.ts';
import { DEFAULT_REGISTRY_PORT } from '../../src/identity/registry-address.ts';
import { adminOption, withAdmin } from './admin.ts';
import type { CommandGroup, Context } from './context.ts';
import { createLogger } from './log.ts';
import { openMetrics } from './metrics.ts';
import { type OutputFormat, outputOption, print, printTable } from './output.ts';
import { addBackupCommand } from './registry-backup.ts';
import { addRestoreCommand } from './registry-restore.ts';
import { addConfigCommand, readSettings, withSettings } from './settings.ts';

export const registryCommands: CommandGroup = (program: Command, context: Context): void => {
  const registry = program.command('registry').description("the domain's registry: networks, nodes, leases");

  withSettings(registry.command('run', { isDefault: true }), registrySettings)
    .description('run the registry; the first start creates the CA and the admin credential')
    .addHelpText(
      'after',
      '\nThe admin credential is <state-dir>/admin.json.\n\nExamples:\n  vl3 registry run --trust-domain aws-prod.example --advertise registry.aws-prod.example:7443\n  vl3 registry run --config ./registry.yaml',
    )
    .action(async (_options: unknown, command: Command) => {
      const { values } = readSettings(command, registrySettings, context);
      const listen = { port: DEFAULT_REGISTRY_PORT, ...values.listen };
      const advertise = values.advertise.map((one) => ({ port: listen.port, ...one }));
      const { startRegistry } = await import('../../src/registry/server.ts');
      const logger = createLogger('registry', values['log-level']);
      await using metrics = await openMetrics(values['metrics-listen']);
      await using running = await startRegistry(
        {
          stateDirectory: values['state-dir'],
          trustDomain: values['trust-domain'],
          listen,
          advertise,
          reservedRanges: values['reserved-range'],
        },
        { logger },
      );
      if (metrics !== undefined) {
        const { observeRegistry } = await import('../../src/metrics/registry-metrics.ts');
        metrics.observe(observeRegistry(running.observed));
        logger.info({ port: metrics.port }, 'metrics are served');
      }
      if (!context.signal.aborted) await once(context.signal, 'abort');
      logger.info('stopping');
    });

  addConfigCommand(registry, registrySettings, context);
  addBackupCommand(registry, context);
  addRestoreCommand(registry, context);

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
      const refusedEnrolments = Object.fromEntries(refusals);
      const counts = { networks, nodes, nodesAlive, attachments, watchers, refusedEnrolments };
      await print(context, options.output, { trustDomain, version, storeId, revision, ...counts }, () => {
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
    });
};
