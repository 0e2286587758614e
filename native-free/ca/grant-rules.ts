// What a signer apart grants a node on a network: the prefixes that no other node's grant names, and of them all, or what the
// network's rules admit of the node's own word. The registry says which prefixes it has in mind, and nothing else counts. A node of
// another domain is granted nothing beyond what an admin invited that to, and single addresses only.

import { admitsWholeNode, decide } from '../admission/decision.ts';
import { ascending, MAX_GRANTED_ADDRESSES } from '../admission/grant.ts';
import { type AdmissionRule, HOME_RULE, homeRule, MAX_RULES } from '../admission/rule.ts';
import { Vl3Error } from '../error.ts';
import {
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
} from '../ipam/prefix.ts';
import type { DocumentStore } from '../reconcile/document-store.ts';
import { foreignDomainOf, nodeNameOf } from '../registry/foreign-key.ts';
import {
  MAX_FOREIGN_ADDRESSES,
  MAX_FOREIGN_ATTACHMENTS,
  MAX_FOREIGN_NODES,
} from '../registry/foreign-rules.ts';
import { MAX_LEASES } from '../registry/model.ts';
import { nextSequence } from '../registry/record.ts';
import type { Attestation } from './attestation.ts';
import { ATTESTED, GRANTED, type KnownNetwork, LEASE, NETWORK, NODE, type SignedLease } from './ledger.ts';
import { mustBeAdmitted } from './partner-rules.ts';

/** Of all networks: as many as a domain of ten thousand nodes has on several of them. */
const MAX_LEDGER_LEASES = 131_072;
const MAX_LEDGER_GRANTS = 131_072;
/**
 * Of one node on one network, with those that it gave back and that have not rested: it comes and goes more often than it
 * grows.
 */
const MAX_BOOKED = MAX_LEASES * 4;
/** An older one that lasts longer must not come after it. */
const REMEMBERED_MS = 90 * 24 * 60 * 60 * 1000;
/** As far as clocks of a registry and its signer may differ. */
const SEQUENCE_AHEAD_MS = 60 * 60 * 1000;

export interface GrantRequest {
  readonly network: string;
  readonly networkUid: string;
  /** `<node>@<domain>`, if it is of another domain. */
  readonly node: string;
  readonly prefixes: readonly string[];
  /** Of the grant before, as the registry has it. */
  readonly sequence: number;
  /** When the grant ends, and how long its prefixes rest after that (ms). */
  readonly notAfter: number;
  readonly restMs: number;
}

export interface Granted {
  readonly isWhole: boolean;
  readonly addresses: string[];
  readonly prefixes: string[];
  readonly sequence: number;
}

const refuse = (why: string): Vl3Error =>
  new Vl3Error('permission-denied', `the signer grants nothing: ${why}`);

const networkOf = (store: DocumentStore, network: string, uid?: string): KnownNetwork => {
  const known = store.get(NETWORK, network);
  if (known === undefined)
    throw refuse(
      `no admin registered network "${network}" with it: \`vl3 ca register-network ${network}\` does`,
    );
  if (uid !== undefined && known.uid !== uid)
    throw refuse(`network "${network}" is ${known.uid} to it, and not ${uid}: it was made anew without it`);
  return known;
};

/** Decides, and writes down whose the prefixes are from now on. One transaction. */
export const grantTo = (store: DocumentStore, home: string, request: GrantRequest, now: number): Granted =>
  store.transact(() => {
    const { network, networkUid, node, notAfter, restMs } = request;
    const known = networkOf(store, network, networkUid);
    const { node: name, trustDomain = home } = nodeNameOf(node);
    const isForeign = trustDomain !== home;
    if (!isForeign && store.get(NODE, node)?.revokedAt !== undefined)
      throw refuse(`node "${node}" was revoked`);
    const prefixes = [...new Set(request.prefixes.map((one) => formatPrefix(parsePrefix(one))))].sort(
      ascending,
    );
    if (prefixes.length > MAX_LEASES * 2) throw refuse(`a node has at most ${MAX_LEASES * 2} prefixes`);
    const leases = leasesOf(store, known.uid).filter((one) => one.until > now);
    if (isForeign) mustBeAdmitted(store, { network, node, prefixes, leases }, now);
    lease(store, known, leases, { node, prefixes, until: notAfter + restMs });
    const sequence = nextOf(store, request, now);
    const rules = known.isOpen ? [homeRule(network, home), ...known.rules] : known.rules;
    const subject = { trustDomain, node: name, cluster: '' };
    if (!isForeign && admitsWholeNode(rules, subject) !== undefined)
      return { isWhole: true, addresses: [], prefixes, sequence };
    const own = prefixes.map(parsePrefix);
    const attested = store.get(ATTESTED, `${networkUid} ${node}`);
    const admitted = attested === undefined || attested.notAfter <= now ? [] : attested.attachments;
    const addresses = admitted
      .filter((one) => decide(rules, { ...subject, ...one }).rule !== undefined)
      .flatMap((one) => one.addresses)
      .filter((address) => own.some((prefix) => prefixContains(prefix, parseAddress(address))));
    const most = isForeign ? MAX_FOREIGN_ATTACHMENTS * MAX_FOREIGN_ADDRESSES : MAX_GRANTED_ADDRESSES;
    return {
      isWhole: false,
      addresses: [...new Set(addresses)].sort(ascending).slice(0, most),
      prefixes,
      sequence,
    };
  });

