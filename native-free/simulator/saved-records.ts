// Where a simulated node keeps the records of one network over a restart.

import { fromBase64, toBase64 } from '../base64.ts';
import { RECORD } from '../reconcile/documents.ts';
import type { SavedRecords } from '../registry/record-book.ts';
import type { Documents } from './documents.ts';

export const savedRecords = (documents: Documents, network: string): SavedRecords => {
  const start = `${network}/`;
  return {
    list: () =>
      documents
        .list(RECORD)
        .filter(({ name }) => name.startsWith(start))
        .map(({ name, value }) => ({
          node: name.slice(start.length),
          signed: {
            record: fromBase64(value.record),
            signature: fromBase64(value.signature),
            certificateChain: value.certificateChain.map(fromBase64),
          },
          acceptedAt: value.acceptedAt,
        })),
    put: (node, signed, acceptedAt) =>
      documents.put(RECORD, start + node, {
        record: toBase64(signed.record),
        signature: toBase64(signed.signature),
        certificateChain: signed.certificateChain.map(toBase64),
        acceptedAt,
      }),
    delete: (node) => documents.delete(RECORD, start + node),
  };
};
