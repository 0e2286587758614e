// RenewLeases, TestifyRecords and what a node has seen, on the simulated registry: the same rules in the same order as
// src/registry/lease-renewal.ts.

import { toBase64 } from '../base64.ts';
import { adoptNetwork } from '../registry/adoption-rules.ts';
import { all, below, keys, one } from '../registry/keys.ts';
import { check, name as nameSchema, type Report } from '../registry/model.ts';
import { decodeVerified, type SignedRecord, type VerifyRecord } from '../registry/record.ts';
import { finishReport, recoveryOf } from '../registry/recovery-rules.ts';
import { disownMembership, type Holding, type LeaseAnswer, renewHolding } from '../registry/renewal-rules.ts';
import { mustBeMember, mustBeNetwork } from '../registry/rules.ts';
import { State } from '../registry/state.ts';
import { testify } from '../registry/testimony-rules.ts';
import type { Range } from '../registry/transaction.ts';
import type { DurableStore } from './durable-store.ts';
import { TRUST_DOMAIN } from './signer.ts';

export interface RenewalAnswer {
  readonly answers: readonly (LeaseAnswer & { readonly network: string })[];
  readonly recovering: boolean;
}

const stateOf = (store: DurableStore, ranges: readonly Range[]): State =>
  new State(ranges, store.read(ranges));

export const isRecovering = (store: DurableStore): boolean =>
  recoveryOf(stateOf(store, [one(keys.domain)])) !== undefined;

export const renewAll = (
  store: DurableStore,
  node: string,
  holdings: readonly Holding[],
  now: number,
): RenewalAnswer => {
  const answers: (LeaseAnswer & { readonly network: string })[] = [];
  const pending: Report['pending'] = [];
  const conflicts: string[] = [];
  if (isRecovering(store)) {
    for (const { network } of holdings) {
      const adoption = store.run(adoptNetwork(node, network));
      if (adoption.kind === 'refused') conflicts.push(adoption.reason.slice(0, 512));
    }
  }
  for (const holding of holdings) {
    const network = holding.network.name;
    const renewal = store.run(renewHolding(node, holding, now));
    for (const answer of renewal.answers) {
      answers.push({ ...answer, network });
      const isExpired = holding.leases.find(({ prefix }) => prefix === answer.prefix)?.isExpired ?? false;
      if (answer.outcome === 'pending' && !isExpired) pending.push({ network, prefix: answer.prefix });
    }
    conflicts.push(...renewal.conflicts.map((conflict) => conflict.slice(0, 512)));
  }
  if (!isRecovering(store)) return { answers, recovering: false };
  const named = new Set(holdings.map(({ network }) => network.name));
  for (const { value } of stateOf(store, [all(below.members())]).members())
    if (value.node === node && !named.has(value.network))
      store.run(disownMembership(value.network, node, now));
  const found = { pending: pending.slice(0, 128), conflicts: conflicts.slice(0, 16) };
  return { answers, recovering: store.run(finishReport(node, found)).recovering };
};

/** Answers how many records were restored. */
export const testifyAll = (
  store: DurableStore,
  witness: string,
  network: string,
  records: readonly SignedRecord[],
  verify: VerifyRecord,
  now: number,
): number => {
  check(nameSchema, network, 'network');
  const state = stateOf(store, [one(keys.network(network)), one(keys.member(network, witness))]);
  mustBeMember(state, network, witness);
  const { value } = mustBeNetwork(state, network);
  if (!isRecovering(store)) return 0;
  let restored = 0;
  for (const signed of records) {
    const decoded = decodeVerified(signed, verify, now, {
      network,
      networkUid: value.uid,
      home: TRUST_DOMAIN,
    });
    if (decoded.kind === 'refused') continue;
    const { node, sequence, prefixes, notAfter } = decoded.record;
    const record = {
      record: toBase64(signed.record),
      signature: toBase64(signed.signature),
      certificateChain: signed.certificateChain.map(toBase64),
      sequence,
      prefixes,
      notAfter,
    };
    const certificate = { serial: `of ${node} by testimony`, notAfter };
    const spiffeId = `spiffe://x/node/${node}`;
    const testimony = { network, networkUid: value.uid, node, spiffeId, certificate, record };
    if (store.run(testify(witness, testimony, now)) === 'restored') restored++;
  }
  return restored;
};
