// vl3 agent: the per-node agent, and removing everything it made.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { collect, collectHosts, parseInteger } from './arguments.ts';
import type { CommandGroup, Context } from './context.ts';
import { createLogger, logLevelOption } from './log.ts';
import { type OutputFormat, outputOption, printJson } from './output.ts';
import { DEFAULT_RUN_DIRECTORY } from './socket.ts';

const DEFAULT_AGENT_STATE = '/var/lib/vl3/agent';
const DEFAULT_UDP_PORT = 51820;

interface PlaceOptions {
  stateDir: string;
  runDir: string;
  netnsPrefix: string;
  logLevel: string;
}

interface RunOptions extends PlaceOptions {
  token?: string;
  tokenFile?: string;
  name?: string;
  port?: number;
  advertise?: { host: string; port?: number }[];
  network?: string[];
}

const withPlaceOptions = (command: Command): Command =>
  command
    .option(
      '--state-dir <directory>',
      'what survives restarts: identity, keys, addresses',
      DEFAULT_AGENT_STATE,
    )
    .option('--run-dir <directory>', 'where its socket is', DEFAULT_RUN_DIRECTORY)
    .option(
      '--netns-prefix <prefix>',
      "prefix of its networks' namespaces, for several agents on one machine",
      'vl3-',
    )
    .addOption(logLevelOption());

const readToken = (options: RunOptions, context: Context): string | undefined => {
  if (options.tokenFile === undefined) return options.token ?? (context.env['VL3_TOKEN'] || undefined);
  try {
    return readFileSync(options.tokenFile, 'utf8').trim();
  } catch (cause) {
    throw new Vl3Error(
      'invalid-argument',
      `cannot read the token file ${options.tokenFile}: check --token-file`,
      { cause },
    );
  }
};

export const agentCommands: CommandGroup = (program: Command, context: Context): void => {
  const agent = program.command('agent').description("this node's agent");

  withPlaceOptions(agent.command('run', { isDefault: true }))
    .description('run the agent; networks and attachments outlive it')
    .option('--token <token>', 'join token, needed once (environment: VL3_TOKEN)')
    .option('--token-file <file>', 'file that holds the join token')
    .option('--name <node>', "the node's name (default: the host name)")
    .option(
      '--port <port>',
      `UDP port (default: the one used before, else ${DEFAULT_UDP_PORT})`,
      parseInteger(1, 65535),
    )
    .option(
      '--advertise <host[:port]>',
      'address that peers reach this node by, e.g. behind 1:1 NAT; may be repeated',
      collectHosts,
    )
    .option('--network <name>', 'join this network at once, attached or not; may be repeated', collect)
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 agent run --token-file /root/join-token\n  vl3 agent run --advertise 203.0.113.7 --network red',
    )
    .action(async (options: RunOptions) => {
      const token = readToken(options, context);
      const { startAgent } = await import('../../src/agent/agent.ts');
      const logger = createLogger('agent', options.logLevel);
      await using running = await startAgent(
        {
          stateDirectory: options.stateDir,
          runDirectory: options.runDir,
          netnsPrefix: options.netnsPrefix,
          networks: options.network ?? [],
          advertise: (options.advertise ?? []).map(({ host, ...port }) => ({ address: host, ...port })),
          defaultPort: DEFAULT_UDP_PORT,
          ...(token === undefined ? {} : { token }),
          ...(options.name === undefined ? {} : { name: options.name }),
          ...(options.port === undefined ? {} : { port: options.port }),
        },
        { logger, signal: context.signal },
      );
      if (!context.signal.aborted) await Promise.race([once(context.signal, 'abort'), running.failed]);
      logger.info('stopping; networks and attachments stay');
    });

  withPlaceOptions(agent.command('clean'))
    .description('remove everything the agent made on this node: interfaces, namespaces, identity and state')
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nThe agent must be stopped. Pods lose their vl3 interfaces.\n\nExamples:\n  vl3 agent clean',
    )
    .action(async (options: PlaceOptions & { output: OutputFormat }) => {
      const { cleanNode } = await import('../../src/agent/clean.ts');
      const removed = await cleanNode(
        { stateDirectory: options.stateDir, runDirectory: options.runDir, netnsPrefix: options.netnsPrefix },
        createLogger('agent', options.logLevel),
      );
      if (options.output === 'json') return printJson(context, { removed });
      for (const one of removed) context.out(`removed ${one}`);
      if (removed.length === 0) context.out('nothing to remove');
    });
};
