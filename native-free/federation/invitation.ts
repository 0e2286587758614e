// The one line that an admin gives to a partner's: where the inviting domain is, how it is known before anything was said to it, a
// secret that works once, and what the partner may bring. It carries fingerprints of the CAs, not the bundle, so that it
// stays short: whoever accepts takes the bundle from a server whose CA has one of them. Not here: whether it was used (the
// registry that made it keeps a hash of the secret).

import { sha256 } from '@noble/hashes/sha2.js';
import { z } from 'zod';
import { fromBase64, toBase64 } from '../base64.ts';
import { Vl3Error } from '../error.ts';
import { formatHostPort, type HostPort } from '../host-port.ts';
import { formatAddress, parseAddress } from '../ipam/prefix.ts';
import { isTrustDomain } from '../registry/spiffe-id.ts';
import { type FederationConstraints, federationConstraints } from './constraints.ts';
import { type BundleEndpoint, bundleEndpoint, PROFILES } from './endpoint.ts';

/*
 *   "vl3f1." or "vl3f2." base64url( length, 2 B big-endian | JSON, `length` B | first 4 B of SHA-256 over both )
 */
const PREFIX = 'vl3f1.';
/** One whose secret is proven and not shown: earlier versions, which would show it, say that they are too old. */
const PROVEN_PREFIX = 'vl3f2.';
const LENGTH_BYTES = 2;
const CHECK_BYTES = 4;
/** Of fingerprints and of the secret. */
const BYTES = 32;
const MAX_TEXT = 16_384;
const MAX_ADDRESSES = 16;
/** A domain has one CA, and two while it rotates. */
const MAX_FINGERPRINTS = 4;

export interface Invitation {
  /** Who invites. */
  readonly trustDomain: string;
  /** "host:port" of its registries; any of them will do. */
  readonly registries: readonly string[];
  readonly endpoint: BundleEndpoint;
  /** SHA-256 of the certificates of its CAs: 32 B each. */
  readonly caFingerprints: readonly Uint8Array[];
  /** 32 random bytes. */
  readonly secret: Uint8Array;
  /** By a domain whose signer is apart: its registry does not get to see the secret. Default: it does. */
  readonly isProven?: boolean;
  /** Unix ms, whole seconds. */
  readonly expiresAt: number;
  /** Of whoever accepts it. */
  readonly constraints: FederationConstraints;
}

const bytes32 = z.string().regex(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/);
const schema = z.strictObject({
  d: z.string().refine(isTrustDomain),
  r: z.array(z.string().max(300)).min(1).max(MAX_ADDRESSES),
  u: z.string().max(1024),
  p: z.enum(PROFILES),
  /** Of the bundle's server, unless it is the registry or the profile is https_web. */
  i: z.string().max(2048).optional(),
  c: z.array(bytes32).min(1).max(MAX_FINGERPRINTS),
  s: bytes32,
  /** Unix seconds. */
  e: z.int().min(1).max(253_402_300_799),
  /** The constraints: trust domain, networks, names, prefixes. */
  t: z.string(),
  n: z.array(z.string()),
  w: z.array(z.string()),
  a: z.array(z.string()),
});

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Throws Vl3Error('invalid-argument') when a part is none. */
export const formatInvitation = (invitation: Invitation): string => {
  const json = encoder.encode(JSON.stringify(fieldsOf(invitation)));
  const body = Uint8Array.from([json.length >> 8, json.length & 0xff, ...json]);
  const text =
    (invitation.isProven ? PROVEN_PREFIX : PREFIX) +
    toBase64Url(Uint8Array.from([...body, ...checkBytes(body)]));
  if (text.length > MAX_TEXT || json.length > 0xffff) throw wrong('it would be too long to be pasted');
  return text;
};

const fieldsOf = (invitation: Invitation): z.infer<typeof schema> => {
  const { trustDomain, endpoint, constraints } = invitation;
  const spiffeId = endpoint.profile === 'https_spiffe' ? endpoint.spiffeId : undefined;
  const fields = {
    d: trustDomain,
    r: invitation.registries.map(canonicalHostPort),
    u: endpoint.url,
    p: endpoint.profile,
    ...(spiffeId !== undefined && spiffeId !== registryId(trustDomain) && { i: spiffeId }),
    c: invitation.caFingerprints.map(toBase64Url),
    s: toBase64Url(invitation.secret),
    e: Math.floor(invitation.expiresAt / 1000),
    t: constraints.trustDomain,
    n: [...constraints.networks],
    w: [...constraints.names],
    a: [...constraints.prefixes],
  };
  const read = schema.safeParse(fields);
  if (!read.success) throw wrong(`"${read.error.issues[0]?.path.join('.')}" is wrong`);
  // Whatever is written can be read: the same checks.
  invitationOf(read.data);
  return read.data;
};

