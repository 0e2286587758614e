// Where a node keeps the grants of one network over a restart.

import type { GrantBookDependencies } from '../admission/grant-book.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import type { DocumentStore } from './document-store.ts';
import { GRANT } from './documents.ts';

/** `network`: as this node calls it. */
export const savedGrants = (documents: DocumentStore, network: string): GrantBookDependencies['saved'] => {
  const start = `${network}/`;
  return {
    list: () =>
      documents
        .list(GRANT)
        .filter(({ name }) => name.startsWith(start))
        .map(({ name, value: { grant, signature, certificateChain, acceptedAt } }) => ({
          node: name.slice(start.length),
          signed: {
            record: fromBase64(grant),
            signature: fromBase64(signature),
            certificateChain: certificateChain.map(fromBase64),
          },
          acceptedAt,
        })),
    put: (node, { record, signature, certificateChain }, acceptedAt) =>
      documents.put(GRANT, start + node, {
        grant: toBase64(record),
        signature: toBase64(signature),
        certificateChain: certificateChain.map(toBase64),
        acceptedAt,
      }),
    delete: (node) => documents.delete(GRANT, start + node),
  };
};
