// What watchers of a network are told, kept in memory from the store's batches. Level-triggered: a watcher names the
// revision it has seen and gets the present state of whatever changed since, so a slow one costs no queue and two that
// stand at the same revision get the same step. Not here: streams and encoding (src/registry/feed.ts).

import type { z } from 'zod';
import { readGrant } from '../admission/grant.ts';
import { fromBase64 } from '../base64.ts';
import { type Ruleset, ruleset, type StoredGrant, storedGrant } from './admission-model.ts';
import { federation } from './federation-model.ts';
import { foreignDomainOf } from './foreign-key.ts';
import { below, partsOf } from './keys.ts';
import * as model from './model.ts';
import type { Batch, ReadResult } from './transaction.ts';

export interface NodeView {
  readonly node: string;
  /** Undefined: there is none, or in a delta, it is the one that the watcher has. */
  readonly record: model.StoredRecord | undefined;
  readonly alive: boolean;
  /** As `record`. */
  readonly names: model.StoredNames | undefined;
  /** As `record`. */
  readonly grant: StoredGrant | undefined;
}

export type NetworkStep =
  | {
      readonly kind: 'snapshot';
      readonly revision: number;
      readonly network: model.Network;
      readonly networkRevision: number;
      readonly ruleset: Ruleset | undefined;
      readonly nodes: readonly NodeView[];
      readonly tombstones: readonly model.Tombstone[];
    }
  | {
      readonly kind: 'delta';
      readonly revision: number;
      readonly network: model.Network | undefined;
      readonly networkRevision: number;
      /** Of the network, when that is there. */
      readonly ruleset: Ruleset | undefined;
      readonly nodes: readonly NodeView[];
      readonly tombstones: readonly model.Tombstone[];
    }
  | { readonly kind: 'deleted'; readonly revision: number };

interface NetworkEntry {
  network: { value: model.Network; revision: number; createRevision: number } | undefined;
  ruleset: { value: Ruleset | undefined; revision: number };
  readonly members: Set<string>;
  readonly records: Map<string, { value: model.StoredRecord; revision: number }>;
  readonly names: Map<string, { value: model.StoredNames; revision: number }>;
  readonly grants: Map<string, { value: StoredGrant; revision: number }>;
  /** Who announces a public key, the first one when there are several. */
  readonly keyHolders: Map<string, string>;
  /** Of nodes of other domains: the revision since which they are granted something. */
  readonly admittedSince: Map<string, number>;
  readonly tombstones: Map<string, { value: model.Tombstone; revision: number }>;
  /** Per node: the revision of the last change that its watchers see. */
  readonly changedAt: Map<string, number>;
}

const VIEWED = [
  '/federations/',
  '/networks/',
  '/nodes/',
  '/members/',
  '/records/',
  '/names/',
  '/tombstones/',
  '/liveness/',
  '/rulesets/',
  '/grants/',
];

export class RegistryView {
  #revision = 0;
  /** Of what ended before this revision nothing is known, only that it is not there. */
  #loadedAt = 0;
  readonly #networks = new Map<string, NetworkEntry>();
  readonly #nodes = new Map<string, model.Node>();
  /** The domains that there is a federation with. */
  readonly #federated = new Set<string>();
  readonly #alive = new Set<string>();
  readonly #networksOf = new Map<string, Set<string>>();

  /** The ranges that `load` takes. */
  static readonly reads = VIEWED.map((prefix) => ({ prefix }));

  get revision(): number {
    return this.#revision;
  }
  get aliveNodes(): ReadonlySet<string> {
    return this.#alive;
  }

  /** Starts from a whole read of `RegistryView.reads`. */
  load(result: ReadResult): void {
    this.#networks.clear();
    this.#nodes.clear();
    this.#federated.clear();
    this.#alive.clear();
    this.#networksOf.clear();
    // Members first: liveness touches the networks its node is on.
    const entries = [...result.entries].sort(
      (a, b) =>
        Number(a.key.startsWith(below.liveness)) - Number(b.key.startsWith(below.liveness)) ||
        a.modRevision - b.modRevision,
    );
    for (const { key, value, createRevision, modRevision } of entries) {
      this.#apply(key, value, createRevision, modRevision, new Set());
    }
    this.#revision = result.revision;
    this.#loadedAt = result.revision;
  }

  /** Takes the next batch; answers the networks whose watchers should look again. */
  apply(batch: Batch): ReadonlySet<string> {
    const touched = new Set<string>();
    for (const { key, value, createRevision } of batch.changes) {
      this.#apply(key, value, createRevision, batch.revision, touched);
    }
    this.#revision = batch.revision;
    return touched;
  }

  ruleset(network: string): Ruleset | undefined {
    return this.#networks.get(network)?.ruleset.value;
  }

