// What identities are made of and read from: join tokens, certificates, chains, certificate requests, PEM,
// addresses of registries, and signed records.

import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatHostPort } from '../../../native-free/host-port.ts';
import {
  decodeVerified,
  encodeRecord,
  type NodeRecord,
  type SignedRecord,
} from '../../../native-free/registry/record.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { CLIENT_AUTH, parseCertificate } from '../../../src/identity/certificate.ts';
import {
  createCertificateRequest,
  readCertificateRequest,
} from '../../../src/identity/certificate-request.ts';
import { verifyChain } from '../../../src/identity/chain.ts';
import { createIdentity, type Identity } from '../../../src/identity/identity.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { fromPem, toPem } from '../../../src/identity/pem.ts';
import { createRecordVerifier, type RecordContent, signRecord } from '../../../src/identity/record-signer.ts';
import { isHost, parseRegistryAddress } from '../../../src/identity/registry-address.ts';
import { createTokenSecret, formatJoinToken, parseJoinToken } from '../../../src/identity/token.ts';
import type { Source } from '../source.ts';
import { accepted, acceptedLater, must, mustEqual, type OpenTarget, pure, type Target } from '../target.ts';
import { derTarget } from './der.ts';

const DOMAIN = 'fuzz.example';
const BAD = ['invalid-argument'] as const;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

// --- what needs no CA

const SECRET = createTokenSecret();
const TOKEN = formatJoinToken({
  registries: ['registry.example:7443', '[2001:db8::1]:7443'],
  trustDomain: DOMAIN,
  caFingerprint: new Uint8Array(32).fill(7),
  secret: SECRET,
});

const fuzzToken = (source: Source): void => {
  const text = source.chance(128) ? source.textLike([TOKEN, `  ${TOKEN}\n`], 200) : resealed(source);
  const token = accepted(BAD, () => parseJoinToken(text));
  if (token === undefined) return;
  mustEqual(token.caFingerprint.length, 32, 'the fingerprint');
  must(token.registries.length > 0 && token.registries.length <= 16, 'no registry, or too many');
  for (const registry of token.registries)
    mustEqual(formatHostPort(parseRegistryAddress(registry)), registry, 'a registry');
  const again = formatJoinToken(token);
  mustEqual(parseJoinToken(again), token, 'the token there and back');
};

/** A token with a right check, whose JSON is anything. */
const resealed = (source: Source): string => {
  const [, encoded = ''] = TOKEN.split('.');
  const json = Buffer.from(encoded, 'base64url').subarray(2, -4);
  const changed = source.mutated(new Uint8Array(json), 3);
  const body = Buffer.concat([Buffer.from([changed.length >> 8, changed.length & 255]), changed]);
  const check = createHash('sha256').update(body).digest().subarray(0, 4);
  return `vl3j1.${Buffer.concat([body, check]).toString('base64url')}`;
};

const ADDRESSES = [
  'registry.example:7443',
  '192.0.2.1',
  '192.0.2.1:1',
  '[2001:db8::1]:65535',
  '[::ffff:1.2.3.4]',
  'a_b.example',
  '1.2.3.400',
  '[fe80::1%eth0]:1',
];

const fuzzRegistryAddress = (source: Source): void => {
  const text = source.textLike(ADDRESSES, 60);
  const address = accepted(BAD, () => parseRegistryAddress(text));
  if (address === undefined) return;
  must(isHost(address.host), 'a host that is none');
  must(Number.isInteger(address.port) && address.port >= 1 && address.port <= 65_535, 'a port that is none');
  mustEqual(parseRegistryAddress(formatHostPort(address)), address, 'the address there and back');
  const url = new URL(`https://${formatHostPort(address)}`);
  mustEqual(
    [url.pathname, url.username, url.search, url.hash],
    ['/', '', '', ''],
    'nothing but a host in the URL',
  );
};

// --- what needs one

class WithCa implements OpenTarget {
  readonly #directory: string;
  readonly #run: (source: Source) => void | Promise<void>;

  static async open(run: (parts: Parts, source: Source) => void | Promise<void>): Promise<WithCa> {
    const directory = await mkdtemp(join(tmpdir(), 'vl3t-fuzz-'));
    const ca = await CertificateAuthority.open({ directory: join(directory, 'ca'), trustDomain: DOMAIN });
    const other = await CertificateAuthority.open({
      directory: join(directory, 'other'),
      trustDomain: DOMAIN,
    });
    const privateKey = await generateKey();
    const request = await createCertificateRequest(privateKey);
    const identity = async (signer: CertificateAuthority): Promise<Identity> => {
      const { trustBundle } = signer;
      const certificateChain = await signer.signNodeSvid(request, 'n1');
      const registries = ['192.0.2.1:7443'];
      return createIdentity(
        { kind: 'node', name: 'n1', registries, trustBundle, privateKey, certificateChain },
        Date.now(),
      );
    };
    const parts = { ca, request, privateKey, identity: await identity(ca), stranger: await identity(other) };
    return new WithCa(directory, (source) => run(parts, source));
  }

