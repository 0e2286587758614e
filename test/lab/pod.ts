// A pod under test: a bare network namespace, as a container runtime makes one, and what it got on its networks.

import { isIPv6 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import type { Host } from './host.ts';
import type { Lab } from './lab.ts';
import type { Node } from './node.ts';
import { ping } from './ping.ts';

export class Pod {
  readonly name: string;
  readonly node: Node;
  readonly host: Host;
  readonly #attachments = new Map<string, LocalAttachment>();

  private constructor(name: string, node: Node, host: Host) {
    this.name = name;
    this.node = node;
    this.host = host;
  }

  /** Makes the namespace with nothing but a loopback in it. */
  static async create(lab: Lab, name: string, node: Node): Promise<Pod> {
    const netns = `${lab.name}-pod-${name}`;
    lab.ledger.record({ kind: 'netns', name: netns });
    await lab.run(['ip', 'netns', 'add', netns]);
    const host = lab.adopt(name, `/run/netns/${netns}`);
    await host.ip('link set lo up');
    return new Pod(name, node, host);
  }

  /** Whether `address` answers a ping sooner or later. */
  async reaches(address: string): Promise<boolean> {
    return await reaches(this.host, address);
  }

  attached(attachment: LocalAttachment): void {
    this.#attachments.set(attachment.network, attachment);
  }

  /** What it has on a network. */
  on(network: string): LocalAttachment {
    const attachment = this.#attachments.get(network);
    if (attachment === undefined) throw new Error(`${this.name} is not on ${network}`);
    return attachment;
  }

  v4(network: string): string {
    return this.#address(network, false);
  }

  v6(network: string): string {
    return this.#address(network, true);
  }

  #address(network: string, v6: boolean): string {
    const address = this.on(network).addresses.find((one) => isIPv6(one) === v6);
    if (address === undefined) throw new Error(`${this.name} has no IPv${v6 ? 6 : 4} address on ${network}`);
    return address;
  }
}

const PATIENCE_MS = 40_000;

/** Whether `address` answers a ping from `host` sooner or later: a handshake may have to come first. */
export async function reaches(host: Host, address: string): Promise<boolean> {
  const deadline = performance.now() + PATIENCE_MS;
  // A ping gives up when it is told that the way is not there yet.
  while (performance.now() < deadline) {
    const { received } = await ping(host, address, { patience: 10 });
    if (received > 0) return true;
    await sleep(100);
  }
  return false;
}
