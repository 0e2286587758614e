// The command tree: parses a command line, runs one command, turns errors into one sentence and an exit code. What only
// one command needs (the registry, the agent, the RPC library) is imported when that command runs.

import { Command, CommanderError } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { VERSION } from '../../src/version.ts';
import { admissionCommands } from './admission.ts';
import { agentCommands } from './agent.ts';
import { attachCommands } from './attach.ts';
import { attachmentCommands } from './attachment.ts';
import { caCommands } from './ca.ts';
import { cniCommands } from './cni.ts';
import { type Context, EXIT } from './context.ts';
import { deviceCommand } from './device.ts';
import { federationCommands } from './federation.ts';
import { networkCommands } from './network.ts';
import { nodeCommands } from './node.ts';
import { operatorCommands } from './operator.ts';
import { peerCommands } from './peer.ts';
import { registryCommands } from './registry.ts';
import { runCommand } from './run.ts';
import { statusCommand } from './status.ts';
import { tokenCommands } from './token.ts';
import { webhookCommands } from './webhook.ts';

/** An unset variable of a script (`--node "$NODE"`) must not mean the same as an option left out. */
const refuseEmptyOptions = (command: Command): void => {
  for (const option of command.options) {
    const name = option.attributeName();
    const value: unknown = command.getOptionValue(name);
    const isEmpty = value === '' || (Array.isArray(value) && value.includes(''));
    if (!isEmpty || command.getOptionValueSource(name) !== 'cli') continue;
    command.error(`error: option '${option.flags}' is empty: leave it out, or give it a value`);
  }
};

export const buildProgram = (context: Context): Command => {
  const program = new Command('vl3')
    .description('one flat, private L3 network per name, across any number of clusters, clouds and machines')
    .version(VERSION)
    .enablePositionalOptions()
    .showHelpAfterError('(add --help for the options and examples)')
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 registry run --trust-domain aws-prod.example\n  vl3 network create red --pool-v4 10.60.0.0/16\n  vl3 agent run --token "$(vl3 token create)"\n  vl3 run --network red -- ip address\n  vl3 status\n\nExit codes:\n  0 done, 1 failed, 2 the command line, the environment or the configuration is wrong,\n  3 registry or agent not reached, 4 something is wrong, 130 interrupted',
    )
    .exitOverride()
    .hook('preAction', (_, command) => refuseEmptyOptions(command))
    .configureOutput({
      writeOut: (text) => context.out(text.replace(/\n$/, '')),
      writeErr: (text) => context.err(text.replace(/\n$/, '')),
    });
  for (const addTo of [
    registryCommands,
    caCommands,
    tokenCommands,
    networkCommands,
    nodeCommands,
    operatorCommands,
    admissionCommands,
    federationCommands,
    attachmentCommands,
    agentCommands,
    attachCommands,
    peerCommands,
    cniCommands,
    webhookCommands,
    runCommand,
    statusCommand,
    deviceCommand,
  ]) {
    addTo(program, context);
  }
  return program;
};

/** Runs one command line (without program names); reports failures through the context. */
export const run = async (args: readonly string[], context: Context): Promise<void> => {
  try {
    await buildProgram(context).parseAsync([...args], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      context.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
    } else if (error instanceof Vl3Error) {
      context.err(`vl3: ${error.message}`);
      context.exit(error.code === 'unavailable' ? EXIT.unavailable : EXIT.failed);
    } else if (context.signal.aborted) {
      context.err('vl3: interrupted');
      context.exit(EXIT.interrupted);
    } else {
      context.err(
        `vl3: unexpected error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
      context.exit(EXIT.failed);
    }
  }
};
