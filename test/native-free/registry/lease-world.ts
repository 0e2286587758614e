// A small world for property tests of leases: a registry of the real rules over a store in memory that can be stopped,
// copied, put back and emptied, and nodes that obey their own clock. Requests and answers can get lost or come late.
// Time is one number; the registry knows only what it wrote down of it. Long, but one world: its parts know each other.

import { choosePrefix } from '../../../native-free/ipam/pool.ts';
import { parsePrefix, prefixesOverlap } from '../../../native-free/ipam/prefix.ts';
import { adoptNetwork, adoptNode } from '../../../native-free/registry/adoption-rules.ts';
import { putRecord } from '../../../native-free/registry/announcement-rules.ts';
import { advanceClock, startClock } from '../../../native-free/registry/clock-rules.ts';
import { bindCa } from '../../../native-free/registry/domain-rules.ts';
import { enroll } from '../../../native-free/registry/enrolment-rules.ts';
import {
  dueLeases,
  endLeases,
  forgetRested,
  purgeLeases,
} from '../../../native-free/registry/expiry-rules.ts';
import { KeySpace } from '../../../native-free/registry/key-space.ts';
import { all } from '../../../native-free/registry/keys.ts';
import { isHeld } from '../../../native-free/registry/lease-phase.ts';
import {
  joinNetwork,
  leasePrefix,
  leaveNetwork,
  releasePrefix,
  removeMember,
} from '../../../native-free/registry/lease-rules.ts';
import { leaseTerms } from '../../../native-free/registry/lease-terms.ts';
import type { Lease, Network, StoredRecord } from '../../../native-free/registry/model.ts';
import { createNetwork } from '../../../native-free/registry/network-rules.ts';
import { deleteNode } from '../../../native-free/registry/node-rules.ts';
import {
  beginRestored,
  endRecovery,
  finishReport,
  hearPosition,
  recoveryOf,
  settle,
} from '../../../native-free/registry/recovery-rules.ts';
import { disownMembership, type Holding, renewHolding } from '../../../native-free/registry/renewal-rules.ts';
import { mustBeEnrolled, type Rule } from '../../../native-free/registry/rules.ts';
import { State } from '../../../native-free/registry/state.ts';
import { testify } from '../../../native-free/registry/testimony-rules.ts';
import { createToken } from '../../../native-free/registry/token-rules.ts';
import { type Entry, MAX_OPERATIONS, type Range } from '../../../native-free/registry/transaction.ts';
import { networkRequest, record } from './fixtures.ts';

export const TERMS = leaseTerms(60_000);
/** With this share left a node uses a prefix no more. */
const ENDING = TERMS.termMs * 0.01;
const CA = 'c'.repeat(64);
const EVERYTHING: readonly Range[] = [all('/')];

interface HeldLease {
  leasedAt: number;
  /** When the request was sent that last succeeded. */
  since: number;
}

export interface WorldNode {
  readonly name: string;
  readonly leases: Map<string, HeldLease>;
  network: Network | undefined;
  seen: { storeId: string; revision: number; run: string };
  sequence: number;
  readonly records: Map<string, StoredRecord>;
  /** A request under way: what it said, and when. */
  /** It reaches no registry. */
  isParted: boolean;
  underWay: { readonly holding: Holding | undefined; readonly sentAt: number; timedOut: boolean } | undefined;
}

interface Copy {
  readonly identity: string;
  readonly entries: readonly Entry[];
  readonly revision: number;
}

export interface Counts {
  steps: number;
  renewed: number;
  pending: number;
  recoveries: number;
  adopted: number;
  restored: number;
  ended: number;
  purged: number;
  excused: number;
}

export class World {
  now = 1_000_000;
  readonly counts: Counts;
  readonly nodes: WorldNode[];
  readonly #pool: string;
  #store = new KeySpace({ keepHistory: 1 });
  #identity = 's0';
  #isUp = false;
  #measuredAt = 0;
  /** As src/registry/hearing.ts: what was there at the start of this run, and which run it is. */
  #firstRevision = 0;
  #runs = 0;
  #backup: Copy | undefined;
  #serial = 0;

  constructor(names: readonly string[], counts: Counts, pool: string) {
    this.counts = counts;
    this.#pool = pool;
    this.nodes = names.map((name) => ({
      name,
      leases: new Map(),
      network: undefined,
      seen: { storeId: '', revision: 0, run: '' },
      sequence: 0,
      records: new Map(),
      isParted: false,
      underWay: undefined,
    }));
    this.#run(startClock);
    this.#run(bindCa(CA));
    this.start();
    this.#createNetwork();
    for (const node of this.nodes) this.enrol(node);
  }

