// What other domains say: their bundles, as documents and as JSON, and invitations that admins paste.

import { createHash } from 'node:crypto';
import { formatBundleDocument, readBundleDocument } from '../../../native-free/federation/bundle-document.ts';
import { judgeBundle } from '../../../native-free/federation/bundle-rules.ts';
import { formatInvitation, parseInvitation } from '../../../native-free/federation/invitation.ts';
import { type Json, MalformedJson, parseStrictJson } from '../../../native-free/federation/strict-json.ts';
import { decodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import type { Source } from '../source.ts';
import { accepted, must, mustEqual, pure, type Target } from '../target.ts';

const DOMAIN = 'fuzz.example';
const BAD = ['invalid-argument'] as const;

/** Of a CA of this domain, P-256. */
const CERTIFICATE =
  'MIIBpDCCAUqgAwIBAgIQVvVMT4qxmlu68dws1P3oczAKBggqhkjOPQQDAjAhMR8wHQYDVQQDExZ2bDMgQ0Egb2YgZnV6ei5leGFtcGxlMB4XDTI2MTEyMDIyNTEyMVoXDTM2MTEyMDIyNTEyMVowITEfMB0GA1UEAxMWdmwzIENBIG9mIGZ1enouZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAERAcVyoxTcblXwp73MNrtUHy9TS9NG5j4vFt6brJO0XnswS5zQk+ps6lvuSielU6elrnMewlx16gDYIle6C3SjZDBiMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMCAGA1UdEQQZMBeGFXNwaWZmZTovL2Z1enouZXhhbXBsZTAdBgNVHQ4EFgQUevnmncjyemySDDXhIdYR7hNyyxswCgYIKoZIzj0EAwIDSAAwRQIhAPSZsPKeF+V7nqS79tnpjVzsbAYgWxR69qhWtExbgyfjAiBCYWuPUezzAz7VEb7LgjCa5MlchvH2uXpb2cG2KSOzZQ==';
const KEY = {
  x: 'AREBxXKjFNxuVfCnvcw2u1QfL1NL00bmPi8W3pusk7Q',
  y: 'XnswS5zQk-ps6lvuSielU6elrnMewlx16gDYIle6C3Q',
};
const DOCUMENT = formatBundleDocument({
  entries: [
    { der: new Uint8Array(Buffer.from(CERTIFICATE, 'base64')), key: { kty: 'EC', crv: 'P-256', ...KEY } },
  ],
  sequence: 7n,
  refreshHint: 300,
});
const DOCUMENTS = [
  DOCUMENT,
  '{"keys":[]}',
  '{"keys":[{"kty":"EC","use":"jwt-svid","kid":"k","crv":"P-256","x":"AA","y":"AA"}],"spiffe_sequence":18446744073709551615}',
  '{"keys":[{"kty":"RSA","use":"x509-svid","n":"AA","e":"AQAB","x5c":["AAAA"]}],"spiffe_refresh_hint":2419200}',
];

const fuzzBundle = (source: Source): void => {
  const text = source.chance(60)
    ? DOCUMENT.replace(/"x5c": \[\s*"[^"]*"/, `"x5c": ["${changedCertificate(source)}"`)
    : source.textLike(DOCUMENTS, 300);
  const document = accepted(BAD, () => readBundleDocument(text));
  const bundle = accepted(BAD, () => decodeSpiffeBundle(text, DOMAIN));
  if (bundle === undefined) return;
  must(document !== undefined, 'a bundle whose document is none');
  mustEqual(document.x509.length, bundle.certificates.length, 'the certificates');
  const entries = document.x509;
  const again = formatBundleDocument({ entries, sequence: bundle.sequence ?? 0n, refreshHint: 300 });
  const decoded = decodeSpiffeBundle(again, DOMAIN);
  mustEqual(
    decoded.certificates.map((one) => one.fingerprint).sort(),
    bundle.certificates.map((one) => one.fingerprint).sort(),
    'the bundle there and back',
  );
  const now = Date.now();
  const first = judgeBundle(undefined, bundle, 'endpoint', now);
  if (first.kind !== 'replaced') return;
  mustEqual(judgeBundle(first.held, bundle, 'endpoint', now).kind, 'confirmed', 'the same again');
};

const changedCertificate = (source: Source): string =>
  Buffer.from(source.mutated(new Uint8Array(Buffer.from(CERTIFICATE, 'base64')), 2)).toString('base64');

const JSONS = [
  '{"a": [1, -2.5e3, true, null, "x\\n\\u0041"], "b": {"c": {}}, "": []}',
  '{"__proto__": {"x": 1}, "constructor": 18446744073709551615}',
  '[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]',
  ' "\\ud800" ',
];

const fuzzJson = (source: Source): void => {
  const text = source.textLike(JSONS, 200);
  const said = parsed(() => JSON.parse(text) as unknown);
  const strict = parsed(() => parseStrictJson(text));
  if (strict === undefined) return;
  must(said !== undefined, 'what is no JSON was read');
  // Whoever reads it by the other reader sees the same, but for digits past 2^53.
  mustEqual(asPlain(strict.value), said.value, 'the value');
};

const parsed = <T>(read: () => T): { value: T } | undefined => {
  try {
    return { value: read() };
  } catch (error) {
    if (error instanceof MalformedJson || error instanceof SyntaxError) return undefined;
    throw error;
  }
};

const asPlain = (value: Json | undefined): unknown => {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(asPlain);
  if (typeof value !== 'object' || value === null) return value;
  const plain: Record<string, unknown> = {};
  for (const [name, one] of Object.entries(value))
    Object.defineProperty(plain, name, { value: asPlain(one), enumerable: true });
  return plain;
};

const INVITATION = formatInvitation({
  trustDomain: DOMAIN,
  registries: ['registry.example:7443', '[2001:db8::1]:7443', '192.0.2.1:7443'],
  endpoint: {
    profile: 'https_spiffe',
    url: 'https://a.example/b.json',
    spiffeId: `spiffe://${DOMAIN}/spire/server`,
  },
  caFingerprints: [new Uint8Array(32).fill(7)],
  secret: new Uint8Array(32).fill(9),
  expiresAt: 1_800_000_000_000,
  constraints: {
    trustDomain: 'partner.example',
    networks: ['red', 'blue'],
    names: ['partner'],
    prefixes: ['10.60.128.0/17', 'fd00::/64'],
  },
});

const fuzzInvitation = (source: Source): void => {
  const text = source.chance(128)
    ? source.textLike([INVITATION, `  ${INVITATION}\n`], 200)
    : resealed(source);
  const invitation = accepted(BAD, () => parseInvitation(text));
  if (invitation === undefined) return;
  mustEqual(invitation.secret.length, 32, 'the secret');
  must(invitation.constraints.trustDomain !== invitation.trustDomain, 'a domain that invites itself');
  must(invitation.endpoint.url.startsWith('https://'), 'an endpoint without TLS');
  mustEqual(parseInvitation(formatInvitation(invitation)), invitation, 'the invitation there and back');
};

/** An invitation with a right check, whose JSON is anything. */
const resealed = (source: Source): string => {
  const json = Buffer.from(INVITATION.slice('vl3f1.'.length), 'base64url').subarray(2, -4);
  const changed = source.mutated(new Uint8Array(json), 3);
  const body = Buffer.concat([Buffer.from([changed.length >> 8, changed.length & 255]), changed]);
  const check = createHash('sha256').update(body).digest().subarray(0, 4);
  return `vl3f1.${Buffer.concat([body, check]).toString('base64url')}`;
};

export const federationTargets: readonly Target[] = [
  pure('strict-json', 'means what it means to JSON.parse, or is refused', 400, fuzzJson),
  pure(
    'spiffe-bundle',
    'is taken whole or refused with a sentence, and comes back as it was',
    700,
    fuzzBundle,
  ),
  pure('invitation', 'is what it was when it was made, or is refused with a sentence', 600, fuzzInvitation),
];
