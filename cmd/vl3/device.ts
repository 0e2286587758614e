// vl3 device: one WireGuard device without registry or agent, for wg and wg-quick to drive, as `wireguard-go IFNAME` is.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { pairsOf, WORKER_PAIRS, type WorkerPairs } from '../../src/datapath/worker-pairs.ts';
import type { CommandGroup, Context } from './context.ts';

/** What a background process says on the descriptor it was given, before anything else: empty for "up". */
const READY_FD = 3;
const DEFAULT_MTU = 1420;
/** What wireguard-go takes its descriptors from; here both are opened anew, and nobody must think otherwise. */
const DESCRIPTORS = ['WG_TUN_FD', 'WG_UAPI_FD'] as const;
/** One device configures little: the young generation need not grow. */
const SMALL_HEAP = ['--max-semi-space-size=1'];

interface DeviceOptions {
  readonly foreground?: boolean;
  readonly readyFd?: boolean;
  readonly workerPairs: WorkerPairs;
}

export const deviceCommand: CommandGroup = (program: Command, context: Context): void => {
  program
    .command('device <interface>')
    .description('one WireGuard device by itself, driven by wg and wg-quick, like wireguard-go')
    .option('-f, --foreground', 'stay in the foreground instead of going to the background once it is up')
    .addOption(
      program
        .createOption(
          '--worker-pairs <number>',
          'pairs of threads that move packets; auto: one for each two processors, half (one thread) on fewer than four',
        )
        .choices(WORKER_PAIRS)
        .default('auto')
        .env('VL3_WORKER_PAIRS'),
    )
    .addOption(program.createOption('--ready-fd', 'tell the starting process that it is up').hideHelp())
    .addHelpText(
      'after',
      `
Like wireguard-go it stays in the foreground with WG_PROCESS_FOREGROUND=1; what it has to say of itself
comes from wg, so LOG_LEVEL changes nothing. VL3_WORKER_PAIRS stands for --worker-pairs, which wg-quick cannot give.

It ends on SIGINT or SIGTERM, when its interface is deleted, and when its control socket
/var/run/wireguard/<interface>.sock is.

Examples:
  vl3 device wg0 && wg setconf wg0 /etc/wireguard/wg0.conf
  WG_QUICK_USERSPACE_IMPLEMENTATION=vl3-wg wg-quick up wg0`,
    )
    .action(async (name: string, options: DeviceOptions) => {
      const { env } = context;
      for (const variable of DESCRIPTORS)
        if (env[variable] !== undefined && env[variable] !== '')
          throw new Vl3Error(
            'invalid-argument',
            `${variable} is set, but vl3 opens interface and control socket itself: unset it`,
          );
      const foreground = options.foreground === true || env['WG_PROCESS_FOREGROUND'] === '1';
      if (foreground || options.readyFd === true) await runDevice(name, options, context);
      else await startInBackground(name, options.workerPairs);
    });
};

/** Resolves once interface and control socket are there; the device then goes on without this process. */
const startInBackground = async (name: string, pairs: WorkerPairs): Promise<void> => {
  const [main = ''] = process.argv.slice(1);
  const device = ['device', '--foreground', '--worker-pairs', pairs, '--ready-fd', name];
  const child = spawn(process.execPath, [...new Set([...process.execArgv, ...SMALL_HEAP]), main, ...device], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  });
  const pipe = child.stdio[READY_FD];
  if (pipe === null || pipe === undefined || !('read' in pipe))
    throw new Vl3Error('internal', 'there is no pipe');
  const problem = await text(pipe);
  if (problem !== 'up')
    throw new Vl3Error('failed-precondition', problem === '' ? 'the device did not start' : problem);
  child.unref();
};

const runDevice = async (name: string, options: DeviceOptions, context: Context): Promise<void> => {
  const tell = (message: string): void => {
    if (options.readyFd !== true) return;
    writeSync(READY_FD, message);
    closeSync(READY_FD);
  };
  try {
    const [
      { WireguardDevice },
      { UapiServer },
      { opensslPrimitives },
      { monotonicNow },
      { compactMemory, spareMemory },
    ] = await Promise.all([
      import('../../src/device/wireguard-device.ts'),
      import('../../src/device/uapi-server.ts'),
      import('../../src/noise/openssl-primitives.ts'),
      import('../../src/ffi/clock.ts'),
      import('../../src/ffi/trim.ts'),
    ]);
    spareMemory();
    await using device = await WireguardDevice.start(
      {
        port: 0,
        pairs: pairsOf(options.workerPairs),
        mtu: DEFAULT_MTU,
        tun: { name, netns: undefined, allowOffloads: true, isPersistent: false },
      },
      {
        primitives: opensslPrimitives,
        random: (length) => new Uint8Array(randomBytes(length)),
        clock: { monotonic: monotonicNow, wall: Date.now },
      },
    );
    await using server = await UapiServer.listen(device, name);
    // Now, not once packets move: they would wait for it.
    compactMemory();
    tell('up');
    const ends = [server.deleted, device.failed];
    if (!context.signal.aborted) await Promise.race([once(context.signal, 'abort'), ...ends]);
  } catch (error) {
    if (error instanceof Vl3Error) tell(error.message);
    throw error;
  }
};