  private constructor(directory: string, run: (source: Source) => void | Promise<void>) {
    this.#directory = directory;
    this.#run = run;
  }

  run(source: Source): void | Promise<void> {
    return this.#run(source);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}

interface Parts {
  readonly ca: CertificateAuthority;
  readonly request: Uint8Array;
  readonly privateKey: KeyObject;
  readonly identity: Identity;
  readonly stranger: Identity;
}

const withCa = (
  name: string,
  about: string,
  maxLength: number,
  run: (parts: Parts, source: Source) => void | Promise<void>,
): Target => ({
  name,
  about,
  maxLength,
  open: () => WithCa.open(run),
});

const leafOf = (identity: Identity): Uint8Array => identity.certificateChain[0] ?? new Uint8Array(0);
const caOf = (ca: CertificateAuthority): Uint8Array => ca.trustBundle.certificates[0] ?? new Uint8Array(0);

const fuzzCertificate = ({ ca, identity, stranger }: Parts, source: Source): void => {
  const good = [leafOf(identity), caOf(ca), leafOf(stranger)];
  const der = source.mutated(source.pick(good), source.pick([1, 1, 3]));
  const certificate = accepted(BAD, () => parseCertificate(der));
  const isOurs = good.slice(0, 2).some((one) => hex(one) === hex(der));
  if (certificate === undefined) {
    must(!isOurs, 'a good certificate was refused');
    return;
  }
  mustEqual(typeof certificate.notAfter, 'number', 'the end');
  // Whoever has not the CA's key makes no chain that holds, whatever is changed.
  const chain = source.pick([[der], [der, caOf(ca)], [leafOf(identity), der], [der, leafOf(identity)]]);
  const now = Date.now();
  const result = verifyChain(chain, ca.trustBundle, now, CLIENT_AUTH);
  if (result.kind === 'refused') {
    must(result.message.length > 3, 'no reason');
    return;
  }
  mustEqual(result.id, { kind: 'node', trustDomain: DOMAIN, name: 'n1' }, 'whom a chain names');
  mustEqual(
    hex(
      result.leaf.x509.fingerprint256 === parseCertificate(leafOf(identity)).x509.fingerprint256
        ? leafOf(identity)
        : der,
    ),
    hex(leafOf(identity)),
    'the leaf of a chain that holds',
  );
};

const fuzzRequest = async ({ request, privateKey }: Parts, source: Source): Promise<void> => {
  const der = source.mutated(request, 2);
  const key = await acceptedLater(BAD, () => readCertificateRequest(der));
  if (key === undefined) {
    must(hex(der) !== hex(request), 'a good request was refused');
    return;
  }
  // A key that can be changed without the private key's consent would be somebody else's.
  const wanted = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  mustEqual(hex(key.export({ type: 'spki', format: 'der' })), hex(wanted), 'the key of a request');
};

const fuzzPem = ({ identity, ca }: Parts, source: Source): void => {
  const good = toPem([leafOf(identity), caOf(ca)]);
  const text = source.textLike([good, good.replaceAll('\n', '\r\n'), `${good}\n# and more`], 300);
  const found = accepted(['failed-precondition'], () => fromPem(text, 'here'));
  if (found === undefined) return;
  mustEqual(
    fromPem(toPem(found.filter((one) => one.length > 0)).concat(toPem([Uint8Array.of(1)])), 'here').length,
    found.filter((one) => one.length > 0).length + 1,
    'the certificates there and back',
  );
};

const CONTENT: RecordContent = {
  network: 'red',
  networkUid: 'uid-1',
  publicKey: Buffer.alloc(32, 9).toString('base64'),
  prefixes: [
    { prefix: '10.60.1.0/24', leasedAt: 1 },
    { prefix: 'fd00:60::100/120', leasedAt: 2 },
  ],
  endpoints: [
    { address: '203.0.113.7', port: 51820, scope: 'public' },
    { address: '192.168.1.7', port: 51820, scope: 'site', site: '203.0.113.7' },
  ],
  sequence: 5,
};
const EXPECTED = { network: 'red', networkUid: 'uid-1', home: DOMAIN };

const someContent = (source: Source): RecordContent => ({
  ...CONTENT,
  ...(source.chance(60) && { network: source.textLike(['red', 'blue'], 70) }),
  ...(source.chance(60) && { networkUid: source.text(70) }),
  ...(source.chance(60) && { publicKey: source.textLike([CONTENT.publicKey], 50) }),
  ...(source.chance(60) && { sequence: source.number() }),
  ...(source.chance(80) && {
    prefixes: Array.from({ length: source.between(0, 5) }, () => ({
      prefix: source.textLike(
        ['10.60.1.0/24', '10.60.1.0/25', '10.60.2.0/24', 'fd00:60::/64', '0.0.0.0/0', '::/0', '10.60.1.1/24'],
        20,
      ),
      leasedAt: source.number(),
    })),
  }),
  ...(source.chance(80) && {
    endpoints: Array.from({ length: source.between(0, 18) }, () => ({
      address: source.textLike(
        ['203.0.113.7', '2001:db8::1', '127.0.0.1', '::ffff:10.0.0.1', 'fe80::1', '224.0.0.1', '2001:DB8::1'],
        20,
      ),
      port: source.number(),
      scope: source.pick(['public', 'site'] as const),
      ...(source.chance(128) && { site: source.pick(['203.0.113.9', 'x']) }),
    })),
  }),
});

const fuzzRecord = ({ ca, identity, stranger }: Parts, source: Source): void => {
  const now =
    identity.notBefore +
    source.pick([
      -1,
      0,
      1000,
      identity.notAfter - identity.notBefore - 1,
      identity.notAfter - identity.notBefore,
    ]);
  const verify = createRecordVerifier(ca.trustBundle);
  const content = someContent(source);
  const signer = source.chance(240) ? identity : stranger;
  const signed = accepted(BAD, () => signRecord(signer, content));
  if (signed === undefined) return;
  if (source.chance(100)) {
    // The verifier has seen this chain: it must not be more trusting for that.
    decodeVerified(signed, verify, identity.notBefore + 1000, EXPECTED);
  }
  const hostile = source.chance(100) ? signed : changedRecord(signed, identity, source);
  const result = decodeVerified(hostile, verify, now, EXPECTED);
  mustEqual(
    decodeVerified(hostile, createRecordVerifier(ca.trustBundle), now, EXPECTED),
    result,
    'what a fresh verifier says',
  );
  if (result.kind === 'refused') {
    must(result.message.length > 10, 'no reason');
    return;
  }
  must(signer === identity, 'a stranger is believed');
  const { record } = result;
  mustEqual(hex(encodeRecord(record)), hex(hostile.record), 'the one canonical form');
  mustEqual(hex(hostile.record), hex(signed.record), 'a record that was not signed');
  must(
    record.network === 'red' && record.networkUid === 'uid-1' && record.node === 'n1',
    'a record of something else',
  );
  must(record.notBefore <= now && now < record.notAfter, 'a record out of its time');
  must(Number.isSafeInteger(record.sequence) && record.sequence > 0, 'a sequence that does not count');
};

const changedRecord = (signed: SignedRecord, identity: Identity, source: Source): SignedRecord => {
  const [leaf = new Uint8Array(0)] = signed.certificateChain;
  switch (source.between(0, 5)) {
    case 0:
      return { ...signed, record: source.mutated(signed.record, 2) };
    case 1:
      return { ...signed, signature: source.mutated(signed.signature, 2) };
    case 2:
      return { ...signed, certificateChain: [source.mutated(leaf, 2)] };
    case 3: {
      const at = source.between(0, leaf.length);
      return { ...signed, certificateChain: [leaf.slice(0, at), leaf.slice(at)] };
    }
    case 4:
      return {
        ...signed,
        certificateChain: Array.from({ length: source.between(0, 5) }, () =>
          source.pick([leaf, ...identity.trustBundle.certificates, new Uint8Array(0)]),
        ),
      };
    default:
      return { record: source.some(100), signature: source.some(70), certificateChain: [source.some(40)] };
  }
};

/** A verifier that believes anyone: what is parsed then is anything at all. */
const fuzzRecordText = (source: Source): void => {
  const record: NodeRecord = {
    ...someContent(source),
    trustDomain: DOMAIN,
    node: 'n1',
    notBefore: 0,
    notAfter: 2000,
  };
  const json = new TextEncoder().encode(source.chance(100) ? source.text(300) : JSON.stringify(record));
  const bytes = source.mutated(json, 2);
  const signed = { record: bytes, signature: new Uint8Array(64), certificateChain: [] };
  const result = decodeVerified(
    signed,
    () => ({ trustDomain: DOMAIN, node: 'n1', notAfter: 2000 }),
    1000,
    EXPECTED,
  );
  if (result.kind === 'accepted')
    mustEqual(hex(encodeRecord(result.record)), hex(bytes), 'the one canonical form');
};

export const identityTargets: readonly Target[] = [
  pure('token', 'a join token is read whole or refused with a sentence', 300, fuzzToken),
  derTarget,
  pure(
    'registry-address',
    'an address of a registry is a host and a port and nothing else',
    100,
    fuzzRegistryAddress,
  ),
  pure('record-text', 'a record is taken in its one canonical form alone', 500, fuzzRecordText),
  withCa(
    'certificate',
    'no change makes a certificate or a chain hold that its CA did not sign',
    60,
    fuzzCertificate,
  ),
  withCa('certificate-request', 'a request names the key that signed it, or is refused', 60, fuzzRequest),
  withCa('pem', 'PEM is read or refused', 400, fuzzPem),
  withCa('record', 'a record is believed only as it was signed, by whom, and when it holds', 400, fuzzRecord),
];
