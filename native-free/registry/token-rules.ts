// Join tokens: made by an admin, used once, before they expire. Only the secret's hash is stored; the token's id is the
// start of that hash, so that a secret finds its token without a search.

import { Vl3Error } from '../error.ts';
import { all, below, keys, one } from './keys.ts';
import { check, name as nameSchema, TOKEN_ID, type Token, token as tokenSchema } from './model.ts';
import { put, type Rule, settled } from './rules.ts';
import { MAX_OPERATIONS } from './transaction.ts';

export const DEFAULT_TOKEN_TTL_MS = 60 * 60 * 1000;
export const MAX_TOKEN_TTL_MS = 7 * 24 * 60 * 60 * 1000;

/** The public name of the token whose secret has this SHA-256 (hex). */
export const tokenId = (hash: string): string => hash.slice(0, 16);

/** `hash`: SHA-256 of a fresh random secret, hex. `node` '': any. `ttlMs` undefined: the default. */
export const createToken = (
  request: { readonly hash: string; readonly node: string; readonly ttlMs: number | undefined },
  now: number,
): Rule<Token> => {
  const ttlMs = request.ttlMs ?? DEFAULT_TOKEN_TTL_MS;
  if (!(ttlMs >= 1000 && ttlMs <= MAX_TOKEN_TTL_MS)) {
    throw new Vl3Error('invalid-argument', 'ttl: use 1 second to 7 days');
  }
  const token = check(
    tokenSchema,
    {
      id: tokenId(request.hash),
      hash: request.hash,
      ...(request.node !== '' && { node: check(nameSchema, request.node, 'node') }),
      createdAt: now,
      expiresAt: now + ttlMs,
    },
    'token',
  );
  const key = keys.token(token.id);
  return {
    reads: [one(key)],
    decide: (state) => ({
      compares: [state.unchanged(key)],
      operations: [put(key, tokenSchema, token)],
      answer: token,
    }),
  };
};

/** A revoked token admits nobody; repeated, it does nothing. */
export const revokeToken = (id: string, now: number): Rule<void> => {
  if (!TOKEN_ID.test(id)) {
    throw new Vl3Error('invalid-argument', 'id: use the 16 digits that `vl3 token list` shows');
  }
  const key = keys.token(id);
  return {
    reads: [one(key)],
    decide: (state) => {
      const token = state.token(id)?.value;
      if (token === undefined)
        throw new Vl3Error('not-found', `there is no token ${id}: see \`vl3 token list\``);
      if (token.revokedAt !== undefined) return settled(undefined);
      return {
        compares: [state.unchanged(key)],
        operations: [put(key, tokenSchema, { ...token, revokedAt: now })],
        answer: undefined,
      };
    },
  };
};

/** How long a token stays listed after its end. */
export const TOKEN_MEMORY_MS = 30 * 24 * 60 * 60 * 1000;

/** Forgets tokens that ended long ago, a transaction's worth at a time. They admitted nobody any more. */
export const forgetTokens = (now: number): Rule<void> => ({
  reads: [all(below.tokens)],
  decide: (state) => {
    const ended = state.tokens().filter(({ value }) => value.expiresAt + TOKEN_MEMORY_MS <= now);
    return {
      compares: [],
      operations: ended.slice(0, MAX_OPERATIONS).map(({ key }) => ({ kind: 'delete', key })),
      answer: undefined,
    };
  },
});
