// Which SVIDs a signer apart signs, by its ledger alone: whatever a registry repeats that it has seen.

import { expect, test } from 'vitest';
import { admitByToken, registerToken, revokeNode } from '../../../native-free/ca/issue-rules.ts';
import { MemoryDocuments } from './memory-documents.ts';

const TOKEN = 'a'.repeat(64);
const KEY = 'b'.repeat(64);

test('a node that was revoked does not come back by the token that it enrolled with, whomever that was for', () => {
  for (const node of [undefined, 'n1']) {
    const store = new MemoryDocuments();
    const value = { key: 'AAAA', expiresAt: 1000, ...(node !== undefined && { node }) };
    registerToken(store, TOKEN, value, 0);
    const enrol = (): void => admitByToken(store, { tokenId: TOKEN, node: 'n1', keyHash: KEY }, 1);
    enrol();
    // The answer got lost: it may ask again.
    enrol();
    revokeNode(store, 'n1', 2);
    expect(enrol).toThrow(/no admin registered this join token|used already/);
  }
});
