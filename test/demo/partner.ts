// Another company: a domain with a registry, a CA, a node and address plans of its own, and what it takes for exactly one of its
// workloads to reach red: an invitation, a rule, and their end.
//
//   delta  public addresses          the partner's registry 198.18.7.5, its node d1 198.18.7.11

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Daemon } from '../lab/daemon.ts';
import type { Host, Result } from '../lab/host.ts';
import { ping } from '../lab/ping.ts';
import { vl3 } from '../lab/program.ts';
import { holds, until } from './report.ts';
import type { Pod, World } from './world.ts';

const DOMAIN = 'partner.example';
/** As nodes of the partner call it. */
const RED = 'red@demo.example';
const REGISTRY = '198.18.7.5:7443';
const PATIENCE_MS = 30_000;

export class Partner {
  readonly #world: World;
  readonly #registry: Host;
  readonly #node: Host;
  readonly #ledger: Host;
  readonly #web: Host;
  #address = '';

  private constructor(world: World, hosts: Record<'registry' | 'node' | 'ledger' | 'web', Host>) {
    this.#world = world;
    this.#registry = hosts.registry;
    this.#node = hosts.node;
    this.#ledger = hosts.ledger;
    this.#web = hosts.web;
  }

  /** Its registry and its agent are up. */
  static async start(world: World): Promise<Partner> {
    const { internet, lab } = world;
    const delta = await internet.publicCloud('198.18.7');
    const { host: registry } = await delta.node('partner-registry', 5);
    const { host: node } = await delta.node('d1', 11);
    const [ledger, web] = [await lab.host('ledger'), await lab.host('web')];
    const partner = new Partner(world, { registry, node, ledger, web });
    const place = ['--state-dir', partner.#place('registry'), '--listen', REGISTRY, '--advertise', REGISTRY];
    await partner.#up(registry, ['registry', 'run', '--trust-domain', DOMAIN, ...place], /"registry is up"/);
    await partner.admin('network', 'create', 'red', '--pool-v4', '10.60.0.0/16');
    const token = join(partner.#place('d1'), 'token');
    mkdirSync(partner.#place('d1'), { recursive: true });
    writeFileSync(token, await partner.admin('token', 'create', '--node', 'd1'), { mode: 0o600 });
    const own = [
      '--state-dir',
      join(partner.#place('d1'), 'state'),
      '--run-dir',
      join(partner.#place('d1'), 'run'),
    ];
    const prefix = lab.owns(`${lab.name}-d1-`);
    const options = [...own, '--token-file', token, '--name', 'd1', '--netns-prefix', prefix];
    await partner.#up(node, ['agent', 'run', ...options], /"agent is up"/);
    return partner;
  }

  async #up(host: Host, command: readonly string[], sign: RegExp): Promise<Daemon> {
    const daemon = host.start(vl3(...command));
    this.#world.daemons.push(daemon);
    await daemon.printed(sign, PATIENCE_MS);
    return daemon;
  }

  /** The command of the partner's admin. */
  async admin(...args: string[]): Promise<string> {
    return await this.#registry.run(vl3(...args, '--admin', join(this.#place('registry'), 'admin.json')));
  }

  #place(name: string): string {
    return join(this.#world.lab.scratch, `partner-${name}`);
  }

  get #socket(): string {
    return join(this.#place('d1'), 'run', 'agent.sock');
  }

  /** One line from one admin to the other. */
  async federate(): Promise<string> {
    const printed = await this.#world.admin(
      'federation',
      'invite',
      DOMAIN,
      '--network',
      'red',
      '--expires',
      '1h',
    );
    const [invitation = ''] = /vl3f1\.\S+/.exec(printed) ?? [];
    const accepted = await this.admin('federation', 'accept', invitation);
    const prints = (text: string): string[] => (text.match(/SHA-256 [0-9a-f]{64}/g) ?? []).sort();
    const listed = await this.#world.admin('federation', 'list');
    holds(prints(accepted).length === 2, `the partner's admin was shown no fingerprints: ${accepted}`);
    holds(prints(accepted).join() === prints(listed).join(), 'the admins see other fingerprints');
    await this.#until('the partner’s node does not know of the federation', async () => {
      const { stdout } = await this.#node.tryRun(vl3('status', '--no-probe', '--socket', this.#socket));
      return stdout.includes('partner demo.example');
    });
    return `an invitation of ${invitation.length} characters; both see the same two CAs`;
  }

  /** Federated is not admitted. */
  async nothingYet(): Promise<string> {
    const { code, stderr } = await this.#attach(this.#ledger, 'ledger', 'app=ledger');
    holds(code !== 0, 'it was attached');
    holds(stderr.includes('no admission rule of network "red"'), `it is told otherwise: ${stderr}`);
    return 'it is told that no rule could admit it';
  }

  async admitted(red: Pod): Promise<string> {
    const workload = 'namespace == "billing" && labels.app == "ledger"';
    await this.#world.admin(
      'admission',
      'create',
      '--network',
      'red',
      '--from',
      DOMAIN,
      '--workload',
      workload,
    );
    await this.#until('it is not attached', async () => {
      const { code } = await this.#attach(this.#ledger, 'ledger', 'app=ledger');
      return code === 0;
    });
    const shown = await this.#ledger.run([
      'ip',
      '-o',
      '-4',
      'address',
      'show',
      'dev',
      'red',
      'scope',
      'global',
    ]);
    this.#address = / inet ([^ /]+)/.exec(shown)?.[1] ?? '';
    await this.#until('nothing comes back', async () => (await this.#pings(this.#ledger, red)) > 0);
    const back = await ping(red.host, this.#address, { wait: 5 });
    holds(back.received === 1, `${red.name} does not reach it`);
    return `ledger has ${this.#address}; it and ${red.name} reach each other`;
  }

  /** Another workload of the same node, and the admitted one beyond red. */
  async andNothingElse(green: Pod): Promise<string> {
    const { stderr } = await this.#attach(this.#web, 'web', 'app=web');
    holds(/no admission rule of network "red" admits "web"/.test(stderr), `web is told otherwise: ${stderr}`);
    const gateway = await this.#gateway();
    await this.#ledger.ip(`route add ${green.v4.green} via ${gateway} dev red`);
    const { received } = await ping(this.#ledger, green.v4.green ?? '', { count: 2, wait: 1 });
    holds(received === 0, `it reached ${green.name}, which is on green`);
    return 'its neighbour web is refused, and green is out of reach';
  }

  /** The partner has a network of that name and of those addresses itself. */
  async overlap(): Promise<string> {
    const own = await this.#world.lab.host('own');
    const options = ['--name', 'own', '--socket', this.#socket];
    await this.#node.run(vl3('attach', '--network', 'red', '--netns', own.netns, ...options));
    const both = [
      '--network',
      'red',
      '--interface',
      'own',
      '--netns',
      this.#ledger.netns,
      '--name',
      'ledger',
    ];
    const { stderr } = await this.#node.tryRun(vl3('attach', ...both, '--socket', this.#socket));
    holds(stderr.includes('overlaps'), `both on one workload was not refused: ${stderr}`);
    return 'side by side on d1, refused on one workload';
  }

  async revoked(red: Pod): Promise<string> {
    const began = performance.now();
    await this.#world.admin('federation', 'revoke', DOMAIN);
    await this.#until('it still reaches red', async () => (await this.#pings(this.#ledger, red)) === 0);
    const seconds = (performance.now() - began) / 1000;
    await this.#until('its interface is still there', async () => {
      const { code } = await this.#ledger.tryRun(['ip', 'link', 'show', 'red']);
      return code !== 0;
    });
    return `cut off ${seconds.toFixed(1)} s after the command was given, on both sides`;
  }

  async #attach(pod: Host, name: string, label: string): Promise<Result> {
    const said = ['--name', name, '--namespace', 'billing', '--label', label, '--wait', '3s'];
    const where = ['--network', RED, '--netns', pod.netns, '--socket', this.#socket];
    return await this.#node.tryRun(vl3('attach', ...where, ...said));
  }

  async #pings(from: Host, to: Pod): Promise<number> {
    return (await ping(from, to.v4.red ?? '', { wait: 1 })).received;
  }

  async #gateway(): Promise<string> {
    const routes = await this.#ledger.run(['ip', '-4', 'route', 'show', 'dev', 'red']);
    return /via ([\d.]+)/.exec(routes)?.[1] ?? '';
  }

  async #until(otherwise: string, look: () => Promise<boolean>): Promise<void> {
    await until(
      async () => ((await look()) ? true : undefined),
      PATIENCE_MS,
      () => otherwise,
    );
  }
}
