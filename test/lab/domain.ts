// A domain of vl3 on the lab: a registry on the public internet, nodes with agents, pods on networks. Driven by the
// command line alone, as people drive it, though most commands share one process.

import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { CommandLine } from './command-line.ts';
import type { Daemon } from './daemon.ts';
import { failure, type Host, type Result } from './host.ts';
import { type Cloud, Internet, type Site } from './internet.ts';
import { Lab } from './lab.ts';
import { Node, type NodeOptions } from './node.ts';
import { type Program, vl3 } from './program.ts';

/** How long something may take that ought to happen at once: the machine may be busy. */
export const SOON = { timeout: 40_000, interval: 100 };

const REGISTRY_PORT = 7443;
const CA_PORT = 7444;

export class Domain implements AsyncDisposable {
  readonly lab: Lab;
  readonly internet: Internet;
  /** A cloud whose nodes hold public addresses, v4 and v6. The registry is in it. */
  readonly cloud: Cloud;
  readonly nodes: Node[] = [];
  readonly trustDomain: string;
  /** The version its registry is started from. */
  program: Program = vl3;
  readonly #site: Site;
  /** Of what is its alone on the lab. */
  readonly #name: string;
  #registry: Daemon | undefined;
  /** Where the CA is, when it is apart. */
  #caSite: Site | undefined;
  #ca: Daemon | undefined;
  #commands: Promise<CommandLine | undefined> | undefined;
  #lastHost: number;
  #options: readonly string[] = [];

  private constructor(
    place: Pick<Domain, 'lab' | 'internet' | 'cloud'>,
    site: Site,
    {
      trustDomain,
      name,
      lastHost,
    }: { readonly trustDomain: string; readonly name: string; readonly lastHost: number },
  ) {
    this.lab = place.lab;
    this.internet = place.internet;
    this.cloud = place.cloud;
    this.trustDomain = trustDomain;
    this.#site = site;
    this.#name = name;
    this.#lastHost = lastHost;
  }