/** Parses what a person pasted; white space around it and line breaks in it are fine. Throws Vl3Error('invalid-argument'). */
export const parseInvitation = (pasted: string): Invitation => {
  if (pasted.length > 2 * MAX_TEXT) throw damaged();
  // Terminals and mail programs break long lines.
  const text = pasted.replace(/\s+/g, '');
  const isProven = text.startsWith(PROVEN_PREFIX);
  if (!isProven && !text.startsWith(PREFIX)) {
    throw new Vl3Error(
      'invalid-argument',
      /^vl3f\d+\./.test(text)
        ? 'the invitation is of another version of vl3: upgrade vl3 on this machine'
        : 'this is not an invitation: paste the whole line that `vl3 federation invite` printed, it starts with "vl3f1."',
    );
  }
  const bytes = fromBase64Url(text.slice(PREFIX.length));
  if (bytes === undefined || text.length > MAX_TEXT) throw damaged();
  const bodyLength = LENGTH_BYTES + ((bytes[0] ?? 0) << 8) + (bytes[1] ?? 0);
  if (bytes.length < LENGTH_BYTES + CHECK_BYTES || bytes.length < bodyLength + CHECK_BYTES) {
    throw new Vl3Error(
      'invalid-argument',
      'the invitation is truncated: paste the whole line that `vl3 federation invite` printed',
    );
  }
  // One form only: no bits past the last byte.
  if (toBase64Url(bytes) !== text.slice(PREFIX.length)) throw damaged();
  const body = bytes.subarray(0, bodyLength);
  const check = bytes.subarray(bodyLength);
  if (toBase64Url(check) !== toBase64Url(checkBytes(body))) throw damaged();
  const read = readFields(body.subarray(LENGTH_BYTES));
  return isProven ? { ...read, isProven } : read;
};

const readFields = (json: Uint8Array): Invitation => {
  try {
    return invitationOf(schema.parse(JSON.parse(decoder.decode(json))));
  } catch {
    // Without the cause, which may quote the secret.
    throw damaged();
  }
};

const invitationOf = (fields: z.infer<typeof schema>): Invitation => {
  const { d: trustDomain, u: url, p: profile, i: spiffeId } = fields;
  if (fields.t === trustDomain) throw wrong('a domain cannot invite itself');
  const constraints = federationConstraints.safeParse({
    trustDomain: fields.t,
    networks: fields.n,
    names: fields.w,
    prefixes: fields.a,
  });
  if (!constraints.success) {
    const [issue] = constraints.error.issues;
    throw wrong(`${issue?.path.join('.')} ${issue?.message}`);
  }
  return {
    trustDomain,
    registries: fields.r.map(canonicalHostPort),
    endpoint: bundleEndpoint(trustDomain, { url, profile, ...(spiffeId !== undefined && { spiffeId }) }),
    caFingerprints: fields.c.map(decoded),
    secret: decoded(fields.s),
    expiresAt: fields.e * 1000,
    constraints: constraints.data,
  };
};

/** Why it may not be accepted by this domain at this time (unix ms), as a sentence; undefined: it may. */
export const invitationProblem = (
  { trustDomain, expiresAt, constraints }: Invitation,
  ownDomain: string,
  now: number,
): string | undefined => {
  if (trustDomain === ownDomain)
    return `the invitation is of this domain, ${ownDomain}, itself: give it to ${constraints.trustDomain}`;
  if (constraints.trustDomain !== ownDomain)
    return `the invitation of ${trustDomain} is for ${constraints.trustDomain}, not for ${ownDomain}: ask there for one`;
  if (now >= expiresAt)
    return `the invitation of ${trustDomain} expired at ${new Date(expiresAt).toISOString()}: ask there for another (is the clock of this machine right?)`;
  return undefined;
};

const registryId = (trustDomain: string): string => `spiffe://${trustDomain}/registry`;

const HOST_PORT = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/;
const DNS_LABEL = /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

/** "registry.example:7443", with its port. Throws Vl3Error('invalid-argument'). */
const canonicalHostPort = (text: string): string => {
  const [, v6, plain, digits] = HOST_PORT.exec(text) ?? [];
  const port = Number(digits);
  const address: HostPort | undefined =
    v6 !== undefined
      ? { host: formatAddress(parseAddress(v6)), port }
      : plain !== undefined && isPlainHost(plain)
        ? { host: plain, port }
        : undefined;
  if (address === undefined || !(port >= 1 && port <= 65_535))
    throw wrong('a registry address is wrong: write it like registry.example:7443 or [2001:db8::1]:7443');
  return formatHostPort(address);
};

const isPlainHost = (host: string): boolean => {
  const labels = host.split('.');
  // What ends in a number is an IPv4 address to whoever writes it into a URL.
  if (/^\d+$/.test(labels.at(-1) ?? '')) return formatAddress(parseAddress(host)) === host;
  return (
    host.length <= 253 && labels.every((label) => DNS_LABEL.test(label)) && URL.canParse(`https://${host}`)
  );
};

const checkBytes = (body: Uint8Array): Uint8Array => sha256(body).subarray(0, CHECK_BYTES);

const toBase64Url = (bytes: Uint8Array): string =>
  toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');

/** Undefined when it is none. What was cut off in the middle of a byte gives the bytes before. */
const fromBase64Url = (text: string): Uint8Array | undefined => {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) return undefined;
  const whole = text.length % 4 === 1 ? text.slice(0, -1) : text;
  return fromBase64(whole.replaceAll('-', '+').replaceAll('_', '/'));
};

const decoded = (text: string): Uint8Array => {
  const bytes = fromBase64Url(text);
  if (bytes?.length !== BYTES) throw wrong('a fingerprint or the secret is not 32 bytes');
  return bytes;
};

const wrong = (why: string): Vl3Error =>
  new Vl3Error('invalid-argument', `no invitation can be made of this: ${why}`);

const damaged = (): Vl3Error =>
  new Vl3Error(
    'invalid-argument',
    'the invitation is damaged (a character is missing, added or changed): paste the whole line that `vl3 federation invite` printed',
  );
