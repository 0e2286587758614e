// Keeps what the registry has decided about admission in step with rules and attachments: whenever either changes, what is
// attached is decided anew, and each node's grant is signed anew when it grants something else, or has not long to go. Who
// decides is native-free/registry/admission-decisions.ts.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { admitsWholeNode } from '../../native-free/admission/decision.ts';
import {
  ascending,
  type Grant,
  MAX_GRANTED_ADDRESSES,
  readGrant,
} from '../../native-free/admission/grant.ts';
import { nodeSubject, redecide } from '../../native-free/registry/admission-decisions.ts';
import { storedGrant as storedGrantSchema } from '../../native-free/registry/admission-model.ts';
import { putInForce, rulesIn } from '../../native-free/registry/admission-rules.ts';
import { all, below, identityKey, keys, one, partsOf } from '../../native-free/registry/keys.ts';
import type { LeaseTerms } from '../../native-free/registry/lease-terms.ts';
import { nextSequence } from '../../native-free/registry/record.ts';
import { recoveryOf } from '../../native-free/registry/recovery-rules.ts';
import { put, type Rule, settled } from '../../native-free/registry/rules.ts';
import type { State } from '../../native-free/registry/state.ts';
import type { Batch } from '../../native-free/registry/transaction.ts';
import { fromBase64 } from '../base64.ts';
import type { GrantContent, SignedGrant, Signer } from '../identity/signer.ts';
import { storedGrant } from './messages.ts';
import { CompactedError, type Store } from './store.ts';
import type { Transactor } from './transactor.ts';

export interface AdmissionKeeperDependencies {
  readonly store: Store;
  readonly transactor: Transactor;
  readonly signer: Signer;
  readonly terms: LeaseTerms;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly logger: Logger;
}

/** What is to be signed, and by which rules that was decided. */
interface Due {
  readonly content: GrantContent;
  readonly notAfter: number;
  readonly rulesetVersion: number | undefined;
}

const RETRY_MS = 1000;
/** How often everything is looked at, whether or not something changed: so many times in a grant's term, or each hour. */
const ROUNDS_A_TERM = 28;
const HOUR_MS = 60 * 60 * 1000;
/** Of a grant's term: with less than this left it is signed anew, long before an outage could outlast it. */
const RENEWED_AT = 6 / 7;

/** What the grants of a network's nodes follow from. */
const GRANTED = new Set(['attachments', 'members', 'cluster-enrolments', 'rulesets', 'domain']);

export class AdmissionKeeper implements AsyncDisposable {
  readonly #deps: AdmissionKeeperDependencies;
  readonly #stop = new AbortController();
  #revision = 0;
  /** What has to be looked at: networks, or members of them as `network node`. */
  readonly #dirty = new Set<string>();
  #wake: (() => void) | undefined;
  #running: Promise<unknown> = Promise.resolve();

  constructor(deps: AdmissionKeeperDependencies) {
    this.#deps = deps;
  }

