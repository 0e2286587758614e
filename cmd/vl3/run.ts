// vl3 run: a command in a fresh network namespace of its own, on the networks it asks for. The namespace goes when the
// command ends; the agent notices when this process is killed and cannot say so.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import type { Command } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { LocalClient } from '../../src/agent/local-client.ts';
import { collect, collectLabel } from './arguments.ts';
import { attachAll, parseWait, reportPending, WAIT_SECONDS } from './attaching.ts';
import { type CommandGroup, type Context, EXIT } from './context.ts';
import { socketOption } from './socket.ts';

interface RunOptions {
  network: string[];
  name?: string;
  address?: string[];
  wait: number;
  all?: true;
  label?: Record<string, string>;
  socket: string;
}

// Inside the new namespace: loopback up, say so on 4, wait for the word on 3, become the command.
const WRAPPER =
  'ip link set lo up && echo ready >&4 && read -r go <&3 && [ "$go" = go ] && exec "$@" 3<&- 4>&-';

const waitUntilReady = async (child: ChildProcess): Promise<void> => {
  const ready = child.stdio[4];
  if (ready == null || !('once' in ready)) throw new Vl3Error('internal', 'the wrapper has no ready pipe');
  const failed = new Promise<never>((_, reject) => {
    child.once('error', (cause) =>
      reject(
        new Vl3Error('failed-precondition', `cannot start setpriv: ${cause.message}: install util-linux`, {
          cause,
        }),
      ),
    );
    child.once('exit', (code) =>
      reject(
        new Vl3Error(
          'permission-denied',
          `cannot make a network namespace (unshare ended with ${code}): run this as root`,
        ),
      ),
    );
  });
  await Promise.race([once(ready, 'data'), failed]);
};

const run = async (context: Context, options: RunOptions, command: readonly string[]): Promise<number> => {
  const client = new LocalClient(options.socket);
  // Killed in a way that cannot be caught, this process takes the command with it: nobody else would end it.
  const dieWithMe = ['--pdeathsig', 'KILL', '--'];
  const inNamespace = ['unshare', '--net', '--', 'sh', '-c', WRAPPER, 'sh', ...command];
  const child = spawn('setpriv', [...dieWithMe, ...inNamespace], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit');
  exited.catch(() => {});
  const stop = (): void => {
    child.kill('SIGTERM');
  };
  context.signal.addEventListener('abort', stop);
  try {
    await waitUntilReady(child);
    const netns = `/proc/${child.pid}/ns/net`;
    const labels = options.label === undefined ? {} : { labels: options.label };
    const addresses = options.address === undefined ? {} : { addresses: options.address };
    const workload = options.name ?? `run-${child.pid}`;
    try {
      const { attached, refusal } = await attachAll(
        client,
        options.network,
        { netns, workload, waitMs: options.wait * 1000, ...labels, ...addresses },
        context.signal,
      );
      if (refusal !== undefined) throw refusal;
      const pending = reportPending(context, attached);
      // Without any network there is nothing that the command could do here.
      if (pending === attached.length || (options.all === true && pending > 0)) return EXIT.pending;
      const go = child.stdio[3];
      if (go != null && 'write' in go) go.write('go\n');
      const [code, signal] = await exited;
      return signal === null ? Number(code) : 128 + (constants.signals[signal as NodeJS.Signals] ?? 0);
    } finally {
      child.kill('SIGKILL');
      await Promise.allSettled(options.network.map((network) => client.detach({ network, netns })));
    }
  } finally {
    context.signal.removeEventListener('abort', stop);
    child.kill('SIGKILL');
  }
};

export const runCommand: CommandGroup = (program: Command, context: Context): void => {
  program
    .command('run')
    .description('run a command in a network namespace of its own, on one or more networks')
    .requiredOption('--network <name>', 'a network; may be repeated', collect)
    .option('--name <workload>', "the workload's name")
    .option(
      '--address <address>',
      'this address, which must be in a prefix of this node; may be repeated, one of each family',
      collect,
    )
    .option(
      '--wait <duration>',
      `how long to wait for a network that is not available (default: ${WAIT_SECONDS}s)`,
      parseWait,
      WAIT_SECONDS,
    )
    .option('--all', 'run the command only if all of the networks are available')
    .option('--label <key=value>', 'a label of the workload; may be repeated', collectLabel)
    .addOption(socketOption(context))
    .argument('<command...>', 'the command and its arguments, after --')
    .addHelpText(
      'after',
      "\nNetworks that are not available are attached while the command runs, as soon as they can be.\nThe exit code is the command's; 5 if it was not run since no network was available.\n\nExamples:\n  vl3 run --network red -- ip address\n  vl3 run --network red --network green --name web -- python3 -m http.server",
    )
    .action(async (command: string[], options: RunOptions) => {
      if (new Set(options.network).size !== options.network.length) {
        context.err('vl3: a network is named twice');
        return context.exit(EXIT.usage);
      }
      if (options.address !== undefined && options.network.length > 1) {
        context.err('vl3: --address is of one network: name one --network, or leave --address out');
        return context.exit(EXIT.usage);
      }
      context.exit(await run(context, options, command));
    });
};
