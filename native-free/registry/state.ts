// What a rule decides from: the entries it asked for, all of one revision, read as typed values. Asking for a key that
// was not read is a mistake in the rule and throws, since absence would look like a fact.

import type { z } from 'zod';
import { type AdmissionRule, admissionRule } from '../admission/rule.ts';
import { Vl3Error } from '../error.ts';
import * as admission from './admission-model.ts';
import * as federation from './federation-model.ts';
import { below, keys } from './keys.ts';
import * as model from './model.ts';
import type { Compare, Entry, Range, ReadResult } from './transaction.ts';

/** A value with the revision it was last written at. */
export interface Stored<T> {
  readonly key: string;
  readonly value: T;
  readonly revision: number;
  readonly lease: string | undefined;
}

export class State {
  readonly revision: number;
  readonly #ranges: readonly Range[];
  readonly #entries = new Map<string, Entry>();
  readonly #decoded: DecodedValues | undefined;

  /** `decoded` saves reading the same values again and again; values are never changed in place. */
  constructor(ranges: readonly Range[], result: ReadResult, decoded?: DecodedValues) {
    this.#decoded = decoded;
    this.revision = result.revision;
    this.#ranges = ranges;
    for (const entry of result.entries) this.#entries.set(entry.key, entry);
  }

  domain(): Stored<model.Domain> | undefined {
    return this.#one(model.domain, keys.domain);
  }
  clock(): Stored<model.Clock> | undefined {
    return this.#one(model.clock, keys.clock);
  }
  report(node: string): Stored<model.Report> | undefined {
    return this.#one(model.report, keys.report(node));
  }
  reports(): Stored<model.Report>[] {
    return this.#all(model.report, below.reports);
  }
  network(name: string): Stored<model.Network> | undefined {
    return this.#one(model.network, keys.network(name));
  }
  networks(): Stored<model.Network>[] {
    return this.#all(model.network, below.networks);
  }
  node(name: string): Stored<model.Node> | undefined {
    return this.#one(model.node, keys.node(name));
  }
  nodes(): Stored<model.Node>[] {
    return this.#all(model.node, below.nodes);
  }
  token(id: string): Stored<model.Token> | undefined {
    return this.#one(model.token, keys.token(id));
  }
  tokens(): Stored<model.Token>[] {
    return this.#all(model.token, below.tokens);
  }
  operator(name: string): Stored<model.Operator> | undefined {
    return this.#one(model.operator, keys.operator(name));
  }
  operators(): Stored<model.Operator>[] {
    return this.#all(model.operator, below.operators);
  }
  clusterEnrolment(node: string): Stored<model.ClusterEnrolment> | undefined {
    return this.#one(model.clusterEnrolment, keys.clusterEnrolment(node));
  }
  clusterEnrolments(): Stored<model.ClusterEnrolment>[] {
    return this.#all(model.clusterEnrolment, below.clusterEnrolments);
  }
  federation(domain: string): Stored<federation.Federation> | undefined {
    return this.#one(federation.federation, keys.federation(domain));
  }
  federations(): Stored<federation.Federation>[] {
    return this.#all(federation.federation, below.federations);
  }
  partnerBundle(domain: string): Stored<federation.PartnerBundle> | undefined {
    return this.#one(federation.partnerBundle, keys.partnerBundle(domain));
  }
  partnerBundles(): Stored<federation.PartnerBundle>[] {
    return this.#all(federation.partnerBundle, below.partnerBundles);
  }
  member(network: string, node: string): Stored<model.Member> | undefined {
    return this.#one(model.member, keys.member(network, node));
  }
  members(network?: string): Stored<model.Member>[] {
    return this.#all(model.member, below.members(network));
  }
  lease(network: string, prefix: string): Stored<model.Lease> | undefined {
    return this.#one(model.lease, keys.lease(network, prefix));
  }
  leases(network?: string): Stored<model.Lease>[] {
    return this.#all(model.lease, below.leases(network));
  }
  record(network: string, node: string): Stored<model.StoredRecord> | undefined {
    return this.#one(model.storedRecord, keys.record(network, node));
  }
  names(network: string, node: string): Stored<model.StoredNames> | undefined {
    return this.#one(model.storedNames, keys.names(network, node));
  }
  attachments(network?: string, node?: string): Stored<model.Attachment>[] {
    return this.#all(model.attachment, below.attachments(network, node));
  }
  /** `prefix`: one of `below.attachments`. */
  attachmentsBelow(prefix: string): Stored<model.Attachment>[] {
    return this.#all(model.attachment, prefix);
  }
  tombstone(network: string, node: string): Stored<model.Tombstone> | undefined {
    return this.#one(model.tombstone, keys.tombstone(network, node));
  }
  tombstones(network?: string): Stored<model.Tombstone>[] {
    return this.#all(model.tombstone, below.tombstones(network));
  }
  liveness(node: string): Stored<model.Liveness> | undefined {
    return this.#one(model.liveness, keys.liveness(node));
  }
  sighting(node: string): Stored<model.Sighting> | undefined {
    return this.#one(model.sighting, keys.sighting(node));
  }

