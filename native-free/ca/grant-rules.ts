// What a signer apart grants a node on a network: the prefixes that no other node's grant names, and of them all, or what the
// network's rules admit of the node's own word. The registry says which prefixes it has in mind, and nothing else counts.

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
import { MAX_LEASES } from '../registry/model.ts';
import type { Attestation } from './attestation.ts';
import { ATTESTED, type KnownNetwork, LEASE, NETWORK, NODE, type SignedLease } from './ledger.ts';

export interface GrantRequest {
  readonly network: string;
  readonly networkUid: string;
  readonly node: string;
  readonly prefixes: readonly string[];
  /** When the grant ends, and how long its prefixes rest after that (ms). */
  readonly notAfter: number;
  readonly restMs: number;
}

export interface Granted {
  readonly isWhole: boolean;
  readonly addresses: string[];
  readonly prefixes: string[];
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
    if (store.get(NODE, node)?.revokedAt !== undefined) throw refuse(`node "${node}" was revoked`);
    const prefixes = [...new Set(request.prefixes.map((one) => formatPrefix(parsePrefix(one))))].sort(
      ascending,
    );
    if (prefixes.length > MAX_LEASES * 2) throw refuse(`a node has at most ${MAX_LEASES * 2} prefixes`);
    lease(store, known, { node, prefixes, until: notAfter + restMs }, now);
    const rules = known.isOpen ? [homeRule(network, home), ...known.rules] : known.rules;
    const subject = { trustDomain: home, node, cluster: '' };
    if (admitsWholeNode(rules, subject) !== undefined) return { isWhole: true, addresses: [], prefixes };
    const own = prefixes.map(parsePrefix);
    const attested = store.get(ATTESTED, `${networkUid} ${node}`);
    const admitted = attested === undefined || attested.notAfter <= now ? [] : attested.attachments;
    const addresses = admitted
      .filter((one) => decide(rules, { ...subject, ...one }).rule !== undefined)
      .flatMap((one) => one.addresses)
      .filter((address) => own.some((prefix) => prefixContains(prefix, parseAddress(address))));
    return {
      isWhole: false,
      addresses: [...new Set(addresses)].sort(ascending).slice(0, MAX_GRANTED_ADDRESSES),
      prefixes,
    };
  });

/** Each prefix is one node's until the end of the last grant that names it, whatever anybody says meanwhile. */
const lease = (
  store: DocumentStore,
  { uid, pools }: KnownNetwork,
  {
    node,
    prefixes,
    until,
  }: { readonly node: string; readonly prefixes: readonly string[]; readonly until: number },
  now: number,
): void => {
  const within = pools.map(parsePrefix);
  const others = leasesOf(store, uid).filter((one) => one.until > now && one.node !== node);
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

/** Frees what ended, and what was a node's that was revoked. */
export const forgetLeases = (store: DocumentStore, now: number, revoked?: string): void =>
  store.transact(() => {
    for (const { name, value } of store.list(LEASE))
      if (value.until <= now || value.node === revoked) store.delete(LEASE, name);
  });

/** What a node has signed, as it was verified. An older one changes nothing. */
export const noteAttested = (store: DocumentStore, attestation: Attestation): void =>
  store.transact(() => {
    const { networkUid, node, attachments, sequence, notAfter } = attestation;
    const key = `${networkUid} ${node}`;
    if ((store.get(ATTESTED, key)?.sequence ?? 0) >= sequence) return;
    store.put(ATTESTED, key, { attachments, sequence, notAfter });
  });

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
