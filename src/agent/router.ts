// One network's router namespace on this node, and the pods' interfaces that end in it: brought to what the network's
// document and the attachments say. How the kernel is led there is src/netns.

import type { Logger } from 'pino';
import type { MadeInterface } from '../../native-free/cni/result.ts';
import { type Address, type Prefix, parseAddress } from '../../native-free/ipam/prefix.ts';
import type { AttachmentDocument } from '../../native-free/reconcile/documents.ts';
import type { SavedNetwork } from '../../native-free/reconcile/saved-network.ts';
import { type NamespaceIdentity, namedNamespace, sameNamespace } from '../netns/namespace.ts';
import { refuseOverlap, type Taken } from '../netns/pod-routes.ts';
import {
  ensureRouter,
  ensureRouterNamespace,
  readRouter,
  removeRouter,
  setUnreachable,
} from '../netns/router.ts';
import type { Tools } from '../netns/tool.ts';
import {
  type AttachmentSpec,
  attachmentFaults,
  ensureAttachment,
  podInterface,
  removeAttachment,
} from '../netns/veth.ts';
import type { Addresses } from './addresses.ts';
import { Queues } from './queues.ts';

/** The TUN's name in each router namespace. */
export const TUN_NAME = 'vl3';

export interface RouterDeps {
  readonly tools: Tools;
  readonly saved: SavedNetwork;
  readonly addresses: Addresses;
  readonly mtu: () => number;
  /** In this node's prefixes, but behind the TUN. */
  readonly stockPeers: () => readonly Address[];
  /** What peers hold that are not there. */
  readonly withdrawn: () => readonly Prefix[];
  readonly logger: Logger;
}

export class Router {
  /** Of its namespace. */
  readonly name: string;
  readonly #deps: RouterDeps;
  #problem = '';
  #identity: NamespaceIdentity | undefined;
  #tunIsLost = false;
  readonly #turns = new Queues();

  constructor(name: string, deps: RouterDeps) {
    this.name = name;
    this.#deps = deps;
  }

  /** What is wrong with it, in a sentence; empty: nothing. */
  get problem(): string {
    return this.#problem;
  }

  /** Makes the namespace unless it is there. The TUN goes in next, then `setUp`. */
  async make(): Promise<void> {
    await ensureRouterNamespace(this.#deps.tools, this.name);
    this.#identity = await namedNamespace(this.name);
  }

  /** False: the TUN or the namespace was taken away under us, and the network has to be opened anew. */
  async isIntact(): Promise<boolean> {
    if (this.#tunIsLost || this.#identity === undefined) return false;
    const found = await namedNamespace(this.name);
    if (found !== undefined && sameNamespace(found, this.#identity)) return true;
    this.#problem = `the network namespace ${this.name} was removed: it is made anew`;
    this.#deps.logger.error({ network: this.#deps.saved.name, router: this.name }, 'router namespace lost');
    return false;
  }

  /** One after the other: what was to be must not come after what is to be by now. */
  setUp(): Promise<void> {
    return this.#turns.run('', () => this.#setUp());
  }

  async #setUp(): Promise<void> {
    const { tools, saved, addresses, mtu } = this.#deps;
    await ensureRouter(tools, {
      router: this.name,
      tun: TUN_NAME,
      mtu: mtu(),
      gateways: addresses.gateways,
      pools: saved.pools,
      stockPeers: this.#deps.stockPeers(),
      prefixes: this.#unreachable,
    });
    this.#problem = '';
  }

  /** Says again which prefixes are unreachable. */
  async setUnreachable(): Promise<void> {
    await setUnreachable(this.#deps.tools, this.name, this.#unreachable);
  }

  /** An address of this node's that no pod has, and those of peers that are not there: not sent into the tunnel. */
  get #unreachable(): Prefix[] {
    return [...this.#deps.saved.prefixes, ...this.#deps.withdrawn()];
  }

  /** The TUN was taken away under us. */
  tunLost(): void {
    this.#tunIsLost = true;
    this.#problem = `the TUN in ${this.name} was removed: it is made anew`;
    this.#deps.logger.error({ network: this.#deps.saved.name, router: this.name }, 'TUN lost');
  }

  /** Throws Vl3Error('failed-precondition') when the network's pools overlap what is reserved. */
  mustFit(reserved: readonly Taken[]): void {
    refuseOverlap(this.#deps.saved.pools, reserved);
  }

  /** Makes the workload's interface, or repairs it. */
  async connect(attachment: AttachmentDocument): Promise<void> {
    await ensureAttachment(this.#deps.tools, this.#spec(attachment));
  }

  /** The workload's interface, as a container runtime is told of it. */
  interfaceOf(attachment: AttachmentDocument): MadeInterface {
    return podInterface(this.#spec(attachment));
  }

  /** What is not as it was made, in sentences. */
  async faults(attachment: AttachmentDocument): Promise<string[]> {
    return await attachmentFaults(this.#deps.tools, this.#spec(attachment));
  }

  #spec(attachment: AttachmentDocument): AttachmentSpec {
    const { saved, addresses, mtu } = this.#deps;
    return {
      attachmentId: attachment.id,
      router: this.name,
      podNetns: attachment.netns,
      podNetnsId: attachment.netnsId,
      podInterface: attachment.interfaceName,
      addresses: attachment.addresses.map(parseAddress),
      gateways: addresses.gateways,
      pools: saved.pools,
      mtu: mtu(),
    };
  }

  async disconnect(attachment: AttachmentDocument): Promise<void> {
    await removeAttachment(this.#deps.tools, {
      attachmentId: attachment.id,
      router: this.name,
      addresses: attachment.addresses.map(parseAddress),
    });
  }

  /** Those of these attachments whose interface is gone. */
  async missing(attachments: readonly AttachmentDocument[]): Promise<AttachmentDocument[]> {
    if (attachments.length === 0) return [];
    const found = (await readRouter(this.#deps.tools, this.name))?.attachments ?? [];
    return attachments.filter(({ id }) => !found.some(({ attachmentId }) => attachmentId === id));
  }

  /** Removes the interfaces that none of these attachments accounts for. */
  async dropStrangers(attachments: readonly AttachmentDocument[]): Promise<void> {
    const { tools, saved, logger } = this.#deps;
    const known = new Set(attachments.map(({ id }) => id));
    const found = (await readRouter(tools, this.name))?.attachments ?? [];
    for (const { attachmentId } of found) {
      if (known.has(attachmentId)) continue;
      await removeAttachment(tools, { attachmentId, router: this.name, addresses: [] });
      logger.warn({ network: saved.name, attachment: attachmentId }, 'stray interface removed');
    }
  }

  /** Removes the namespace, and with it every interface in it. */
  async remove(): Promise<void> {
    await removeRouter(this.#deps.tools, this.name);
  }
}
