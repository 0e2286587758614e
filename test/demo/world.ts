// The demo's world: an internet, three clouds with four nodes, one registry, one agent a node, two networks, ten pods.
// vl3 is driven by its command line only, as a person would.
//
//   alpha  public addresses          a1 198.51.100.11, a2 198.51.100.12, the registry 198.51.100.5
//   beta   one-to-one NAT            b1 10.0.0.10, from outside 203.0.113.10
//   gamma  port-restricted NAT       c1 10.0.0.10, from outside nothing

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Daemon } from '../lab/daemon.ts';
import type { Host } from '../lab/host.ts';
import { Internet } from '../lab/internet.ts';
import type { Lab } from '../lab/lab.ts';
import { vl3 } from '../lab/program.ts';
import { forEach, until } from './report.ts';

export type NetworkName = 'red' | 'green';

export interface Network {
  name: NetworkName;
  poolV4: string;
  poolV6?: string;
}

export interface Node {
  name: string;
  cloud: string;
  host: Host;
  /** Its own address. */
  address: string;
  /** What it tells others its address is, where it cannot see it itself. */
  advertise?: string;
  socket: string;
}

export interface Pod {
  name: string;
  node: Node;
  networks: readonly NetworkName[];
  host: Host;
  /** Its address on each of its networks. */
  v4: Partial<Record<NetworkName, string>>;
  v6: Partial<Record<NetworkName, string>>;
}

export const NETWORKS: readonly Network[] = [
  { name: 'red', poolV4: '10.60.0.0/16', poolV6: 'fd00:60::/48' },
  { name: 'green', poolV4: '10.70.0.0/16' },
];

const REGISTRY = '198.51.100.5:7443';
const UNDERLAY = '10.0.0';
const RED: readonly NetworkName[] = ['red'];
const GREEN: readonly NetworkName[] = ['green'];
const BOTH: readonly NetworkName[] = ['red', 'green'];
/** Every kind of pod in every cloud. */
const PODS: readonly [string, string, readonly NetworkName[]][] = [
  ['red-a', 'a1', RED],
  ['both-a', 'a1', BOTH],
  ['red-a2', 'a2', RED],
  ['green-a', 'a2', GREEN],
  ['red-b', 'b1', RED],
  ['green-b', 'b1', GREEN],
  ['both-b', 'b1', BOTH],
  ['red-c', 'c1', RED],
  ['green-c', 'c1', GREEN],
  ['both-c', 'c1', BOTH],
];

export class World {
  readonly lab: Lab;
  readonly internet: Internet;
  readonly registry: Host;
  readonly nodes: readonly Node[];
  readonly pods: Pod[] = [];
  readonly daemons: Daemon[] = [];

  private constructor(lab: Lab, internet: Internet, registry: Host, nodes: readonly Node[]) {
    this.lab = lab;
    this.internet = internet;
    this.registry = registry;
    this.nodes = nodes;
  }

  static async build(lab: Lab): Promise<World> {
    const internet = await Internet.create(lab);
    const alpha = await internet.publicCloud('198.51.100');
    const beta = await internet.staticNatCloud('beta', '203.0.113', UNDERLAY);
    const gamma = await internet.natCloud('gamma', '192.0.2', UNDERLAY);
    const registry = await alpha.node('registry', 5);
    const sites = [
      { name: 'a1', cloud: 'alpha', ...(await alpha.node('a1', 11)) },
      { name: 'a2', cloud: 'alpha', ...(await alpha.node('a2', 12)) },
      { name: 'b1', cloud: 'beta', ...(await beta.node('b1', 10)) },
      { name: 'c1', cloud: 'gamma', ...(await gamma.node('c1', 10)) },
    ];
    const nodes = sites.map(({ name, cloud, host, address, publicAddress }): Node => {
      const told =
        publicAddress !== undefined && publicAddress !== address ? { advertise: publicAddress } : {};
      return { name, cloud, host, address, socket: join(lab.scratch, name, 'run', 'agent.sock'), ...told };
    });
    return new World(lab, internet, registry.host, nodes);
  }