  node(name: string): model.Node | undefined {
    return this.#nodes.get(name);
  }

  isFederated(domain: string): boolean {
    return this.#federated.has(domain);
  }

  isOnAnyNetwork(node: string): boolean {
    return (this.#networksOf.get(node)?.size ?? 0) > 0;
  }

  isMember(network: string, node: string): boolean {
    return this.#networks.get(network)?.members.has(node) ?? false;
  }

  /** Who announces the public key on the network. */
  keyHolder(network: string, publicKey: string): string | undefined {
    return this.#networks.get(network)?.keyHolders.get(publicKey);
  }

  /**
   * The revision since which a node is told who is on the network; undefined: it is told of itself alone. A node of another
   * domain is only as long as something of it is admitted there: else a partner whose rule was taken away would go on
   * looking.
   */
  seesOthersSince(network: string, node: string): number | undefined {
    if (foreignDomainOf(node) === undefined) return 0;
    return this.#networks.get(network)?.admittedSince.get(node);
  }

  /** `only`: a node that is told of nobody but itself. */
  snapshot(name: string, only?: string): NetworkStep {
    const entry = this.#networks.get(name);
    if (entry?.network === undefined) return { kind: 'deleted', revision: this.#revision };
    return {
      kind: 'snapshot',
      revision: this.#revision,
      network: entry.network.value,
      networkRevision: entry.network.revision,
      ruleset: entry.ruleset.value,
      nodes: [...membersOf(entry, only)].map((node) => this.#nodeView(entry, node, 0)),
      tombstones: [...tombstonesOf(entry, only)].map(({ value }) => value),
    };
  }

  /**
   * What changed after a revision, undefined when nothing did. A network that was made anew since is told as a
   * snapshot. After the view itself was loaded anew, whatever is not alive is told again: when it died is not known. `only`: as
   * of a snapshot.
   */
  since(name: string, revision: number, only?: string): NetworkStep | undefined {
    const entry = this.#networks.get(name);
    if (entry?.network === undefined) return { kind: 'deleted', revision: this.#revision };
    if (entry.network.createRevision > revision) return this.snapshot(name, only);
    const nodes: NodeView[] = [];
    for (const node of membersOf(entry, only)) {
      const changed = (entry.changedAt.get(node) ?? 0) > revision;
      if (changed || (revision < this.#loadedAt && !this.#alive.has(node))) {
        nodes.push(this.#nodeView(entry, node, revision));
      }
    }
    const tombstones: model.Tombstone[] = [];
    for (const tombstone of tombstonesOf(entry, only)) {
      if (tombstone.revision > revision) tombstones.push(tombstone.value);
    }
    const isNew = Math.max(entry.network.revision, entry.ruleset.revision) > revision;
    const network = isNew ? entry.network.value : undefined;
    if (nodes.length === 0 && tombstones.length === 0 && network === undefined) return undefined;
    return {
      kind: 'delta',
      revision: this.#revision,
      network,
      networkRevision: entry.network.revision,
      ruleset: entry.ruleset.value,
      nodes,
      tombstones,
    };
  }

  /** For a watcher that has seen the revision: a node that only died or came back is told without its record, a hundredth. */
  #nodeView(entry: NetworkEntry, node: string, seen: number): NodeView {
    const record = entry.records.get(node);
    const names = entry.names.get(node);
    const grant = entry.grants.get(node);
    return {
      node,
      record: record !== undefined && record.revision > seen ? record.value : undefined,
      alive: this.#alive.has(node),
      names: names !== undefined && names.revision > seen ? names.value : undefined,
      grant: grant !== undefined && grant.revision > seen ? grant.value : undefined,
    };
  }

  #entry(name: string): NetworkEntry {
    let entry = this.#networks.get(name);
    if (entry === undefined) {
      entry = {
        network: undefined,
        ruleset: { value: undefined, revision: 0 },
        members: new Set(),
        records: new Map(),
        names: new Map(),
        grants: new Map(),
        keyHolders: new Map(),
        admittedSince: new Map(),
        tombstones: new Map(),
        changedAt: new Map(),
      };
      this.#networks.set(name, entry);
    }
    return entry;
  }

  #apply(
    key: string,
    value: Uint8Array | undefined,
    createRevision: number,
    revision: number,
    touched: Set<string>,
  ): void {
    const [kind, first, second] = partsOf(key);
    if (first === undefined) return;
    const decode = <T>(schema: z.ZodType<T>) =>
      value === undefined ? undefined : model.decodeValue(schema, value, key);
    if (kind === 'networks') {
      const network = decode(model.network);
      if (network === undefined) this.#networks.delete(first);
      else this.#entry(first).network = { value: network, revision, createRevision };
      touched.add(first);
    } else if (kind === 'rulesets') {
      const value = decode(ruleset);
      if (value === undefined && !this.#networks.has(first)) return;
      this.#entry(first).ruleset = { value, revision };
      touched.add(first);
    } else if (kind === 'nodes') {
      const node = decode(model.node);
      if (node === undefined) this.#nodes.delete(first);
      else this.#nodes.set(first, node);
      // Not a change that watchers see, but the node's own watches may have to end.
      for (const network of this.#networksOf.get(first) ?? []) touched.add(network);
    } else if (kind === 'federations') {
      if (decode(federation)?.activeSince === undefined) this.#federated.delete(first);
      else this.#federated.add(first);
      for (const [node, networks] of this.#networksOf)
        if (foreignDomainOf(node) === first) for (const network of networks) touched.add(network);
    } else if (kind === 'liveness') {
      if ((value !== undefined) === this.#alive.has(first)) return;
      if (value === undefined) this.#alive.delete(first);
      else this.#alive.add(first);
      for (const network of this.#networksOf.get(first) ?? []) {
        changed(this.#entry(network), first, revision);
        touched.add(network);
      }
    } else if (second !== undefined && (value !== undefined || this.#networks.has(first))) {
      this.#applyOfNode(kind, first, second, decode, revision, touched);
    }
  }

  #applyOfNode(
    kind: string | undefined,
    network: string,
    node: string,
    decode: <T>(schema: z.ZodType<T>) => T | undefined,
    revision: number,
    touched: Set<string>,
  ): void {
    const entry = this.#entry(network);
    if (kind === 'members') {
      const networks = this.#networksOf.get(node) ?? new Set();
      this.#networksOf.set(node, networks);
      if (decode(model.member) === undefined) {
        entry.members.delete(node);
        entry.changedAt.delete(node);
        networks.delete(network);
        if (networks.size === 0) this.#networksOf.delete(node);
      } else {
        entry.members.add(node);
        changed(entry, node, revision);
        networks.add(network);
      }
    } else if (kind === 'records') {
      const record = decode(model.storedRecord);
      holdKey(entry.keyHolders, node, entry.records.get(node)?.value.publicKey, record?.publicKey);
      if (record === undefined) entry.records.delete(node);
      else entry.records.set(node, { value: record, revision });
      if (record !== undefined || entry.members.has(node)) changed(entry, node, revision);
    } else if (kind === 'names') {
      const names = decode(model.storedNames);
      if (names === undefined) entry.names.delete(node);
      else entry.names.set(node, { value: names, revision });
      if (names !== undefined || entry.members.has(node)) changed(entry, node, revision);
    } else if (kind === 'grants') {
      const grant = decode(storedGrant);
      if (grant === undefined) entry.grants.delete(node);
      else entry.grants.set(node, { value: grant, revision });
      if (grant !== undefined) changed(entry, node, revision);
      if (foreignDomainOf(node) !== undefined) noteAdmitted(entry, node, grant, revision);
    } else if (kind === 'tombstones') {
      const tombstone = decode(model.tombstone);
      if (tombstone === undefined) entry.tombstones.delete(node);
      else entry.tombstones.set(node, { value: tombstone, revision });
    } else {
      return;
    }
    touched.add(network);
  }
}

const membersOf = ({ members }: NetworkEntry, only: string | undefined): Iterable<string> =>
  only === undefined ? members : members.has(only) ? [only] : [];

const tombstonesOf = ({ tombstones }: NetworkEntry, only: string | undefined) => {
  if (only === undefined) return tombstones.values();
  const own = tombstones.get(only);
  return own === undefined ? [] : [own];
};

/** A grant that goes on granting something changes nothing. */
const noteAdmitted = (
  { admittedSince }: NetworkEntry,
  node: string,
  grant: StoredGrant | undefined,
  revision: number,
): void => {
  if (grant === undefined || !grantsAnything(grant)) admittedSince.delete(node);
  else if (!admittedSince.has(node)) admittedSince.set(node, revision);
};

const grantsAnything = ({ grant }: StoredGrant): boolean => {
  const { isWhole = false, addresses = [] } = readGrant(fromBase64(grant)) ?? {};
  return isWhole || addresses.length > 0;
};

const holdKey = (
  holders: Map<string, string>,
  node: string,
  before: string | undefined,
  now: string | undefined,
): void => {
  if (before !== undefined && before !== now && holders.get(before) === node) holders.delete(before);
  if (now !== undefined && !holders.has(now)) holders.set(now, node);
};

/** Loading meets a node's keys in no particular order: the latest change counts. */
const changed = (entry: NetworkEntry, node: string, revision: number): void => {
  entry.changedAt.set(node, Math.max(revision, entry.changedAt.get(node) ?? 0));
};
