// vl3 run: a command in a fresh network namespace of its own, on the networks it asks for. The namespace goes when the
// command ends; the agent notices when this process is killed and cannot say so. Names are resolved by this process, on the
// namespace's loopback; the command sees a resolv.conf of its own that says so.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { canBeZone, zoneOf } from '../../native-free/names/name.ts';
import { formatResolvConf, parseResolvConf } from '../../native-free/names/resolv-conf.ts';
import { LocalClient } from '../../src/agent/local-client.ts';
import { RESOLVER_ADDRESS } from '../../src/names/resolver-address.ts';
import { collect, collectLabel } from './arguments.ts';
import { assertedBy, attachAll, parseWait, reportPending, WAIT_SECONDS } from './attaching.ts';
import { type CommandGroup, type Context, EXIT } from './context.ts';
import { socketOption } from './socket.ts';

interface RunOptions {
  network: string[];
  name?: string;
  address?: string[];
  wait: number;
  all?: true;
  label?: Record<string, string>;
  namespace?: string;
  serviceAccount?: string;
  /** False: with --no-resolver. */
  resolver: boolean;
  socket: string;
}

// Inside the new namespace: loopback up, say so on 4, wait for the word on 3, become the command. With a resolv.conf the mount
// namespace is new as well: that file takes the place of the machine's, and what answers for the machine's names past it, by
// a socket, is out of reach (nss-resolve and nscd then leave it to resolv.conf).
const WRAPPER = `
ip link set lo up || exit 1
resolv=$1
shift
if [ -n "$resolv" ]; then
  mount --bind "$resolv" /etc/resolv.conf || echo "vl3: names of networks are not resolved: there is no /etc/resolv.conf" >&2
  for socket in /run/systemd/resolve/io.systemd.Resolve /run/nscd/socket; do
    [ ! -S "$socket" ] || mount --bind /dev/null "$socket"
  done
fi
echo ready >&4 && read -r go <&3 && [ "$go" = go ] && exec "$@" 3<&- 4>&-`;

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
  const resolvConf = options.resolver ? new ResolvConfFile() : undefined;
  const namespaces = resolvConf === undefined ? ['--net'] : ['--net', '--mount', '--propagation', 'slave'];
  const wrapper = ['sh', '-c', WRAPPER, 'sh', resolvConf?.path ?? ''];
  const inNamespace = ['unshare', ...namespaces, '--', ...wrapper, ...command];
  const child = spawn('setpriv', [...dieWithMe, ...inNamespace], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit');
  exited.catch(() => {});
  const stop = (): void => {
    child.kill('SIGTERM');
  };
  context.signal.addEventListener('abort', stop);
  let resolver: AsyncDisposable | undefined;
  try {
    await waitUntilReady(child);
    if (resolvConf !== undefined) {
      resolvConf.unlink();
      if (child.pid !== undefined) resolver = await openResolver(child.pid);
    }
    const netns = `/proc/${child.pid}/ns/net`;
    const labels = options.label === undefined ? {} : { labels: options.label };
    const addresses = options.address === undefined ? {} : { addresses: options.address };
    const workload = options.name ?? `run-${child.pid}`;
    try {
      const { attached, refusal } = await attachAll(
        client,
        options.network,
        { netns, workload, waitMs: options.wait * 1000, ...labels, ...addresses, ...assertedBy(options) },
        context.signal,
      );
      if (refusal !== undefined) throw refusal;
      // As the agent calls them: with the own domain, too, a network is the own domain's.
      resolvConf?.write(attached.map(({ network }) => network));
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
    resolvConf?.close();
    await resolver?.[Symbol.asyncDispose]();
  }
};

const MACHINE_RESOLV_CONF = '/etc/resolv.conf';

/** The namespace's own: mounted over the machine's, then without a name, and written before the command is there to read it. */
class ResolvConfFile {
  readonly #directory = mkdtempSync(join(tmpdir(), 'vl3-run-'));
  readonly path = join(this.#directory, 'resolv.conf');
  readonly #descriptor = openSync(this.path, 'wx', 0o644);

  write(networks: readonly string[]): void {
    const machine = existsSync(MACHINE_RESOLV_CONF) ? readFileSync(MACHINE_RESOLV_CONF, 'utf8') : '';
    const zones = networks.map(zoneOf).filter(canBeZone);
    const search = [...zones.map((labels) => labels.join('.')), ...parseResolvConf(machine).search];
    writeSync(
      this.#descriptor,
      formatResolvConf({ servers: [RESOLVER_ADDRESS], search: [...new Set(search)] }),
    );
  }

  unlink(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  close(): void {
    this.unlink();
    closeSync(this.#descriptor);
  }
}

/** Loaded only when it is needed: it opens sockets in another namespace. */
const openResolver = async (pid: number): Promise<AsyncDisposable> => {
  const { NamespaceResolver } = await import('../../src/names/namespace-resolver.ts');
  return new NamespaceResolver({ pid, resolvConf: MACHINE_RESOLV_CONF });
};

export const runCommand: CommandGroup = (program: Command, context: Context): void => {
  program
    .command('run')
    .description('run a command in a network namespace of its own, on one or more networks')
    .requiredOption('--network <name>', "a network, a partner's as name@domain; may be repeated", collect)
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
    .option('--namespace <name>', 'the namespace it is of, for rules of admission')
    .option('--service-account <name>', 'the account it runs by, for rules of admission')
    .option(
      '--no-resolver',
      "leave the machine's resolv.conf in its place: names of networks are not resolved",
    )
    .addOption(socketOption(context))
    .argument('<command...>', 'the command and its arguments, after --')
    .addHelpText(
      'after',
      "\nNetworks that are not available are attached while the command runs, as soon as they can be.\nThe command finds workloads as <name>.<network>.vl3 (of a partner's network <name>.<network>.<domain>.at.vl3), or <name> alone;\nother names are resolved as on this machine.\nThe exit code is the command's; 5 if it was not run since no network was available.\n\nExamples:\n  vl3 run --network red -- ip address\n  vl3 run --network red --network green --name web -- python3 -m http.server",
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