  async startRegistry(): Promise<void> {
    const options = ['--state-dir', this.#registryState, '--listen', REGISTRY, '--advertise', REGISTRY];
    const daemon = this.registry.start(vl3('registry', 'run', '--trust-domain', 'demo.example', ...options));
    this.daemons.push(daemon);
    await daemon.printed(/"registry is up"/, 15_000);
  }

  async createNetworks(): Promise<void> {
    for (const { name, poolV4, poolV6 } of NETWORKS) {
      const v6 = poolV6 === undefined ? [] : ['--pool-v6', poolV6];
      await this.admin('network', 'create', name, '--pool-v4', poolV4, ...v6);
    }
  }

  /** Gives every node a join token and starts its agent; resolves when all are enrolled. */
  async startAgents(): Promise<void> {
    await forEach(this.nodes, 2, async (node) => {
      const directory = join(this.lab.scratch, node.name);
      mkdirSync(directory, { recursive: true });
      const token = join(directory, 'token');
      writeFileSync(token, await this.admin('token', 'create', '--node', node.name), { mode: 0o600 });
      const place = ['--state-dir', join(directory, 'state'), '--run-dir', join(directory, 'run')];
      const prefix = this.lab.owns(`${this.lab.name}-${node.name}-`);
      const advertise = node.advertise === undefined ? [] : ['--advertise', node.advertise];
      const options = [
        ...place,
        '--token-file',
        token,
        '--name',
        node.name,
        '--netns-prefix',
        prefix,
        ...advertise,
      ];
      const daemon = node.host.start(vl3('agent', 'run', ...options));
      this.daemons.push(daemon);
      await daemon.printed(/"agent is up"/, 20_000);
    });
    const known: unknown = JSON.parse(await this.admin('node', 'list', '-o', 'json'));
    if (!Array.isArray(known) || known.length !== this.nodes.length)
      throw new Error(`the registry does not know every node: ${JSON.stringify(known)}`);
  }

  async startPods(): Promise<void> {
    const pods = await forEach(PODS, 3, async ([name, nodeName, networks]) => {
      const node = this.nodes.find((one) => one.name === nodeName);
      if (!node) throw new Error(`no node ${nodeName}`);
      // Green pods are namespaces somebody made and attaches; the others are commands run on their networks.
      const host =
        networks === GREEN ? await this.#attachPod(name, node) : await this.#runPod(name, node, networks);
      const pod: Pod = { name, node, networks, host, v4: {}, v6: {} };
      for (const network of networks) {
        pod.v4[network] = await address(host, network, '-4');
        if (network === 'red') pod.v6[network] = await address(host, network, '-6');
      }
      return pod;
    });
    this.pods.push(...pods);
  }

  /** The pods on a network. */
  on(network: NetworkName): Pod[] {
    return this.pods.filter((pod) => pod.networks.includes(network));
  }

  pod(name: string): Pod {
    const pod = this.pods.find((one) => one.name === name);
    if (!pod) throw new Error(`no pod ${name}`);
    return pod;
  }

  get adminFile(): string {
    return join(this.#registryState, 'admin.json');
  }

  /** An admin's command; they sit beside the registry. */
  async admin(...args: string[]): Promise<string> {
    return await this.registry.run(vl3(...args, '--admin', this.adminFile));
  }

  async #runPod(name: string, node: Node, networks: readonly NetworkName[]): Promise<Host> {
    const pidFile = join(this.lab.scratch, `${name}.pid`);
    const wait = [
      'sh',
      '-c',
      `echo $$ >${pidFile}.new && mv ${pidFile}.new ${pidFile} && exec sleep infinity`,
    ];
    const on = networks.flatMap((network) => ['--network', network]);
    const daemon = node.host.start(vl3('run', ...on, '--name', name, '--socket', node.socket, '--', ...wait));
    this.daemons.push(daemon);
    const pid = await until(
      async () => {
        if (existsSync(pidFile)) return readFileSync(pidFile, 'utf8').trim();
        if (!daemon.running) throw new Error(`vl3 run of ${name} ended:\n${daemon.output()}`);
        return undefined;
      },
      30_000,
      () => `vl3 run does not start ${name}:\n${daemon.output()}`,
    );
    return this.lab.adopt(name, `/proc/${pid}/ns/net`);
  }

  async #attachPod(name: string, node: Node): Promise<Host> {
    const host = await this.lab.host(name);
    const options = ['--netns', host.netns, '--name', name, '--socket', node.socket];
    await node.host.run(vl3('attach', '--network', 'green', ...options));
    return host;
  }

  get #registryState(): string {
    return join(this.lab.scratch, 'registry');
  }
}

/** The address of the interface named after the network. */
async function address(host: Host, network: NetworkName, family: '-4' | '-6'): Promise<string> {
  const text = await host.run(['ip', '-o', family, 'address', 'show', 'dev', network, 'scope', 'global']);
  const found = / inet6? ([^ /]+)/.exec(text)?.[1];
  if (found === undefined) throw new Error(`${host.name} has no ${family} address on ${network}`);
  return found;
}