/**
 * Past the last one, whatever a registry says that was: a grant of a year ahead would keep all later ones out. Only where
 * nothing is on record, as in a ledger that was lost, its word counts for a little.
 */
const nextOf = (
  store: DocumentStore,
  { networkUid, node, sequence: asked, notAfter }: GrantRequest,
  now: number,
): number => {
  const key = `${networkUid} ${node}`;
  const before = store.get(GRANTED, key);
  if (before === undefined && store.list(GRANTED).length >= MAX_LEDGER_GRANTS)
    throw full(`it has ${MAX_LEDGER_GRANTS} grants on record that have not ended`);
  const last = Math.max(before?.sequence ?? 0, Math.min(asked, now + SEQUENCE_AHEAD_MS));
  const sequence = nextSequence(last, 0, now);
  store.put(GRANTED, key, { sequence, until: Math.max(before?.until ?? 0, notAfter) });
  return sequence;
};

const full = (why: string): Vl3Error =>
  new Vl3Error(
    'resource-exhausted',
    `the signer grants nothing more: ${why}, which is the most (does a registry ask for what nobody needs?)`,
  );

/** Each prefix is one node's until the end of the last grant that names it, whatever anybody says meanwhile. */
const lease = (
  store: DocumentStore,
  { uid, pools }: KnownNetwork,
  /** Of the network, those that have not ended. */
  leases: readonly SignedLease[],
  {
    node,
    prefixes,
    until,
  }: { readonly node: string; readonly prefixes: readonly string[]; readonly until: number },
): void => {
  const within = pools.map(parsePrefix);
  const others = leases.filter((one) => one.node !== node);
  const booked = new Set(leases.filter((one) => one.node === node).map(({ prefix }) => prefix));
  let total: number | undefined;
  for (const text of prefixes) {
    const prefix = parsePrefix(text);
    if (!within.some((pool) => prefixCovers(pool, prefix)))
      throw refuse(`${text} lies in no pool of the network`);
    const holder = others.find((one) => prefixesOverlap(rangeOf(one), prefix));
    if (holder !== undefined)
      throw refuse(
        `${text} is node "${holder.node}"'s until ${new Date(holder.until).toISOString()} (${holder.prefix}), unless that is deleted`,
      );
    const key = `${uid} ${text}`;
    const before = store.get(LEASE, key);
    if (before === undefined) {
      booked.add(text);
      total = (total ?? store.list(LEASE).length) + 1;
      if (booked.size > MAX_BOOKED)
        throw full(`node "${node}" has, or had lately, ${MAX_BOOKED} prefixes of network ${uid}`);
      if (total > MAX_LEDGER_LEASES) throw full(`it has ${MAX_LEDGER_LEASES} leases on record`);
    }
    const lasting = before?.node === node ? Math.max(before.until, until) : until;
    store.put(LEASE, key, { networkUid: uid, prefix: text, node, until: lasting });
  }
};

const ranges = new WeakMap<SignedLease, Prefix>();

/** Parsed once: each grant looks at all leases of its network, and a ledger that keeps them in memory gives the same ones again. */
const rangeOf = (one: SignedLease): Prefix => {
  let range = ranges.get(one);
  if (range === undefined) {
    range = parsePrefix(one.prefix);
    ranges.set(one, range);
  }
  return range;
};

const leasesOf = (store: DocumentStore, uid: string): SignedLease[] =>
  store
    .list(LEASE)
    .map(({ value }) => value)
    .filter((one) => one.networkUid === uid);

/** Frees what ended, and what was a node's that was revoked: what was said in its name is void, however far ahead it said so. */
export const forgetLeases = (store: DocumentStore, now: number, revoked?: string): void =>
  store.transact(() => {
    for (const { name, value } of store.list(LEASE))
      if (value.until <= now || value.node === revoked) store.delete(LEASE, name);
    // One that is behind a later one could be put before it as long as it lasts.
    for (const { name, value } of store.list(GRANTED))
      if (value.until !== undefined && value.until <= now) store.delete(GRANTED, name);
    for (const { name, value } of store.list(ATTESTED))
      if (value.notAfter + REMEMBERED_MS <= now || (revoked !== undefined && name.endsWith(` ${revoked}`)))
        store.delete(ATTESTED, name);
  });

