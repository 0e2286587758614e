// Real namespaces for the tests of src/netns: a router with a TUN of its own making and pods, under names nobody else
// has, all removed by dispose() also when a test fails.

import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { formatAddress, parseAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { ensureRouter, ensureRouterNamespace, type RouterSpec } from '../../../src/netns/router.ts';
import { Tools } from '../../../src/netns/tool.ts';
import type { AttachmentSpec } from '../../../src/netns/veth.ts';

export const TUN = 'vl3';
export const MTU = 1400;

/** Routes of the kernel's own: of these one follows the TUN's carrier, one stays away once lo was down. */
const PASSING = new RegExp(`^(multicast ff00::/8 dev ${TUN} |unicast ::1 dev lo )`);

const SETTINGS = ['/proc/sys/net/ipv4/conf', '/proc/sys/net/ipv6/conf'];

export class Fixture {
  readonly id = `vl3t-${randomBytes(3).toString('hex')}`;
  readonly router = `${this.id}-r`;
  readonly tools = new Tools();
  readonly #namespaces: string[] = [];

  /** The node's number: its prefixes are 10.60.NODE.0/24 and fd00:60::NODE:0/112. */
  readonly node: number;

  constructor(node = 1) {
    this.node = node;
  }

  get routerSpec(): RouterSpec {
    const { node } = this;
    return {
      router: this.router,
      tun: TUN,
      mtu: MTU,
      gateways: [`10.60.${node}.1`, `fd00:60::${node}:1`].map(parseAddress),
      pools: ['10.60.0.0/16', 'fd00:60::/48'].map(parsePrefix),
      prefixes: [`10.60.${node}.0/24`, `fd00:60::${node}:0/112`].map(parsePrefix),
    };
  }

  async makeRouter(): Promise<void> {
    await this.makeBareRouter();
    await ensureRouter(this.tools, this.routerSpec);
  }

  /** The namespace with its TUN and nothing else. */
  async makeBareRouter(): Promise<void> {
    this.#namespaces.push(this.router);
    await ensureRouterNamespace(this.tools, this.router);
    this.inside(this.router, 'ip', 'tuntap', 'add', 'name', TUN, 'mode', 'tun', 'multi_queue', 'vnet_hdr');
  }

  makePod(name: string): string {
    const full = `${this.id}-${name}`;
    this.#namespaces.push(full);
    execFileSync('ip', ['netns', 'add', full]);
    this.inside(full, 'ip', 'link', 'set', 'dev', 'lo', 'up');
    return full;
  }

  /** The attachment with the n-th address, n from 2 on. */
  attachment(pod: string, n: number, more: Partial<AttachmentSpec> = {}): AttachmentSpec {
    return {
      attachmentId: `${pod}-red`,
      router: this.router,
      podNetns: `/run/netns/${pod}`,
      podInterface: 'red',
      addresses: [`10.60.${this.node}.${n}`, `fd00:60::${this.node}:${n.toString(16)}`].map(parseAddress),
      gateways: this.routerSpec.gateways,
      pools: this.routerSpec.pools,
      mtu: MTU,
      ...more,
    };
  }

  /** Standard output of a command in a namespace. Throws when it fails. */
  inside(namespace: string, ...command: string[]): string {
    return execFileSync('nsenter', [`--net=/run/netns/${namespace}`, ...command], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** Whether a command in a namespace succeeds. */
  succeeds(namespace: string, ...command: string[]): boolean {
    return (
      spawnSync('nsenter', [`--net=/run/netns/${namespace}`, ...command], { stdio: 'ignore' }).status === 0
    );
  }

  pings(namespace: string, address: string, ...more: string[]): boolean {
    return this.succeeds(namespace, 'ping', '-n', '-q', '-c', '1', '-W', '0.5', ...more, address);
  }

  /** Whether a pod reaches the gateways of both versions. */
  pingsGateway(pod: string): boolean {
    return this.routerSpec.gateways.every((gateway) => this.pings(pod, formatAddress(gateway)));
  }

  /** All that the kernel holds for a namespace, as text that two equal states share. */
  dump(namespace: string): string {
    return [
      this.inside(namespace, 'ip', '-details', 'address', 'show'),
      this.inside(namespace, 'ip', '-details', 'route', 'show', 'table', 'all'),
      this.inside(namespace, 'ip', 'neighbour', 'show', 'nud', 'permanent'),
      this.inside(namespace, 'nft', '-s', 'list', 'ruleset'),
      spawnSync('nsenter', [`--net=/run/netns/${namespace}`, 'grep', '-rs', '', ...SETTINGS], {
        encoding: 'utf8',
        maxBuffer: 1 << 26,
      }).stdout,
    ].join('\n');
  }

  /** The dump without the numbers that the kernel gives out anew each time, its lines sorted. */
  shape(namespace: string): string {
    return this.dump(namespace)
      .replaceAll(/^\d+: /gm, '')
      .replaceAll(/@if\d+/g, '')
      .split('\n')
      .filter((line) => !PASSING.test(line))
      .toSorted()
      .join('\n');
  }

  [Symbol.dispose](): void {
    for (const name of this.#namespaces.toReversed())
      spawnSync('ip', ['netns', 'delete', name], { stdio: 'ignore' });
  }
}
