// A node of a domain under test: a host and the agent on it, which can be started, stopped and killed.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { AgentStatus, LocalAttachment, PeerStatus } from '../../src/agent/local-messages.ts';
import { routerName } from '../../src/netns/names.ts';
import type { Daemon } from './daemon.ts';
import { type Domain, parseLog, SOON } from './domain.ts';
import { eventually } from './eventually.ts';
import { failure, type Host, type Result } from './host.ts';
import type { Site } from './internet.ts';
import { Pod } from './pod.ts';
import { type Program, vl3 } from './program.ts';

/** Commands that ask the agent, and are over. */
const ASKING = ['attach', 'detach', 'status'];

export interface NodeOptions {
  /** Networks it joins at once, by `--network`. */
  networks?: readonly string[];
  /** More options for `vl3 agent run`, at every start. */
  options?: readonly string[];
  /** More environment for its agent. */
  env?: Record<string, string>;
  /** The version its agent is started from, when not the present one. */
  program?: Program;
}

export class Node {
  readonly name: string;
  readonly domain: Domain;
  readonly host: Host;
  readonly site: Site;
  readonly stateDir: string;
  readonly runDir: string;
  readonly netnsPrefix: string;
  readonly #options: readonly string[];
  readonly #env: Record<string, string>;
  /** The version its agent is started from. */
  program: Program;
  #agent: Daemon | undefined;

  constructor(
    domain: Domain,
    name: string,
    site: Site,
    { networks = [], options = [], env = {}, program = vl3 }: NodeOptions,
  ) {
    const directory = join(domain.lab.scratch, name);
    mkdirSync(directory, { recursive: true });
    this.name = name;
    this.domain = domain;
    this.host = site.host;
    this.site = site;
    this.stateDir = join(directory, 'state');
    this.runDir = join(directory, 'run');
    this.netnsPrefix = domain.lab.owns(`${domain.lab.name}-${name}-`);
    this.#options = [...networks.flatMap((network) => ['--network', network]), ...options];
    this.#env = env;
    this.program = program;
  }

  get socket(): string {
    return join(this.runDir, 'agent.sock');
  }

  get place(): string[] {
    return ['--state-dir', this.stateDir, '--run-dir', this.runDir, '--netns-prefix', this.netnsPrefix];
  }

  get agent(): Daemon {
    if (this.#agent === undefined) throw new Error(`the agent of ${this.name} was never started`);
    return this.#agent;
  }

  /** The router namespace of a network on this node. */
  router(network: string): Host {
    return this.domain.lab.adopt(
      `${this.name}-${network.replace('@', '-')}`,
      join('/run/netns', routerName(this.netnsPrefix, network)),
    );
  }

  /** Gives it a join token made for it, and starts its agent. */
  async enrol(): Promise<void> {
    const token = await this.domain.token('--node', this.name);
    await this.start('--name', this.name, '--token', token);
  }

  /** Starts the agent; resolves once it is up. */
  async start(...options: string[]): Promise<void> {
    await this.launch(...options).printed(/"agent is up"/, SOON.timeout);
  }

  /** Starts the agent and does not wait. */
  launch(...options: string[]): Daemon {
    const command = this.program('agent', 'run', ...this.place, ...this.#options, ...options);
    this.#agent = this.host.start(command, { env: this.#env });
    return this.#agent;
  }

  /** Ends the agent and removes all it made; what was removed. */
  async clean(): Promise<string[]> {
    await this.agent.stop();
    const text = await this.host.run(vl3('agent', 'clean', ...this.place, '-o', 'json'));
    return JSON.parse(text).removed;
  }

  /** What the agent logged since it was started last. */
  log(): Record<string, unknown>[] {
    return parseLog(this.agent.output());
  }

  /** Runs a command against this node's agent, whatever its exit code. */
  async tryVl3(...args: string[]): Promise<Result> {
    const [command = '', ...rest] = args;
    // What goes through the agent's socket alone may come from any host.
    if (this.program === vl3 && ASKING.includes(command))
      return await this.domain.command(command, '--socket', this.socket, ...rest);
    return await this.host.tryRun(this.program(command, '--socket', this.socket, ...rest));
  }

  /** Runs a command against this node's agent and returns what it printed. */
  async vl3(...args: string[]): Promise<string> {
    const result = await this.tryVl3(...args);
    if (result.code !== 0) throw new Error(`${failure(this.name, args, result)}\n${this.agent.output()}`);
    return result.stdout;
  }

  /** What `vl3 status -o json` prints, asked over the socket itself: it is asked for often, and a process costs. */
  async status(): Promise<AgentStatus> {
    // What another version answers, it reads itself. It says by its code that something is wrong.
    if (this.program !== vl3) return JSON.parse((await this.tryVl3('status', '-o', 'json')).stdout);
    return await new LocalClient(this.socket).status({ probe: true });
  }

  /** Puts a pod on a network. */
  async attach(pod: Pod, network: string, ...options: string[]): Promise<LocalAttachment> {
    const [attachment] = await this.#attach(pod, network, options);
    if (attachment === undefined) throw new Error(`${this.name} attached nothing`);
    pod.attached(attachment);
    return attachment;
  }

  /** A pod on this node: a namespace somebody made, attached to networks. */
  async pod(name: string, ...networks: string[]): Promise<Pod> {
    const pod = await Pod.create(this.domain.lab, name, this);
    for (const network of networks) await this.attach(pod, network);
    return pod;
  }

  /** Its peer on a network; undefined while it has none of that name. */
  async peer(network: string, node: Node): Promise<PeerStatus | undefined> {
    const { networks } = await this.status();
    return networks.find(({ name }) => name === network)?.peers.find((peer) => peer.node === node.name);
  }

  /** Resolves once every other node is a peer of this one on `network`. */
  async meets(network: string, others: readonly Node[]): Promise<void> {
    await eventually(async () => {
      const { networks } = await this.status();
      const peers = networks.find(({ name }) => name === network)?.peers.map(({ node }) => node) ?? [];
      const missing = others.filter((other) => other !== this && !peers.includes(other.name));
      if (missing.length > 0)
        throw new Error(
          [
            `${this.name} does not know ${missing.map(({ name }) => name).join(', ')}`,
            ...[this, ...missing].map((one) => one.agent.output()),
          ].join('\n'),
        );
    }, SOON);
  }

  async #attach(pod: Pod, network: string, options: readonly string[]): Promise<LocalAttachment[]> {
    const what = ['--network', network, '--netns', pod.host.netns, '--name', pod.name];
    return JSON.parse(await this.vl3('attach', ...what, '-o', 'json', ...options));
  }
}
