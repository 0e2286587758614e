// Wishes made true, and undone: addresses allocated, the document written, the interface made, in the order that a crash at
// any point can be repaired from. What is tried when is attachments.ts; which addresses there are, addresses.ts; how an
// interface is made, router.ts.

import type { Logger } from 'pino';
import { type Address, formatAddress, parseAddress } from '../../native-free/ipam/prefix.ts';
import {
  ATTACHMENT,
  type AttachmentDocument,
  WISH,
  type WishDocument,
} from '../../native-free/reconcile/documents.ts';
import { Gate } from '../netns/gate.ts';
import type { Taken } from '../netns/pod-routes.ts';
import type { Membership } from './membership.ts';
import { Queues } from './queues.ts';
import type { AgentState } from './state.ts';

export interface PodInterfacesDeps {
  readonly state: AgentState;
  /** What the workload in a namespace reaches outside of vl3. */
  readonly reserved: (netns: string) => Promise<Taken[]>;
  readonly logger: Logger;
}

/** Interfaces made at a time: more only make each one later. */
const MADE_AT_ONCE = 4;

export class PodInterfaces {
  readonly #deps: PodInterfacesDeps;
  readonly #gate = new Gate(MADE_AT_ONCE);
  /** Per namespace: of two networks that overlap, the second to be made has to see the first. */
  readonly #namespaces = new Queues();

  constructor(deps: PodInterfacesDeps) {
    this.#deps = deps;
  }

  /** Puts the workload on the network. When that fails, nothing is left but the wish. */
  async attach(membership: Membership, wish: WishDocument, signal: AbortSignal): Promise<AttachmentDocument> {
    const { state, logger } = this.#deps;
    const { reason: _, askedAt: attachedAt, preferred, ...wanted } = wish;
    const asked = { fixed: wish.fixed.map(parseAddress), preferred: preferred.map(parseAddress) };
    // What the workload has routes to is seen when its interface is made.
    if (wish.stockPeer === undefined) membership.router.mustFit(await this.#deps.reserved(wish.netns));
    const withAddresses = (addresses: readonly Address[]): AttachmentDocument => ({
      ...wanted,
      addresses: addresses.map(formatAddress),
      ready: false,
      attachedAt,
      isLeaving: false,
    });
    const addresses = await membership.addresses.allocate(
      wish.id,
      asked,
      (allocated) => {
        state.delete(WISH, wish.id);
        state.put(ATTACHMENT, wish.id, withAddresses(allocated));
      },
      signal,
    );
    const document = withAddresses(addresses);
    try {
      await this.make(membership, document);
    } catch (error) {
      await this.unmake(membership, document, wish);
      throw error;
    }
    const { id, network, workload } = document;
    logger.info({ network, attachment: id, workload, addresses: document.addresses }, 'attached');
    return { ...document, ready: true };
  }

  /** Makes the interface once it is admitted, or repairs it. */
  async make(membership: Membership, document: AttachmentDocument): Promise<void> {
    if (!document.ready) await membership.verdicts.mustBeAdmitted(document.id);
    await this.#namespaces.run(document.netnsId, () => this.#gate.pass(() => membership.connect(document)));
    if (document.ready) return;
    this.#deps.state.put(ATTACHMENT, document.id, { ...document, ready: true });
    membership.attachmentsChanged();
  }

  /**
   * Takes the workload off; `wish` stays in its place. Whatever this is cut off at, the attachment can be made or unmade
   * again, and nobody else gets its addresses before.
   */
  async unmake(
    membership: Membership | undefined,
    document: AttachmentDocument,
    wish?: WishDocument,
  ): Promise<void> {
    const { state } = this.#deps;
    const { id, addresses } = document;
    await membership?.disconnect(document);
    const strike = (): void => {
      state.delete(ATTACHMENT, id);
      if (wish !== undefined) state.put(WISH, id, wish);
    };
    if (membership === undefined) state.transact(strike);
    else membership.addresses.free(id, addresses.map(parseAddress), strike);
    membership?.attachmentsChanged();
  }
}