  /** Builds the internet and starts the registry, of the present version or another. */
  static async start(version?: (lab: Lab) => Program): Promise<Domain> {
    return await Domain.#build(async (domain, lab) => {
      if (version !== undefined) domain.program = version(lab);
    });
  }

  /** As `start`, with the CA on a host of its own. `options`: of both programs. */
  static async startApart(...options: string[]): Promise<Domain> {
    return await Domain.#build(async (domain) => {
      domain.#options = options;
      await domain.#makeCa(await domain.cloud.node('ca', 6));
    });
  }

  /**
   * Puts the CA of its registry on a host of its own, as an admin does: nodes have enrolled by then. `options`: of both
   * programs.
   */
  async putApart(...options: string[]): Promise<void> {
    await this.stopRegistry();
    this.#options = options;
    mkdirSync(this.caState, { mode: 0o700 });
    renameSync(join(this.registryState, 'ca'), join(this.caState, 'ca'));
    await this.#makeCa(await this.cloud.node('ca', 6));
    await this.startRegistry();
  }

  static async #build(prepare: (domain: Domain, lab: Lab) => Promise<void>): Promise<Domain> {
    const lab = Lab.create();
    try {
      const internet = await Internet.create(lab);
      const cloud = await internet.publicCloud('198.51.100', '2001:db8:1::');
      const site = await cloud.node('registry', 5);
      const own = { trustDomain: 'test.example', name: 'registry', lastHost: 10 };
      const domain = new Domain({ lab, internet, cloud }, site, own);
      await prepare(domain, lab);
      await domain.startRegistry();
      return domain;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /**
   * Another domain in the same cloud, with a CA, a registry and nodes of its own: call them otherwise than this one's. It goes with
   * this one.
   */
  async partner(trustDomain: string): Promise<Domain> {
    const name = `${trustDomain.split('.')[0]}-registry`;
    const site = await this.cloud.node(name, 105);
    const partner = new Domain(this, site, { trustDomain, name, lastHost: 110 });
    await partner.startRegistry();
    return partner;
  }

  /** Lets the partner's nodes ask for networks of this domain. `options`: of the invitation. */
  async federate(partner: Domain, ...options: string[]): Promise<void> {
    const invited = await this.admin('federation', 'invite', partner.trustDomain, ...options);
    const invitation = /vl3f\d\.\S+/.exec(invited)?.[0] ?? '';
    await partner.admin('federation', 'accept', invitation);
  }

  /** The host the registry runs on; admins sit there too. */
  get host(): Host {
    return this.#site.host;
  }

  get registryAddress(): string {
    return `${this.#site.address}:${REGISTRY_PORT}`;
  }

  get registryState(): string {
    return join(this.lab.scratch, this.#name);
  }

  get adminFile(): string {
    return join(this.#caSite === undefined ? this.registryState : this.caState, 'admin.json');
  }

  /** Of a CA apart. */
  get caState(): string {
    return join(this.lab.scratch, 'ca');
  }

  async #makeCa(site: Site): Promise<void> {
    this.#caSite = site;
    const { registryState } = this;
    await this.#runCa('init');
    mkdirSync(registryState, { mode: 0o700, recursive: true });
    await this.#runCa('registry', '--file', join(registryState, 'registry.json'), ...this.#signer);
    await this.makeAdmin();
    await this.startCa();
  }

  /** Makes the admin's credential, where the CA is that is apart: by the one that signs now. */
  async makeAdmin(): Promise<void> {
    const registry = ['--registry', this.registryAddress];
    await this.#runCa('admin', 'admin', '--file', this.adminFile, ...registry, ...this.#signer);
  }

  get #signer(): string[] {
    return ['--signer', `${this.#caSite?.address}:${CA_PORT}`];
  }

  async #runCa(...args: string[]): Promise<void> {
    const place = ['--trust-domain', this.trustDomain, '--state-dir', this.caState];
    await this.#caSite?.host.run(vl3('ca', ...args, ...place));
  }

  /** Starts the CA that is apart. */
  async startCa(): Promise<void> {
    if (this.#caSite === undefined) throw new Error('the CA is not apart');
    const { address, host } = this.#caSite;
    const place = ['--state-dir', this.caState, '--listen', `${address}:${CA_PORT}`];
    const command = vl3('ca', 'run', '--trust-domain', this.trustDomain, ...place, ...this.#options);
    this.#ca = host.start(command);
    await this.#ca.printed(/"CA is up"/, SOON.timeout);
  }

  async stopCa(): Promise<void> {
    await this.#ca?.stop();
  }

  /** Starts the registry on the state it has; resolves once it is up. */
  async startRegistry(...options: string[]): Promise<void> {
    const signer = this.#caSite && ['--signer', join(this.registryState, 'registry.json')];
    const place = ['--state-dir', this.registryState, '--listen', this.registryAddress, ...(signer ?? [])];
    place.push(...this.#options);
    const command = this.program('registry', 'run', '--trust-domain', this.trustDomain, ...place, ...options);
    this.#registry = this.host.start(command);
    await this.#registry.printed(/"registry is up"/, SOON.timeout);
  }

  get registryPid(): number {
    if (this.#registry === undefined) throw new Error('the registry was never started');
    return this.#registry.pid;
  }

  /** Ends the registry. */
  async stopRegistry(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#registry?.stop(signal);
  }

  /** What the registry logged since it was started last: one object a line. */
  registryLog(): Record<string, unknown>[] {
    return parseLog(this.#registry?.output() ?? '');
  }

  /** Runs an admin's command, whatever its exit code. */
  async tryAdmin(args: readonly string[]): Promise<Result> {
    return await this.command(...args, '--admin', this.adminFile);
  }

  /** Runs a command that only asks somebody else and answers, on the registry's host, whatever its exit code. */
  async command(...args: string[]): Promise<Result> {
    this.#commands ??= CommandLine.start(this.host);
    const commands = await this.#commands;
    return (await commands?.run(args)) ?? (await this.host.tryRun(vl3(...args)));
  }

  /** Runs an admin's command and returns what it printed. */
  async admin(...args: string[]): Promise<string> {
    const result = await this.tryAdmin(args);
    if (result.code !== 0) throw new Error(failure('admin', args, result));
    return result.stdout;
  }

  /** Runs an admin's command with `-o json` and returns what it printed, parsed. */
  async adminJson<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.admin(...args, '-o', 'json'));
  }

  async createNetwork(name: string, ...options: string[]): Promise<void> {
    await this.admin('network', 'create', name, ...options);
  }

  async token(...options: string[]): Promise<string> {
    return (await this.admin('token', 'create', ...options)).trim();
  }

  /** A node of this domain; its agent is not started. By default it is in the public cloud. */
  async addNode(name: string, options: NodeOptions & { site?: Site } = {}): Promise<Node> {
    // Counted before anything is awaited: nodes are added side by side.
    this.#lastHost += 1;
    const site = options.site ?? (await this.cloud.node(name, this.#lastHost));
    const node = new Node(this, name, site, options);
    this.nodes.push(node);
    return node;
  }

  /** A node with its agent enrolled and up. */
  async startNode(name: string, options: NodeOptions & { site?: Site } = {}): Promise<Node> {
    const node = await this.addNode(name, options);
    await node.enrol();
    return node;
  }

  /** Resolves once all nodes are peers of each other on a network. */
  async meet(network: string, nodes: readonly Node[] = this.nodes): Promise<void> {
    await Promise.all(nodes.map((node) => node.meets(network, nodes)));
  }

  /** Ends everything and removes it. */
  async close(): Promise<void> {
    await this.lab.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The lines of a log that are JSON; a stack trace on stderr is not. */
export function parseLog(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line));
}