  /** Resolves once what the store held at the start is in order. */
  async start(): Promise<void> {
    this.#revision = (await this.#deps.store.read([])).revision;
    await this.#markAll();
    await this.#settle();
    const everyMs = Math.min(HOUR_MS, Math.max(RETRY_MS, this.#deps.terms.termMs / ROUNDS_A_TERM));
    const round = setInterval(() => void this.#markAll(), everyMs);
    this.#stop.signal.addEventListener('abort', () => clearInterval(round));
    this.#running = Promise.all([this.#follow(), this.#work()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#running;
  }

  /** All restricted networks, or what a node has on them. */
  async #markAll(node?: string): Promise<void> {
    const state = await this.#deps.transactor.read([all(below.rulesets)]).catch(() => undefined);
    for (const { value } of state?.rulesets() ?? [])
      this.#dirty.add(node === undefined ? value.network : `${value.network} ${node}`);
    if (this.#dirty.size > 0) this.#wake?.();
  }

  async #follow(): Promise<void> {
    const { store, logger } = this.#deps;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        for await (const batch of store.watch('/', this.#revision, signal)) this.#note(batch);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof CompactedError)) {
          logger.error({ err: error }, 'the watch of the store failed');
          await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
        }
        this.#revision = (await store.read([]).catch(() => ({ revision: this.#revision }))).revision;
        await this.#markAll();
      }
    }
  }

  #note({ revision, changes }: Batch): void {
    this.#revision = revision;
    for (const { key } of changes) {
      const [kind = '', first = '', second] = partsOf(key);
      if (!GRANTED.has(kind)) continue;
      if (kind === 'rulesets') this.#dirty.add(first);
      // A recovery began or ended.
      else if (kind === 'domain') void this.#markAll();
      else if (second === undefined) void this.#markAll(first);
      else this.#dirty.add(`${first} ${second}`);
    }
    if (this.#dirty.size > 0) this.#wake?.();
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      if (this.#dirty.size === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
      if (!(await this.#settle())) await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Looks at all that is to be looked at; false when something failed, and is to be looked at again. */
  async #settle(): Promise<boolean> {
    const { transactor, logger } = this.#deps;
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    let succeeded = true;
    for (const what of dirty) {
      if (this.#stop.signal.aborted) return true;
      const [network = '', node] = what.split(' ');
      try {
        const state = await transactor.read([
          one(keys.domain),
          one(keys.ruleset(network)),
          all(below.members(network)),
        ]);
        const ruleset = state.ruleset(network)?.value;
        if (ruleset === undefined) continue;
        if (node !== undefined) await this.#settleNode(network, node);
        else {
          for (const { value } of state.members(network)) await this.#settleNode(network, value.node);
          if (recoveryOf(state) === undefined) await transactor.run(putInForce(network, ruleset.version));
        }
      } catch (error) {
        succeeded = false;
        this.#dirty.add(what);
        logger.error(
          { err: error, network, node },
          'admission could not be brought in step; it is tried again',
        );
      }
    }
    return succeeded;
  }

  async #settleNode(network: string, node: string): Promise<void> {
    const { transactor, signer, now, logger } = this.#deps;
    const { trustDomain } = signer.trustBundle;
    for (;;) {
      const { answer } = await transactor.run(redecide(network, node, trustDomain, now()));
      for (const { id, workload } of answer.withdrawn)
        logger.info({ network, node, attachment: id, workload }, 'no rule admits it any more');
      if (answer.remaining === 0) break;
    }
    for (;;) {
      const { answer: due } = await transactor.run(this.#due(network, node));
      if (due === undefined) return;
      const signed = await signer.signGrant(due.content, due.notAfter);
      const { answer: isKept } = await transactor.run(this.#granted(network, node, due, signed));
      if (isKept) return;
    }
  }

  /** What is to be signed, if anything is. */
  #due(network: string, node: string): Rule<Due | undefined> {
    const { store, terms, now, signer } = this.#deps;
    const { trustDomain } = signer.trustBundle;
    return {
      reads: grantReads(network, node),
      decide: (state) => {
        const content = grantOf(state, network, node, trustDomain, store.identity);
        if (content === undefined || recoveryOf(state) !== undefined) return settled(undefined);
        const present = state.grant(network, node)?.value;
        const held = present && readGrant(fromBase64(present.grant));
        const wall = now();
        if (held !== undefined && hasTime(held, wall, terms.termMs) && sameContent(held, content))
          return settled(undefined);
        const sequence = nextSequence(present?.sequence ?? 0, 0, wall);
        const rulesetVersion = state.ruleset(network)?.value.version;
        return settled({ content: { ...content, sequence }, notAfter: wall + terms.termMs, rulesetVersion });
      },
    };
  }

  /**
   * Keeps it, if the rules are those that it was decided by; else it is nobody's. Addresses that came or went meanwhile are the
   * next one's: a node that changes them all the time must not keep what it was granted before.
   */
  #granted(network: string, node: string, asked: Due, signed: SignedGrant): Rule<boolean> {
    const { store, signer } = this.#deps;
    const { trustDomain } = signer.trustBundle;
    const key = keys.grant(network, node);
    return {
      reads: grantReads(network, node),
      decide: (state) => {
        const content = grantOf(state, network, node, trustDomain, store.identity);
        const present = state.grant(network, node)?.value.sequence ?? 0;
        if (content === undefined || recoveryOf(state) !== undefined || present >= signed.sequence)
          return settled(true);
        const { addresses } = asked.content;
        const isOfTheseRules = state.ruleset(network)?.value.version === asked.rulesetVersion;
        if (!isOfTheseRules || !sameContent(asked.content, { ...content, addresses })) return settled(false);
        return {
          compares: [key, keys.ruleset(network), keys.member(network, node)].map((one) =>
            state.unchanged(one),
          ),
          operations: [put(key, storedGrantSchema, storedGrant(signed))],
          answer: true,
        };
      },
    };
  }
}

const grantReads = (network: string, node: string) => [
  one(keys.domain),
  one(keys.network(network)),
  one(keys.ruleset(network)),
  one(identityKey(node)),
  one(keys.member(network, node)),
  one(keys.clusterEnrolment(node)),
  one(keys.grant(network, node)),
  all(below.admissionRules(network)),
  all(below.attachments(network, node)),
];

/** What a node is to be granted; undefined: nothing is to be said of it. */
const grantOf = (
  state: State,
  network: string,
  node: string,
  trustDomain: string,
  storeId: string,
): Omit<GrantContent, 'sequence'> | undefined => {
  const uid = state.network(network)?.value.uid;
  const subject = nodeSubject(state, node, trustDomain);
  const isForeign = subject.trustDomain !== trustDomain;
  const isVouchedFor = isForeign
    ? state.federation(subject.trustDomain) !== undefined
    : state.node(node) !== undefined;
  const isGone = state.member(network, node) === undefined || !isVouchedFor;
  if (uid === undefined || isGone || state.ruleset(network) === undefined) return undefined;
  const rules = rulesIn(state, network, trustDomain);
  const isWhole = !isForeign && admitsWholeNode(rules, subject) !== undefined;
  const addresses = isWhole ? [] : addressesOf(state, network, node);
  return {
    network,
    networkUid: uid,
    nodeDomain: subject.trustDomain,
    node: subject.node,
    isWhole,
    addresses,
    storeId,
  };
};

/** As many as a grant holds: a node that attaches more must not keep what it has, nor hold up the others. */
const addressesOf = (state: State, network: string, node: string): string[] => {
  const all = state.attachments(network, node).flatMap(({ value }) => value.addresses);
  return [...new Set(all)].sort(ascending).slice(0, MAX_GRANTED_ADDRESSES);
};

/** Neither near its end, nor of a clock that was ahead: what such a one granted does not hold yet. */
const hasTime = ({ notBefore, notAfter }: Grant, now: number, termMs: number): boolean =>
  notBefore <= now && notAfter - now > termMs * RENEWED_AT && notAfter - now <= termMs + HOUR_MS;

const sameContent = (a: Omit<GrantContent, 'sequence'>, b: Omit<GrantContent, 'sequence'>): boolean =>
  a.networkUid === b.networkUid &&
  a.isWhole === b.isWhole &&
  a.storeId === b.storeId &&
  a.addresses.join() === b.addresses.join();
