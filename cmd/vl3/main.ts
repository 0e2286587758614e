// The vl3 program: builds the command tree, runs one command, turns errors into one sentence and an exit code.

import { Command, CommanderError } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { VERSION } from '../../src/version.ts';
import { agentCommands } from './agent.ts';
import { attachCommands } from './attach.ts';
import { attachmentCommands } from './attachment.ts';
import { type Context, EXIT } from './context.ts';
import { networkCommands } from './network.ts';
import { nodeCommands } from './node.ts';
import { registryCommands } from './registry.ts';
import { runCommand } from './run.ts';
import { statusCommand } from './status.ts';
import { tokenCommands } from './token.ts';

const buildProgram = (context: Context): Command => {
  const program = new Command('vl3')
    .description('one flat, private L3 network per name, across any number of clusters, clouds and machines')
    .version(VERSION)
    .enablePositionalOptions()
    .showHelpAfterError('(add --help for the options and examples)')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.out(text.replace(/\n$/, '')),
      writeErr: (text) => context.err(text.replace(/\n$/, '')),
    });
  for (const addTo of [
    registryCommands,
    tokenCommands,
    networkCommands,
    nodeCommands,
    attachmentCommands,
    agentCommands,
    attachCommands,
    runCommand,
    statusCommand,
  ]) {
    addTo(program, context);
  }
  return program;
};

/** Runs one command line (without program names); reports failures through the context. */
export const main = async (args: readonly string[], context: Context): Promise<void> => {
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
      context.exit(130);
    } else {
      context.err(
        `vl3: unexpected error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
      context.exit(EXIT.failed);
    }
  }
};

if (import.meta.main) {
  const abort = new AbortController();
  const interrupted = (): void => abort.abort();
  process.on('SIGINT', interrupted);
  process.on('SIGTERM', interrupted);
  // A reader that goes away (`vl3 … | head`) ends the output, not in a stack trace.
  process.stdout.on('error', () => {});
  await main(process.argv.slice(2), {
    env: process.env,
    out: (line) => process.stdout.write(`${line}\n`),
    err: (line) => process.stderr.write(`${line}\n`),
    signal: abort.signal,
    exit: (code) => {
      process.exitCode = code;
    },
  });
  process.off('SIGINT', interrupted);
  process.off('SIGTERM', interrupted);
}
