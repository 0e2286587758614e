// vl3 registry: the domain's registry process.

import { once } from 'node:events';
import type { Command } from 'commander';
import { DEFAULT_REGISTRY_STATE } from './admin.ts';
import { collect, parseHostPort } from './arguments.ts';
import type { CommandGroup, Context } from './context.ts';
import { createLogger, logLevelOption } from './log.ts';

export const DEFAULT_REGISTRY_PORT = 7443;

interface RegistryOptions {
  stateDir: string;
  listen: string;
  trustDomain: string;
  advertise?: string[];
  logLevel: string;
}

export const registryCommands: CommandGroup = (program: Command, context: Context): void => {
  program
    .command('registry')
    .description("the domain's registry: networks, nodes, leases")
    .command('run', { isDefault: true })
    .description('run the registry; the first start creates the CA and the admin credential')
    .requiredOption('--trust-domain <name>', "the domain's name, e.g. aws-prod.example")
    .option('--listen <address:port>', 'where to listen', `0.0.0.0:${DEFAULT_REGISTRY_PORT}`)
    .option(
      '--advertise <host:port>',
      'an address that nodes reach it by; may be repeated (default: the listen address)',
      collect,
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
      const listen = parseHostPort(options.listen, DEFAULT_REGISTRY_PORT);
      const advertise = (options.advertise ?? []).map((text) => parseHostPort(text, listen.port));
      const { startRegistry } = await import('../../src/registry/server.ts');
      const logger = createLogger('registry', options.logLevel);
      await using _registry = await startRegistry(
        { stateDirectory: options.stateDir, trustDomain: options.trustDomain, listen, advertise },
        { logger },
      );
      if (!context.signal.aborted) await once(context.signal, 'abort');
      logger.info('stopping');
    });
};