  // --- the registry

  state(): State {
    return new State(EVERYTHING, this.#store.read(EVERYTHING));
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  get isRecovering(): boolean {
    return recoveryOf(this.state()) !== undefined;
  }

  start(): void {
    if (this.#isUp) return;
    this.#isUp = true;
    this.#measuredAt = this.now;
    this.#firstRevision = this.#store.revision;
    this.#runs++;
    this.#run(startClock);
  }

  /** Whatever was under way is lost; what time has passed since the last tick is not written down when it crashes. */
  stop(crashes: boolean): void {
    if (!this.#isUp) return;
    if (!crashes) this.#advanceClock();
    this.#isUp = false;
    for (const node of this.nodes) node.underWay = undefined;
  }

  backup(): void {
    this.#backup = {
      identity: this.#identity,
      entries: this.#store.read(EVERYTHING).entries,
      revision: this.#store.revision,
    };
  }

  /** As `vl3 registry restore` does it, or by hand: then it has the identity that it had. */
  restore(isProper: boolean): void {
    if (this.#backup === undefined) return;
    this.stop(true);
    this.#store.load(this.#backup.entries, this.#backup.revision);
    this.#identity = isProper ? `s${++this.#serial}` : this.#backup.identity;
    if (isProper) this.#run(beginRestored(this.#identity));
    this.start();
    // No prefix is issued before those who were alive have been heard.
    for (const node of this.nodes) this.#hear(node);
  }

  empty(): void {
    this.stop(true);
    this.#store = new KeySpace({ keepHistory: 1 });
    this.#identity = `s${++this.#serial}`;
    this.#run(bindCa(CA, true));
    this.start();
  }

  settle(): void {
    if (!this.#isUp || !this.isRecovering) return;
    while (!this.#run(settle(this.now)).done);
    this.#excuse();
  }

  pass(ms: number): void {
    const until = this.now + Math.round(ms);
    while (this.now < until) {
      this.now = Math.min(until, this.now + TERMS.tickMs);
      if (this.#isUp) this.#tick();
      this.mustHold();
    }
  }

  #advanceClock(): void {
    this.#run(advanceClock(Math.min(this.now - this.#measuredAt, 2 * TERMS.tickMs)));
    this.#measuredAt = this.now;
  }

  #tick(): void {
    this.#advanceClock();
    if (this.#run(endRecovery(TERMS)) !== undefined) {
      this.counts.recoveries++;
      this.#excuse();
    }
    const due = this.#run(dueLeases(TERMS));
    for (const holder of due.overdue) {
      for (;;) {
        const { ended, remaining } = this.#run(endLeases(holder, TERMS, this.now));
        this.counts.ended += ended.length;
        if (!remaining) break;
      }
    }
    for (const holder of due.purgeable) {
      this.counts.purged += this.#run(purgeLeases(holder, TERMS, this.now)).purged.length;
    }
    if (due.rested > 0) this.#run(forgetRested(TERMS));
  }

  /**
   * A recovery that ended cannot protect what the registry has never heard of again: neither from its holder nor by anybody's
   * testimony. That is the admin's risk, and no fault of the rules.
   */
  #excuse(): void {
    const state = this.state();
    for (const node of this.nodes) {
      for (const prefix of node.leases.keys()) {
        const lease = state.lease('red', prefix)?.value;
        if (lease?.node === node.name && isHeld(lease)) continue;
        node.leases.delete(prefix);
        this.counts.excused++;
      }
    }
  }

  // --- an admin

  enrol(node: WorldNode): void {
    if (!this.#isUp) return;
    const known = this.state().node(node.name)?.value;
    if (known !== undefined && known.deletedAt === undefined) return;
    const hash = (++this.#serial).toString(16).padStart(64, '0');
    const secretHash = hash.slice(48) + hash.slice(0, 48);
    this.#run(createToken({ hash: secretHash, node: node.name, ttlMs: undefined }, this.now));
    const certificate = { serial: `c${this.#serial}`, notAfter: this.now + 1e9 };
    const svid = { certificate, notBefore: this.now, chain: ['AA=='] };
    this.#run(
      enroll({ secretHash, node: node.name, keyHash: `k${this.#serial}`, spiffeId: 's', svid }, this.now),
    );
  }

  /** The node's traffic is the admin's business from here on. */
  deleteNode(node: WorldNode): void {
    if (!this.#isUp || this.state().node(node.name) === undefined) return;
    try {
      for (const network of this.#run(deleteNode(node.name, this.now)))
        this.#run(removeMember(network, node.name, this.now));
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    node.leases.clear();
    node.underWay = undefined;
  }

  #createNetwork(): void {
    const request = networkRequest({ poolV4: this.#pool, poolV6: '', nodePrefixLengthV4: 24 });
    this.#run(createNetwork(request, { now: this.now, uid: `uid${this.#serial}` }));
  }

  // --- the nodes

  uses(node: WorldNode): string[] {
    return [...node.leases].filter(([, lease]) => this.#leftMs(lease) > ENDING).map(([prefix]) => prefix);
  }

  #leftMs({ since }: HeldLease): number {
    return since + TERMS.termMs - this.now;
  }

  #holding(node: WorldNode): Holding | undefined {
    const { network } = node;
    if (network === undefined) return undefined;
    const leases = [...node.leases].map(([prefix, lease]) => ({
      prefix,
      leasedAt: lease.leasedAt,
      isExpired: this.#leftMs(lease) <= 0,
    }));
    return { network, leases };
  }

  /** Says it; what becomes of it is for `arrive`. One that timed out may still arrive. */
  sendRenewal(node: WorldNode): void {
    node.underWay = { holding: this.#holding(node), sentAt: this.now, timedOut: false };
  }

  part(node: WorldNode): void {
    node.isParted = true;
    node.underWay = undefined;
  }

  timeOut(node: WorldNode): void {
    if (node.underWay !== undefined) node.underWay.timedOut = true;
  }

  arrive(node: WorldNode, answerIsLost: boolean): void {
    const { underWay } = node;
    if (underWay === undefined || !this.#isUp) return;
    node.underWay = undefined;
    const answers = this.#renew(node, underWay.holding);
    if (answers === undefined || answerIsLost || underWay.timedOut) return;
    this.#sawStore(node);
    for (const { prefix, outcome } of answers) {
      const lease = node.leases.get(prefix);
      if (outcome === 'renewed') this.counts.renewed++;
      if (outcome === 'pending') this.counts.pending++;
      if (outcome === 'renewed' && lease !== undefined) lease.since = underWay.sentAt;
      if (outcome !== 'lost' || lease === undefined) continue;
      if (this.#leftMs(lease) > 0) throw new Error(`${node.name} lost ${prefix}, which it held`);
      node.leases.delete(prefix);
    }
  }

  #renew(node: WorldNode, holding: Holding | undefined) {
    return this.#call(node, () => {
      if (holding && this.isRecovering) this.#run(adoptNetwork(node.name, holding.network));
      const { answers } = holding ? this.#run(renewHolding(node.name, holding, this.now)) : { answers: [] };
      const state = this.state();
      if (recoveryOf(state) !== undefined) {
        if (holding === undefined && state.member('red', node.name) !== undefined)
          this.#run(disownMembership('red', node.name, this.now));
        const pending = answers
          .filter(({ outcome }) => outcome === 'pending')
          .filter(({ prefix }) => !holding?.leases.find((one) => one.prefix === prefix)?.isExpired)
          .map(({ prefix }) => ({ network: 'red', prefix }));
        this.#run(finishReport(node.name, { pending, conflicts: [] }));
      }
      return answers;
    });
  }

  join(node: WorldNode, answerIsLost: boolean): void {
    if (node.underWay !== undefined) return;
    const answer = this.#call(node, () => this.#run(joinNetwork('red', node.name, this.now, choosePrefix)));
    if (answer === undefined || answerIsLost) return;
    this.#sawStore(node);
    node.network = answer.network;
    for (const lease of answer.leases) this.#took(node, lease);
  }

  lease(node: WorldNode, answerIsLost: boolean): void {
    if (node.underWay !== undefined || node.network === undefined) return;
    const requestId = `r${++this.#serial}`;
    const answer = this.#call(node, () =>
      this.#run(
        leasePrefix({ network: 'red', node: node.name, family: 4, requestId }, this.now, choosePrefix),
      ),
    );
    if (answer === undefined || answerIsLost) return;
    this.#sawStore(node);
    this.#took(node, answer);
  }

  /** From the moment it asks, the node lets go of it, whatever becomes of the call. */
  release(node: WorldNode, pick: number, isLost: boolean): void {
    const prefix = [...node.leases.keys()][pick % Math.max(1, node.leases.size)];
    if (node.underWay !== undefined || prefix === undefined) return;
    node.leases.delete(prefix);
    this.announce(node, false);
    if (!isLost) this.#call(node, () => this.#run(releasePrefix('red', node.name, prefix)));
  }

  leave(node: WorldNode, isLost: boolean): void {
    if (node.underWay !== undefined) return;
    node.leases.clear();
    node.network = undefined;
    if (!isLost) this.#call(node, () => this.#run(leaveNetwork('red', node.name, this.now)));
  }

  announce(node: WorldNode, isHeardByAll: boolean): void {
    if (node.network === undefined) return;
    const prefixes = [...node.leases]
      .filter(([, lease]) => this.#leftMs(lease) > 0)
      .map(([prefix, { leasedAt }]) => ({ prefix, leasedAt }));
    const sequence = Math.max(node.sequence, this.now) + 1;
    node.sequence = sequence;
    const signed = record({ sequence, prefixes });
    const done = this.#call(node, () => {
      this.#run(putRecord('red', node.name, signed));
      return true;
    });
    if (done !== true) return;
    this.#sawStore(node);
    if (!isHeardByAll) return;
    for (const other of this.nodes) other.records.set(node.name, signed);
  }

  testify(witness: WorldNode): void {
    for (const [node, signed] of witness.records) {
      if (node === witness.name) continue;
      const answer = this.#call(witness, () =>
        this.#run(
          testify(
            witness.name,
            {
              network: 'red',
              networkUid: witness.network?.uid ?? '',
              node,
              spiffeId: 's',
              certificate: { serial: `t-${node}`, notAfter: this.now + 1e9 },
              record: signed,
            },
            this.now,
          ),
        ),
      );
      if (answer === 'restored') this.counts.restored++;
    }
  }

  #took(node: WorldNode, { prefix, leasedAt }: Lease): void {
    node.leases.set(prefix, { leasedAt, since: this.now });
  }

  #sawStore(node: WorldNode): void {
    node.seen = { storeId: this.#identity, revision: this.#store.revision, run: String(this.#runs) };
  }

  #hear(node: WorldNode): void {
    if (!this.#isUp || node.isParted) return;
    const possible = node.seen.run === String(this.#runs) ? this.#store.revision : this.#firstRevision;
    this.#run(hearPosition(node.name, node.seen, { identity: this.#identity, possible }));
  }

  /** What the guard and the heartbeat do before a call; undefined: refused. */
  #call<T>(node: WorldNode, work: () => T): T | undefined {
    if (!this.#isUp || node.isParted) return undefined;
    try {
      const state = this.state();
      if (state.node(node.name) === undefined && recoveryOf(state) !== undefined) {
        const certificate = { serial: `a-${node.name}`, notAfter: this.now + 1e9 };
        if (this.#run(adoptNode(node.name, 's', certificate, this.now))) this.counts.adopted++;
      }
      mustBeEnrolled(this.state(), node.name);
      this.#hear(node);
      return work();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return undefined;
    }
  }

  // --- what must hold

  mustHold(): void {
    const used = this.nodes.flatMap((node) =>
      this.uses(node).map((prefix) => ({ node, prefix, parsed: parsePrefix(prefix) })),
    );
    used.forEach((a, i) => {
      for (const b of used.slice(i + 1)) {
        if (a.node === b.node || !prefixesOverlap(a.parsed, b.parsed)) continue;
        throw new Error(`${a.node.name} uses ${a.prefix} and ${b.node.name} uses ${b.prefix}`);
      }
    });
    const held = this.state()
      .leases('red')
      .filter(({ value }) => isHeld(value))
      .map(({ value }) => ({ ...value, parsed: parsePrefix(value.prefix) }));
    held.forEach((a, i) => {
      for (const b of held.slice(i + 1)) {
        if (prefixesOverlap(a.parsed, b.parsed))
          throw new Error(`${a.prefix} and ${b.prefix} are both leased`);
      }
    });
  }

  #run<T>(rule: Rule<T>): T {
    const plan = rule.decide(new State(rule.reads, this.#store.read(rule.reads)));
    if (plan.operations.length > MAX_OPERATIONS || plan.compares.length > MAX_OPERATIONS) {
      throw new Error(`${plan.operations.length} operations, ${plan.compares.length} compares`);
    }
    if (!plan.compares.every((compare) => this.#store.holds(compare)))
      throw new Error('a compare does not hold');
    const prepared = this.#store.prepare(plan.operations);
    if (prepared !== undefined) this.#store.install(prepared);
    return plan.answer;
  }
}

const REFUSALS = [
  'unavailable',
  'unauthenticated',
  'permission-denied',
  'not-found',
  'failed-precondition',
  'resource-exhausted',
];

const isRefusal = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && REFUSALS.includes(String(error.code));
