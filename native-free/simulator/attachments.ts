// The attachments of a simulated node: what was asked for is written down before anything is made and struck out after
// everything is gone. The order of writes and effects is that of src/agent/attachments.ts.

import { Vl3Error } from '../error.ts';
import { type Address, formatAddress, parseAddress, parsePrefix, prefixContains } from '../ipam/prefix.ts';
import { leasePhase } from '../reconcile/saved-network.ts';
import type { AgentContext } from './agent-context.ts';
import { ATTACHMENT, type SavedAttachment } from './documents.ts';
import type { SimulatedMembership } from './membership.ts';
import type { SimulatedNetworks } from './networks.ts';
import { attempt, type Done, orFail } from './outcome.ts';

export interface AttachRequest {
  readonly network: string;
  readonly namespace: string;
  readonly workload: string;
  readonly labels: Readonly<Record<string, string>>;
}

export class SimulatedAttachments {
  readonly #context: AgentContext;
  readonly #networks: SimulatedNetworks;
  /** Attachments are worked on one at a time each. */
  readonly #busy = new Map<string, (() => void)[]>();

  constructor(context: AgentContext, networks: SimulatedNetworks) {
    this.#context = context;
    this.#networks = networks;
  }

  /** Asked again for the same namespace and network it answers the same. */
  attach(request: AttachRequest, done: Done<readonly string[]>): void {
    this.#oneAtATime(`${request.network} ${request.namespace}`, done, (finish) => {
      this.#networks.join(request.network, (joined) => {
        if (!joined.ok) finish(joined);
        else orFail(finish, () => this.#attach(joined.answer, request, finish));
      });
    });
  }

  #attach(membership: SimulatedMembership, request: AttachRequest, done: Done<readonly string[]>): void {
    const { documents, randomBytes, kernel, time } = this.#context;
    const present = this.#find(request.network, request.namespace);
    if (present !== undefined) {
      this.#mustHold(membership, present);
      const { labels } = request;
      if (!sameLabels(present, labels)) documents.put(ATTACHMENT, present.id, { ...present, labels });
      // Also when it was made before: its interface may have been removed since.
      if (present.ready) {
        this.#make(membership, { ...present, labels });
        done({ ok: true, answer: present.addresses });
      } else this.#makeOnceAdmitted(membership, { ...present, labels }, done);
      return;
    }
    if (!kernel.hasNamespace(request.namespace))
      throw new Vl3Error('failed-precondition', `there is no namespace ${request.namespace}`);
    const id = [...randomBytes(6)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const attachment = (addresses: readonly Address[]): SavedAttachment => ({
      id,
      ...request,
      addresses: addresses.map(formatAddress),
      ready: false,
      attachedAt: Math.floor(time().wallclock),
    });
    membership.allocate(
      id,
      (addresses) => documents.put(ATTACHMENT, id, attachment(addresses)),
      (allocated) =>
        orFail(done, () => {
          if (!allocated.ok) throw allocated.error;
          this.#makeOnceAdmitted(membership, attachment(allocated.answer), done);
        }),
    );
  }

  #makeOnceAdmitted(
    membership: SimulatedMembership,
    wanted: SavedAttachment,
    done: Done<readonly string[]>,
  ): void {
    const { enter } = this.#context;
    membership.verdicts.mustBeAdmitted(wanted.id, (verdict) =>
      enter(() =>
        orFail(done, () => {
          const { documents } = this.#context;
          // It may have been taken off, or relabelled, meanwhile.
          const present = documents.get(ATTACHMENT, wanted.id);
          if (present === undefined) throw new Vl3Error('aborted', 'it was taken off meanwhile');
          try {
            if (!verdict.ok) throw verdict.error;
            this.#make(membership, present);
          } catch (error) {
            if (error instanceof Vl3Error && (!present.ready || !verdict.ok)) this.#takeOff(present);
            throw error;
          }
          done({ ok: true, answer: present.addresses });
        }),
      ),
    );
  }

  /** No rule admits it any more; who wants it asks again. */
  refused(id: string): void {
    const found = this.#context.documents.get(ATTACHMENT, id);
    if (found === undefined) return;
    this.#context.counters.add('attachments refused later');
    attempt(() => this.#takeOff(found));
  }

  #takeOff(attachment: SavedAttachment): void {
    const { network, namespace } = attachment;
    if (attachment.ready) this.#context.withdrawn(network, namespace, 'refused');
    this.#unmake(attachment);
  }

  relabel(
    network: string,
    namespace: string,
    labels: Readonly<Record<string, string>>,
    done: Done<void>,
  ): void {
    this.#oneAtATime(`${network} ${namespace}`, done, (finish) =>
      orFail(finish, () => {
        const found = this.#find(network, namespace);
        if (found !== undefined && !sameLabels(found, labels)) {
          this.#context.documents.put(ATTACHMENT, found.id, { ...found, labels });
          this.#networks.get(network)?.attachmentsChanged();
        }
        finish({ ok: true, answer: undefined });
      }),
    );
  }

  /** Takes off everything that has an address in this prefix; who wants it asks again. */
  withdraw(membership: SimulatedMembership, prefix: string, isLost: boolean): void {
    const lost = parsePrefix(prefix);
    for (const attachment of membership.attachments) {
      if (!attachment.addresses.some((text) => prefixContains(lost, parseAddress(text)))) continue;
      this.#context.withdrawn(attachment.network, attachment.namespace, isLost ? 'lost' : 'ended');
      this.#unmake(attachment);
    }
  }

  #mustHold(membership: SimulatedMembership, { addresses }: SavedAttachment): void {
    const now = this.#context.leaseMoment();
    for (const lease of membership.saved.document.leases) {
      const phase = leasePhase(lease, now);
      if (phase !== 'ending' && phase !== 'ended') continue;
      if (addresses.some((text) => prefixContains(parsePrefix(lease.prefix), parseAddress(text))))
        throw new Vl3Error('unavailable', `${lease.prefix} may not be this node's any more`);
    }
  }

  /** What is not there is no error. */
  detach(network: string, namespace: string, done: Done<void>): void {
    this.#oneAtATime(`${network} ${namespace}`, done, (finish) =>
      orFail(finish, () => {
        const found = this.#find(network, namespace);
        if (found !== undefined) this.#unmake(found);
        finish({ ok: true, answer: undefined });
      }),
    );
  }

  /** After a start: repairs what should be there, and drops what should not. */
  restore(membership: SimulatedMembership): void {
    const { kernel } = this.#context;
    const { network, attachments } = membership;
    const known = new Set(attachments.map(({ id }) => id));
    for (const id of [...kernel.interfaces(network).keys()])
      if (!known.has(id)) kernel.disconnect(network, id);
    for (const attachment of attachments) {
      const repaired = attempt(() => {
        const isToBe = attachment.ready || !membership.isRestricted;
        if (kernel.hasNamespace(attachment.namespace) && isToBe) {
          this.#mustHold(membership, attachment);
          this.#make(membership, attachment);
        } else this.#unmake(attachment);
      });
      if (!repaired.ok) this.#context.counters.add('attachments not repaired');
    }
    attempt(() => membership.freeStrangers());
  }

  /** Detaches what belongs to namespaces that are gone. */
  sweep(): void {
    const { documents, kernel } = this.#context;
    for (const { value } of documents.list(ATTACHMENT))
      if (!kernel.hasNamespace(value.namespace)) this.detach(value.network, value.namespace, () => undefined);
  }

  isBusy(network: string): boolean {
    return [...this.#busy.keys()].some((key) => key.startsWith(`${network} `));
  }

  #make(membership: SimulatedMembership, attachment: SavedAttachment): void {
    const { kernel, documents } = this.#context;
    const { id, network, namespace, addresses } = attachment;
    kernel.connect(network, { attachmentId: id, namespace, addresses });
    if (attachment.ready) return;
    documents.put(ATTACHMENT, id, { ...attachment, ready: true });
    membership.attachmentsChanged();
  }

  /** Whatever it is cut off at, the attachment can be made or unmade again. */
  #unmake(attachment: SavedAttachment): void {
    const { kernel, documents } = this.#context;
    const { id, network, addresses } = attachment;
    const membership = this.#networks.get(network);
    kernel.disconnect(network, id);
    const strike = (): void => documents.delete(ATTACHMENT, id);
    if (membership === undefined) strike();
    else membership.free(id, addresses, strike);
    membership?.attachmentsChanged();
  }

  #find(network: string, namespace: string): SavedAttachment | undefined {
    return this.#context.documents
      .list(ATTACHMENT)
      .map(({ value }) => value)
      .find((one) => one.network === network && one.namespace === namespace);
  }

  #oneAtATime<T>(key: string, done: Done<T>, work: (finish: Done<T>) => void): void {
    const waiting = this.#busy.get(key);
    if (waiting !== undefined) {
      waiting.push(() => this.#oneAtATime(key, done, work));
      return;
    }
    this.#busy.set(key, []);
    work((outcome) => {
      const next = this.#busy.get(key) ?? [];
      this.#busy.delete(key);
      done(outcome);
      for (const one of next) one();
    });
  }
}

const sameLabels = (
  a: { readonly labels: Readonly<Record<string, string>> },
  b: Readonly<Record<string, string>>,
) => JSON.stringify(Object.entries(a.labels).sort()) === JSON.stringify(Object.entries(b).sort());
