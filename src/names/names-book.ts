// The names that other nodes of one network signed, kept in the agent's state. What is accepted and dropped is decided in
// native-free/names/names-book.ts.

import type { Logger } from 'pino';
import * as book from '../../native-free/names/names-book.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { NAMES } from '../../native-free/reconcile/documents.ts';
import type { VerifierOf } from '../../native-free/registry/record.ts';
import { fromBase64, toBase64 } from '../base64.ts';

export interface NamesBookDeps {
  readonly state: DocumentStore;
  readonly verifierOf: VerifierOf;
  readonly logger: Logger;
}

export class NamesBook extends book.NamesBook {
  /** Of the network of this key. */
  constructor(
    { key, ...options }: book.NamesBookOptions & { readonly key: string },
    { state, verifierOf, logger }: NamesBookDeps,
  ) {
    const saved = savedNames(state, `${key}/`);
    super(options, {
      saved,
      verifierOf,
      report: (node, reason) => logger.warn({ network: key, node, reason }, 'names refused'),
    });
  }
}

const savedNames = (state: DocumentStore, start: string): book.NamesBookDependencies['saved'] => ({
  list: () =>
    state
      .list(NAMES)
      .filter(({ name }) => name.startsWith(start))
      .map(({ name, value: { names, signature, certificateChain, acceptedAt } }) => ({
        node: name.slice(start.length),
        signed: {
          record: fromBase64(names),
          signature: fromBase64(signature),
          certificateChain: certificateChain.map(fromBase64),
        },
        acceptedAt,
      })),
  put: (node, { record, signature, certificateChain }, acceptedAt) =>
    state.put(NAMES, start + node, {
      names: toBase64(record),
      signature: toBase64(signature),
      certificateChain: certificateChain.map(toBase64),
      acceptedAt,
    }),
  delete: (node) => state.delete(NAMES, start + node),
});
