// Join tokens: one pasteable line that lets one node enrol. It carries where the registries are, the fingerprint of the
// domain's CA, so that the very first connection is verified, and a secret that works once. Not here: how long a token
// holds and whether it was used (native-free/registry/token-rules.ts).

import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort } from '../../native-free/host-port.ts';
import { isTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import type { DomainAddress } from './domain-address.ts';
import { parseRegistryAddress } from './registry-address.ts';

/*
 *   "vl3j1." base64url( length, 2 B big-endian | JSON, `length` B | first 4 B of SHA-256 over both )
 */
const PREFIX = 'vl3j1.';
const LENGTH_BYTES = 2;
const CHECK_BYTES = 4;
const SECRET_BYTES = 32;
const MAX_TEXT = 8192;
const MAX_ADDRESSES = 16;

export interface JoinToken extends DomainAddress {
  /** What EnrollRequest.token_secret carries: 32 random bytes in base64url. */
  readonly secret: string;
  /** The signer is apart: the secret is shown to nobody, and proven instead (svid-proofs.ts). */
  readonly isProven?: boolean;
}

const bytes32 = z.string().regex(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/);
const schema = z.strictObject({
  r: z.array(z.string().max(300)).min(1).max(MAX_ADDRESSES),
  d: z.string().refine(isTrustDomain),
  f: bytes32,
  s: bytes32,
  /** Absent in tokens that are shown. */
  p: z.literal(1).optional(),
});

export const createTokenSecret = (): string => randomBytes(SECRET_BYTES).toString('base64url');

/**
 * SHA-256 of a secret, hex: what the registry stores and looks up. Its first 16 digits are the token's id. Only hashes
 * are ever compared, so how long a comparison takes tells nothing of a secret.
 */
export const hashSecret = (secret: string): string => createHash('sha256').update(secret).digest('hex');

/** Throws Vl3Error('invalid-argument') for an address or trust domain that is none. */
export const formatJoinToken = (token: JoinToken): string => {
  const fields = schema.safeParse({
    r: token.registries.map((address) => formatHostPort(parseRegistryAddress(address))),
    d: token.trustDomain,
    f: Buffer.from(token.caFingerprint).toString('base64url'),
    s: token.secret,
    ...(token.isProven && { p: 1 }),
  });
  if (!fields.success) {
    throw new Vl3Error(
      'invalid-argument',
      `a join token takes 1 to ${MAX_ADDRESSES} registry addresses, a trust domain, a fingerprint and a secret of 32 bytes each`,
    );
  }
  const json = Buffer.from(JSON.stringify(fields.data));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt16BE(json.length);
  const body = Buffer.concat([length, json]);
  return PREFIX + Buffer.concat([body, checkBytes(body)]).toString('base64url');
};

/** Parses what a person pasted; white space around it is fine. Throws Vl3Error('invalid-argument'). */
export const parseJoinToken = (pasted: string): JoinToken => {
  const text = pasted.trim();
  if (!text.startsWith(PREFIX)) {
    throw new Vl3Error(
      'invalid-argument',
      /^vl3j\d+\./.test(text)
        ? 'the join token is of another version of vl3: upgrade vl3 on this machine'
        : 'this is not a join token: paste the whole line that `vl3 token create` printed, it starts with "vl3j1."',
    );
  }
  const encoded = text.slice(PREFIX.length);
  if (text.length > MAX_TEXT || !/^[A-Za-z0-9_-]*$/.test(encoded)) throw damaged();
  const bytes = Buffer.from(encoded, 'base64url');
  if (bytes.toString('base64url') !== encoded && !isShort(bytes)) throw damaged();
  if (isShort(bytes)) {
    throw new Vl3Error(
      'invalid-argument',
      'the join token is truncated: paste the whole line that `vl3 token create` printed',
    );
  }
  const bodyLength = LENGTH_BYTES + bytes.readUInt16BE(0);
  const body = bytes.subarray(0, bodyLength);
  const check = bytes.subarray(bodyLength);
  if (check.length !== CHECK_BYTES || !check.equals(checkBytes(body))) throw damaged();
  return readFields(body.subarray(LENGTH_BYTES));
};

const isShort = (bytes: Buffer): boolean =>
  bytes.length < LENGTH_BYTES || bytes.length < LENGTH_BYTES + bytes.readUInt16BE(0) + CHECK_BYTES;

const readFields = (json: Buffer): JoinToken => {
  try {
    const fields = schema.parse(JSON.parse(json.toString()));
    return {
      registries: fields.r.map((address) => formatHostPort(parseRegistryAddress(address))),
      trustDomain: fields.d,
      caFingerprint: new Uint8Array(Buffer.from(fields.f, 'base64url')),
      secret: fields.s,
      ...(fields.p !== undefined && { isProven: true }),
    };
  } catch {
    // Without the cause, which may quote the secret.
    throw damaged();
  }
};

const checkBytes = (body: Buffer): Buffer =>
  createHash('sha256').update(body).digest().subarray(0, CHECK_BYTES);

const damaged = (): Vl3Error =>
  new Vl3Error(
    'invalid-argument',
    'the join token is damaged (a character is missing, added or changed): paste the whole line that `vl3 token create` printed',
  );