/** Of one node of another domain on one network, characters. */
const MAX_FOREIGN_ATTESTATION = 131_072;
/** Of all nodes and networks. */
const MAX_ATTESTED = 32_768;

/** What a node has signed, as it was verified; `node` as the ledger calls it. An older one changes nothing. */
export const noteAttested = (store: DocumentStore, node: string, attestation: Attestation): void =>
  store.transact(() => {
    const { networkUid, attachments, sequence, notAfter } = attestation;
    const domain = foreignDomainOf(node);
    if (domain !== undefined) mustBeSmall(attestation);
    const key = `${networkUid} ${node}`;
    const before = store.get(ATTESTED, key);
    if ((before?.sequence ?? 0) >= sequence) return;
    if (before === undefined) {
      const present = store.list(ATTESTED);
      if (present.length >= MAX_ATTESTED)
        throw full(`it keeps what ${MAX_ATTESTED} nodes signed of their attachments`);
      const ofDomain = present.filter(({ name }) => domain !== undefined && name.endsWith(`@${domain}`));
      if (ofDomain.length >= MAX_FOREIGN_NODES)
        throw full(`it keeps what ${MAX_FOREIGN_NODES} nodes of ${domain} signed of their attachments`);
    }
    store.put(ATTESTED, key, { attachments, sequence, notAfter });
  });

const mustBeSmall = ({ attachments }: Attestation): void => {
  const isSmall =
    attachments.length <= MAX_FOREIGN_ATTACHMENTS &&
    attachments.every(({ addresses }) => addresses.length <= MAX_FOREIGN_ADDRESSES) &&
    JSON.stringify(attachments).length <= MAX_FOREIGN_ATTESTATION;
  if (!isSmall)
    throw refuse(
      `a node of another domain has at most ${MAX_FOREIGN_ATTACHMENTS} attachments of ${MAX_FOREIGN_ADDRESSES} addresses on a network, in ${MAX_FOREIGN_ATTESTATION} characters`,
    );
};

export const uidOf = (store: DocumentStore, network: string): string => networkOf(store, network).uid;

export const registerNetwork = (
  store: DocumentStore,
  {
    network,
    uid,
    pools,
  }: { readonly network: string; readonly uid: string; readonly pools: readonly string[] },
): void =>
  store.transact(() => {
    const known = store.get(NETWORK, network);
    const isSame = known?.uid === uid && known.pools.join() === pools.join();
    if (known !== undefined && !isSame)
      throw new Vl3Error(
        'already-exists',
        `the signer knows another network "${network}" (${known.uid}, ${known.pools.join(' ')}): delete that first`,
      );
    if (store.list(NETWORK).some((one) => one.value.uid === uid && one.name !== network))
      throw new Vl3Error('already-exists', `another network has the uid ${uid}`);
    if (known === undefined) store.put(NETWORK, network, { uid, pools: [...pools], isOpen: true, rules: [] });
  });

/** With all that it signed for it: a network of that name that is made later is another one. */
export const withdrawNetwork = (store: DocumentStore, network: string): void =>
  store.transact(() => {
    const known = store.get(NETWORK, network);
    if (known === undefined) return;
    store.delete(NETWORK, network);
    const isOfIt = ({ name }: { readonly name: string }): boolean => name.startsWith(`${known.uid} `);
    for (const { name } of store.list(LEASE).filter(isOfIt)) store.delete(LEASE, name);
    for (const { name } of store.list(ATTESTED).filter(isOfIt)) store.delete(ATTESTED, name);
  });

export const registerRule = (store: DocumentStore, rule: AdmissionRule): void =>
  store.transact(() => {
    const known = networkOf(store, rule.network);
    if (rule.name === HOME_RULE) return store.put(NETWORK, rule.network, { ...known, isOpen: true });
    const rules = [...known.rules.filter((one) => one.name !== rule.name), rule];
    if (rules.length > MAX_RULES)
      throw new Vl3Error('resource-exhausted', `a network has at most ${MAX_RULES} rules`);
    store.put(NETWORK, rule.network, { ...known, rules });
  });

export const withdrawRule = (store: DocumentStore, network: string, name: string): void =>
  store.transact(() => {
    const known = networkOf(store, network);
    if (name === HOME_RULE) store.put(NETWORK, network, { ...known, isOpen: false });
    else store.put(NETWORK, network, { ...known, rules: known.rules.filter((one) => one.name !== name) });
  });
