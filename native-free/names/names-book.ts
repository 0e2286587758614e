// What other nodes of one network say of their names: the newest that each signed, kept as the exact bytes received and
// looked at again at every start. Looking takes time and many come at once, so what comes waits, the newest of each node,
// until its owner has a moment. Whether a node is there, and which addresses are its own, is not known here.

import type { Moment } from '../moment.ts';
import { readNodeKey } from '../registry/node-key.ts';
import { notFederated, type SignedRecord, type VerifierOf } from '../registry/record.ts';
import { type DecodedNames, decodeVerifiedNames, type NodeNames } from './signed-names.ts';

export interface NamesBookOptions {
  readonly network: string;
  readonly networkUid: string;
  /** The trust domain whose the network is: nodes of others are called `<node>@<domain>`. */
  readonly home: string;
  /** This node: it knows its own names better. */
  readonly node: string;
}

export interface SavedNames {
  readonly node: string;
  readonly signed: SignedRecord;
  readonly acceptedAt: Moment;
}

export interface NamesBookDependencies {
  readonly saved: {
    list(): Iterable<SavedNames>;
    put(node: string, signed: SignedRecord, acceptedAt: Moment): void;
    delete(node: string): void;
  };
  readonly verifierOf: VerifierOf;
  readonly report: (node: string, reason: string) => void;
}

interface Waiting {
  readonly signed: SignedRecord;
  /** Of what was saved. */
  readonly acceptedAt?: Moment;
}

interface Known {
  readonly names: NodeNames;
  /** In the present boot. */
  readonly acceptedAt: Moment;
}

export class NamesBook {
  readonly #options: NamesBookOptions;
  readonly #dependencies: NamesBookDependencies;
  readonly #waiting = new Map<string, Waiting>();
  readonly #known = new Map<string, Known>();
  readonly #refused = new Map<string, string>();
  /** Of the refused, by node: their signer may be believed later. */
  readonly #parked = new Map<string, SignedRecord>();
  #ownSequence = 0;

  constructor(options: NamesBookOptions, dependencies: NamesBookDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
    for (const { node, signed, acceptedAt } of dependencies.saved.list())
      this.#waiting.set(node, { signed, acceptedAt });
  }

  /** The highest sequence under which the registry knows this node's own names: the next must be past it. */
  get ownSequence(): number {
    return this.#ownSequence;
  }

  /** Why the newest names of a node were not accepted, by node. */
  get refusals(): ReadonlyMap<string, string> {
    return this.#refused;
  }

  /** The registry gave these for `node`. Borrowed until they are looked at. */
  offer(node: string, signed: SignedRecord): void {
    this.#waiting.set(node, { signed });
  }

  /** Another bundle holds for a domain: what was refused waits to be looked at again, unless newer names do. */
  trustChanged(): void {
    for (const [node, signed] of this.#parked)
      if (!this.#waiting.has(node)) this.#waiting.set(node, { signed });
    this.#parked.clear();
  }

  /** Looks at what waits, one node's names; the node whose names are others now, and false when nothing waits. */
  look(now: Moment): string | undefined | false {
    const [next] = this.#waiting;
    if (next === undefined) return false;
    const [node, waiting] = next;
    this.#waiting.delete(node);
    return this.#take(node, waiting, now) ? node : undefined;
  }

  /** What the node says, if that holds now. */
  names(node: string, now: Moment): NodeNames | undefined {
    const known = this.#known.get(node);
    if (known === undefined) return undefined;
    const { names, acceptedAt } = known;
    return now.boot - acceptedAt.boot < names.notAfter - acceptedAt.wall ? names : undefined;
  }

  get nodes(): string[] {
    return [...this.#known.keys()];
  }

  /** The node was removed from the network. */
  forget(node: string): void {
    this.#waiting.delete(node);
    this.#refused.delete(node);
    this.#parked.delete(node);
    this.#known.delete(node);
    this.#dependencies.saved.delete(node);
  }

  clear(): void {
    for (const node of [...this.#known.keys(), ...this.#waiting.keys()]) this.forget(node);
  }

  #take(node: string, { signed, acceptedAt: savedAt }: Waiting, now: Moment): boolean {
    const { saved, report } = this.#dependencies;
    const acceptedAt = savedAt?.bootId === now.bootId ? savedAt : now;
    const decoded = this.#decode(node, signed, acceptedAt.wall);
    if (decoded.kind === 'refused') {
      this.#refused.set(node, decoded.message);
      this.#parked.set(node, signed);
      report(node, decoded.message);
      return false;
    }
    this.#refused.delete(node);
    this.#parked.delete(node);
    const { names } = decoded;
    if (node === this.#options.node) {
      this.#ownSequence = Math.max(this.#ownSequence, names.sequence);
      return false;
    }
    const known = this.#known.get(node);
    if (known !== undefined && known.names.sequence >= names.sequence) return false;
    this.#known.set(node, { names, acceptedAt });
    if (savedAt !== acceptedAt) saved.put(node, signed, acceptedAt);
    return true;
  }

  #decode(key: string, signed: SignedRecord, now: number): DecodedNames {
    const { network, networkUid, home } = this.#options;
    const named = readNodeKey(home, key);
    if (named === undefined) return { kind: 'refused', message: 'the registry names a node that is none' };
    const verify = this.#dependencies.verifierOf(named.trustDomain);
    if (verify === undefined) return { kind: 'refused', message: notFederated(named.trustDomain) };
    return decodeVerifiedNames(signed, verify, now, { network, networkUid, home, node: named.node });
  }
}
