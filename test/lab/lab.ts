// A small world out of network namespaces: hosts and the cables between them. Nothing of it is in the machine's own
// network namespace, names are unique, and it goes when the run ends, however that happens (see ledger.ts).

import { execute, failure, Host, type Result, type RunOptions } from './host.ts';
import { Ledger, removeDeadRuns } from './ledger.ts';

/** One end of a cable: the interface it makes in a host. */
export interface CableEnd {
  host: Host;
  interface: string;
  /** Addresses with prefix length, v4 or v6. */
  addresses?: readonly string[];
  /** The bridge of that host it is plugged into. */
  bridge?: string;
}

export interface LabOptions {
  /** How names begin. */
  prefix?: string;
}

export class Lab implements AsyncDisposable {
  readonly ledger: Ledger;
  #open = true;

  private constructor(ledger: Ledger) {
    this.ledger = ledger;
    process.on('exit', this.#onExit);
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, this.#onSignal);
  }

  /** Starts a run, after removing what dead ones left. */
  static create(options: LabOptions = {}): Lab {
    if (process.getuid?.() !== 0) throw new Error('network namespaces need root: run this as root');
    removeDeadRuns();
    return new Lab(Ledger.create(options.prefix ?? 'vl3t-'));
  }

  /** The run's unique name, which all its names start with. */
  get name(): string {
    return this.ledger.name;
  }

  /** A directory for files; it goes with the run. */
  get scratch(): string {
    return this.ledger.scratch;
  }

  /** Makes a host. It forwards packets only when asked to, whatever this machine does. */
  async host(name: string, options: { forward?: boolean } = {}): Promise<Host> {
    const netns = `${this.name}-${name}`;
    this.ledger.record({ kind: 'netns', name: netns });
    await this.run(['ip', 'netns', 'add', netns]);
    const host = new Host(name, `/run/netns/${netns}`, this.ledger);
    const forward = options.forward ? 1 : 0;
    await host.set({
      'ipv4/ip_forward': forward,
      'ipv6/conf/all/forwarding': forward,
      'ipv6/conf/default/accept_dad': 0,
      'ipv6/conf/all/accept_dad': 0,
      'ipv4/conf/all/rp_filter': 0,
      'ipv4/conf/default/rp_filter': 0,
    });
    await host.ip('link set lo up');
    return host;
  }

  /** Looks at a namespace somebody else made as a host: a pod of `vl3 run`, say. */
  adopt(name: string, netns: string): Host {
    return new Host(name, netns, this.ledger);
  }

  /** Lays a cable: a veth pair between two hosts. */
  async cable(one: CableEnd, other: CableEnd, options: { mtu?: number } = {}): Promise<void> {
    const end = (e: CableEnd) => `name ${e.interface} netns ${e.host.netns.slice('/run/netns/'.length)}`;
    const mtu = options.mtu === undefined ? '' : ` mtu ${options.mtu}`;
    const add = `link add ${end(one)}${mtu} type veth peer ${end(other)}${mtu}`;
    await this.run(['ip', ...add.split(' ')]);
    for (const { host, interface: name, addresses = [], bridge } of [one, other]) {
      const master = bridge === undefined ? [] : [`link set ${name} master ${bridge}`];
      const assign = addresses.map((a) => `address add ${a} dev ${name}${a.includes(':') ? ' nodad' : ''}`);
      await host.ip(...master, ...assign, `link set ${name} up`);
    }
  }

  /** Makes a bridge in a host: a switch that cables are plugged into. */
  async bridge(host: Host, name: string, addresses: readonly string[] = []): Promise<void> {
    const assign = addresses.map((a) => `address add ${a} dev ${name}${a.includes(':') ? ' nodad' : ''}`);
    await host.ip(`link add ${name} type bridge forward_delay 0`, ...assign, `link set ${name} up`);
  }

  /** Runs a command in this machine's own network namespace, whatever its exit code. */
  async tryRun(command: readonly string[], options: RunOptions = {}): Promise<Result> {
    return execute(this.ledger, command, options);
  }

  /** Runs a command in this machine's own network namespace and returns what it printed. */
  async run(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.tryRun(command, options);
    if (result.code !== 0) throw new Error(failure('this machine', command, result));
    return result.stdout;
  }

  /** Says that programs under test make namespaces whose names start with `prefix`; they go with the run. */
  owns(prefix: string): string {
    this.ledger.record({ kind: 'netns-prefix', prefix });
    return prefix;
  }

  /** Leaves everything as it is when this process ends. */
  keep(): void {
    this.ledger.keep();
    this.#release();
  }

  /** Ends every process of the run and removes all it made. */
  async close(): Promise<void> {
    if (this.#release()) this.ledger.remove();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Whether it was still open. */
  #release(): boolean {
    const wasOpen = this.#open;
    this.#open = false;
    process.off('exit', this.#onExit);
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(name, this.#onSignal);
    return wasOpen;
  }

  readonly #onExit = (): void => {
    if (this.#release()) this.ledger.remove();
  };

  readonly #onSignal = (name: NodeJS.Signals): void => {
    if (this.#release()) this.ledger.remove();
    // Without our listener the signal does what it always did: end the process, and say so to whoever waits.
    process.kill(process.pid, name);
  };
}