  ruleset(network: string): Stored<admission.Ruleset> | undefined {
    return this.#one(admission.ruleset, keys.ruleset(network));
  }
  rulesets(): Stored<admission.Ruleset>[] {
    return this.#all(admission.ruleset, below.rulesets);
  }
  admissionRules(network?: string): Stored<AdmissionRule>[] {
    return this.#all(admissionRule, below.admissionRules(network));
  }
  decisions(network: string, node: string): Stored<admission.HeldDecision>[] {
    return this.#all(admission.heldDecision, below.decisions(network, node));
  }
  grant(network: string, node: string): Stored<admission.StoredGrant> | undefined {
    return this.#one(admission.storedGrant, keys.grant(network, node));
  }
  logHead(): Stored<admission.LogHead> | undefined {
    return this.#one(admission.logHead, keys.logHead);
  }

  logHeadOf(of: string): Stored<admission.OwnLogHead> | undefined {
    return this.#one(admission.ownLogHead, keys.logHeadOf(of));
  }
  refusalTally(network: string, of: string): Stored<admission.RefusalTally> | undefined {
    return this.#one(admission.refusalTally, keys.refusals(network, of));
  }
  refusals(): Stored<admission.RefusalTally>[] {
    return this.#all(admission.refusalTally, below.refusals);
  }

  /** Holds while the key is as it was read (0: still absent). */
  unchanged(key: string): Compare {
    this.#mustCover(key);
    return { kind: 'revision-is', key, revision: this.#entries.get(key)?.modRevision ?? 0 };
  }

  /** Holds while nothing was written below the prefix since it was read. */
  noneNewer(prefix: string): Compare {
    this.#mustCover(prefix);
    return { kind: 'none-newer', prefix, revision: this.revision };
  }

  #one<T>(schema: z.ZodType<T>, key: string): Stored<T> | undefined {
    this.#mustCover(key);
    const entry = this.#entries.get(key);
    return entry && this.#stored(schema, entry);
  }

  #all<T>(schema: z.ZodType<T>, prefix: string): Stored<T>[] {
    this.#mustCover(prefix);
    const found: Stored<T>[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.key.startsWith(prefix)) found.push(this.#stored(schema, entry));
    }
    return found;
  }

  #stored<T>(schema: z.ZodType<T>, entry: Entry): Stored<T> {
    const { key, modRevision: revision, lease } = entry;
    const decode = () => model.decodeValue(schema, entry.value, key);
    const value = this.#decoded === undefined ? decode() : this.#decoded.get(schema, entry, decode);
    return { key, value, revision, lease };
  }

  #mustCover(wanted: string): void {
    const covered = this.#ranges.some((range) =>
      'key' in range ? range.key === wanted : wanted.startsWith(range.prefix),
    );
    if (!covered) throw new Vl3Error('internal', `a rule looked at ${wanted}, which it did not read`);
  }
}

/** Decoded values by key, good while the key has the revision they were decoded at. One store's only. */
export class DecodedValues {
  readonly #bySchema = new Map<z.ZodType, Map<string, { revision: number; value: unknown }>>();
  readonly #limit: number;

  /** `limit`: how many values of one kind are kept before starting over. */
  constructor(limit = 100_000) {
    this.#limit = limit;
  }

  get<T>(schema: z.ZodType<T>, { key, modRevision }: Entry, decode: () => T): T {
    let values = this.#bySchema.get(schema);
    if (values === undefined || values.size >= this.#limit) {
      values = new Map();
      this.#bySchema.set(schema, values);
    }
    const known = values.get(key);
    // Only `decode` of this schema ever puts a value under it.
    if (known?.revision === modRevision) return known.value as T;
    const value = decode();
    values.set(key, { revision: modRevision, value });
    return value;
  }
}
