// Which SVIDs a signer apart signs: a first one for whoever has a join token that an admin registered with it, a later one for
// whoever has the key of the present one. Each function is one transaction of the ledger.

import { Vl3Error } from '../error.ts';
import type { DocumentStore } from '../reconcile/document-store.ts';
import { MAX_CERTIFICATES } from '../registry/model.ts';
import { parseName } from '../registry/spiffe-id.ts';
import { type IssuedNode, NODE, TOKEN, type Token } from './ledger.ts';

export interface Certificate {
  readonly serial: string;
  readonly notAfter: number;
}

const NEW_TOKEN = 'ask the admin for a new one (`vl3 token create`)';

const refuse = (why: string): Vl3Error => new Vl3Error('permission-denied', `the signer refuses it: ${why}`);

/** The token by which an enrolment has to be proven. Throws Vl3Error('permission-denied') when there is none. */
export const tokenOf = (store: DocumentStore, tokenId: string): Token => {
  const token = store.get(TOKEN, tokenId);
  if (token === undefined) throw refuse(`no admin registered this join token with it: ${NEW_TOKEN}`);
  return token;
};

/** Uses up the token for a node and the key (SHA-256, hex) of its request; the same may ask again. The proof was checked. */
export const admitByToken = (
  store: DocumentStore,
  { tokenId, node, keyHash }: { readonly tokenId: string; readonly node: string; readonly keyHash: string },
  now: number,
): void =>
  store.transact(() => {
    parseName('node', node);
    const token = tokenOf(store, tokenId);
    if (token.expiresAt <= now) throw refuse(`the join token has expired: ${NEW_TOKEN}`);
    if (token.node !== undefined && token.node !== node)
      throw refuse(`the join token admits only the node "${token.node}"`);
    if (token.usedByKey !== undefined) {
      if (token.usedBy === node && token.usedByKey === keyHash) return;
      throw refuse(`the join token was used already: ${NEW_TOKEN}`);
    }
    const known = store.get(NODE, node);
    if (known !== undefined && known.revokedAt === undefined && token.node === undefined)
      throw refuse(
        `a node "${node}" exists: take another name, or a token made for it (\`vl3 token create --node ${node}\`)`,
      );
    // What enrolled it before enrols nobody again, whoever has that key.
    for (const { name, value } of store.list(TOKEN)) if (value.usedBy === node) store.delete(TOKEN, name);
    store.put(TOKEN, tokenId, { ...token, usedBy: node, usedByKey: keyHash });
    const before = known === undefined ? [] : [...known.refused, ...known.issued];
    const refused = unexpired(before, now).slice(-MAX_CERTIFICATES * 4);
    store.put(NODE, node, { issued: [], refused });
  });

/** Whether the node may renew by the certificate whose key signed its request. One that was never heard of has it from before. */
export const admitRenewal = (store: DocumentStore, node: string, serial: string): void => {
  const known = store.get(NODE, node);
  if (known?.revokedAt !== undefined) throw refuse(`node "${node}" was revoked: ${NEW_TOKEN}`);
  if (known?.refused.some((one) => one.serial === serial))
    throw refuse(`this SVID of node "${node}" is from an earlier enrolment`);
};

/** Notes what was signed for it. */
export const noteIssued = (store: DocumentStore, node: string, issued: Certificate, now: number): void =>
  store.transact(() => {
    const known: IssuedNode = store.get(NODE, node) ?? { issued: [], refused: [] };
    const kept = unexpired(known.issued, now);
    if (kept.length >= MAX_CERTIFICATES)
      throw new Vl3Error(
        'resource-exhausted',
        `node "${node}" has ${MAX_CERTIFICATES} SVIDs that have not expired: enrol it anew (\`vl3 token create --node\`)`,
      );
    store.put(NODE, node, { ...known, issued: [...kept, issued] });
  });

export const registerToken = (
  store: DocumentStore,
  tokenId: string,
  token: Pick<Token, 'key' | 'node' | 'expiresAt'>,
  now: number,
): void =>
  store.transact(() => {
    if (store.get(TOKEN, tokenId) !== undefined)
      throw new Vl3Error('already-exists', 'this join token is registered already');
    for (const { name, value } of store.list(TOKEN)) if (value.expiresAt <= now) store.delete(TOKEN, name);
    store.put(TOKEN, tokenId, token);
  });

/** By its hash, or the start of that, which is the token's id at the registry. */
export const withdrawToken = (store: DocumentStore, id: string): void =>
  store.transact(() => {
    for (const { name } of store.list(TOKEN)) if (name.startsWith(id)) store.delete(TOKEN, name);
  });

/** It renews nothing any more; a token that is registered from now on lets it in again. */
export const revokeNode = (store: DocumentStore, node: string, now: number): void =>
  store.transact(() => {
    const known = store.get(NODE, node) ?? { issued: [], refused: [] };
    store.put(NODE, node, { ...known, revokedAt: now });
    // Those made for it before are for whoever stole it as well.
    for (const { name, value } of store.list(TOKEN))
      if (value.node === node || value.usedBy === node) store.delete(TOKEN, name);
  });

const unexpired = (certificates: readonly Certificate[], now: number): Certificate[] =>
  certificates.filter(({ notAfter }) => notAfter > now);
