// The verified node records of one network, kept in the agent's state as the exact bytes received. What is accepted,
// dropped and when is decided in native-free/registry/record-book.ts.

import type { Logger } from 'pino';
import type { Moment } from '../../native-free/moment.ts';
import { RECORD, type RecordDocument } from '../../native-free/reconcile/documents.ts';
import type { SignedRecord, VerifierOf } from '../../native-free/registry/record.ts';
import * as book from '../../native-free/registry/record-book.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import type { AgentState } from './state.ts';

export interface RecordBookDeps {
  readonly state: AgentState;
  readonly verifierOf: VerifierOf;
  readonly logger: Logger;
}

export class RecordBook extends book.RecordBook {
  /** Loads what was saved under the network's key, and verifies it. */
  constructor(
    { key, ...options }: book.RecordBookOptions & { readonly key: string },
    { state, verifierOf, logger }: RecordBookDeps,
    now: Moment,
  ) {
    const saved = savedRecords(state, `${key}/`);
    const report: book.RecordBookDependencies['report'] = (what, node, reason) =>
      logger[what === 'refused' ? 'warn' : 'info']({ network: key, node, reason }, `record ${what}`);
    super(options, { saved, verifierOf, report }, now);
  }
}

const savedRecords = (state: AgentState, start: string): book.SavedRecords => ({
  list: () =>
    state
      .list(RECORD)
      .filter(({ name }) => name.startsWith(start))
      .map(({ name, value }) => ({
        node: name.slice(start.length),
        signed: toSigned(value),
        acceptedAt: value.acceptedAt,
      })),
  put: (node, signed, acceptedAt) => state.put(RECORD, start + node, { ...toDocument(signed), acceptedAt }),
  delete: (node) => state.delete(RECORD, start + node),
});

const toDocument = (signed: SignedRecord): RecordDocument => ({
  record: toBase64(signed.record),
  signature: toBase64(signed.signature),
  certificateChain: signed.certificateChain.map(toBase64),
});

const toSigned = (document: RecordDocument): SignedRecord => ({
  record: fromBase64(document.record),
  signature: fromBase64(document.signature),
  certificateChain: document.certificateChain.map(fromBase64),
});
