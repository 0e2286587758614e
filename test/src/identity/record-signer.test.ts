import { sign } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  decodeVerified,
  encodeRecord,
  RECORD_CONTEXT,
  type SignedRecord,
  signingInput,
  type VerifyRecord,
} from '../../../native-free/registry/record.ts';
import { createAdminCredential } from '../../../src/identity/admin-credential.ts';
import { createRecordVerifier, type RecordContent, signRecord } from '../../../src/identity/record-signer.ts';
import { DAY, DOMAIN, enrolled, type Issued, issue, issueCa, openCa } from './fixture.ts';

const RED = { network: 'red', networkUid: 'uid-1', home: DOMAIN };
const content = (changes: Partial<RecordContent> = {}): RecordContent => ({
  ...RED,
  publicKey: Buffer.alloc(32, 7).toString('base64'),
  prefixes: [{ prefix: '10.60.1.0/24', leasedAt: 1 }],
  endpoints: [{ address: '203.0.113.4', port: 51_820, scope: 'public' }],
  sequence: 1,
  ...changes,
});

const said = (signed: SignedRecord, verify: VerifyRecord, now = Date.now(), expected = RED): string => {
  const result = decodeVerified(signed, verify, now, expected);
  return result.kind === 'refused' ? result.reason : result.kind;
};

/** A record that is signed well by whatever key and certificate this is. */
const signWith = (
  { der, key }: Issued,
  node: string,
  validity = { notBefore: Date.now() - DAY, notAfter: Date.now() + 1000 },
) => {
  const record = encodeRecord({ ...content(), trustDomain: DOMAIN, node, ...validity });
  const signature = sign('sha256', signingInput(RECORD_CONTEXT, record), { key, dsaEncoding: 'ieee-p1363' });
  return { record, signature: new Uint8Array(signature), certificateChain: [der] };
};

test('a record that a node signs holds for whoever trusts its domain, as long as its SVID', async () => {
  const ca = await openCa();
  const node = await enrolled(ca, 'n1');
  const verify = createRecordVerifier(ca.trustBundle);
  const signed = signRecord(node, content());
  expect(said(signed, verify)).toBe('accepted');
  expect(said(signed, verify, node.notAfter - 1)).toBe('accepted');
  expect(said(signed, verify, node.notAfter + 1)).toBe('unverified');
  expect(said(signed, createRecordVerifier((await openCa()).trustBundle))).toBe('unverified');
});

test('a remembered chain does not outlive its validity', async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const signed = signRecord(await enrolled(ca, 'n1'), content());
  expect(said(signed, verify)).toBe('accepted');
  expect(said(signed, verify, Date.now() + 8 * DAY)).toBe('unverified');
  expect(said(signed, verify, Date.now() - DAY)).toBe('unverified');
});

test('a swapped key, endpoint or any changed byte breaks the signature', async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const signed = signRecord(await enrolled(ca, 'n1'), content());
  const text = new TextDecoder().decode(signed.record);
  const evilKey = Buffer.alloc(32, 8).toString('base64');
  for (const changed of [
    text.replace(content().publicKey, evilKey),
    text.replace('203.0.113.4', '203.0.113.5'),
    text.replace('10.60.1.0/24', '10.60.2.0/24'),
    text.replace('"sequence":1', '"sequence":2'),
  ]) {
    expect(changed).not.toBe(text);
    expect(said({ ...signed, record: new TextEncoder().encode(changed) }, verify)).toBe('unverified');
  }
  for (let at = 0; at < 64; at++) {
    const signature = signed.signature.slice();
    signature[at] = (signature[at] ?? 0) ^ 1;
    expect(said({ ...signed, signature }, verify)).toBe('unverified');
  }
});

test('a signature of zeros, or of the curve order, proves nothing', async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const signed = signRecord(await enrolled(ca, 'n1'), content());
  const order = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551';
  for (const hex of [
    '00'.repeat(64),
    'ff'.repeat(64),
    order + order,
    `${'00'.repeat(31)}01${'00'.repeat(31)}01`,
  ]) {
    expect(said({ ...signed, signature: new Uint8Array(Buffer.from(hex, 'hex')) }, verify)).toBe(
      'unverified',
    );
  }
});

test("another node's certificate under one's own signature, and one's own under another's record, are refused", async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const [alice, eve] = [await enrolled(ca, 'alice'), await enrolled(ca, 'eve')];
  const [hers, evil] = [signRecord(alice, content()), signRecord(eve, content())];
  expect(said({ ...evil, certificateChain: hers.certificateChain }, verify)).toBe('unverified');
  expect(said({ ...hers, certificateChain: evil.certificateChain }, verify)).toBe('unverified');
  // Eve signs, with her own good key and chain, a record that says it is Alice's.
  const key = { key: eve.privateKey, dsaEncoding: 'ieee-p1363' } as const;
  const signature = new Uint8Array(sign('sha256', signingInput(RECORD_CONTEXT, hers.record), key));
  const forged = { record: hers.record, signature, certificateChain: eve.certificateChain };
  expect(said(forged, verify)).toBe('wrong-signer');
});

test('a record replayed on another network is refused', async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const signed = signRecord(await enrolled(ca, 'n1'), content());
  expect(said(signed, verify, Date.now(), { ...RED, network: 'green' })).toBe('wrong-network');
  expect(said(signed, verify, Date.now(), { ...RED, networkUid: 'uid-2' })).toBe('wrong-network');
});

test("a record for a partner's network is refused here, whatever name and uid the partner gives that, and so is one from here there", async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const node = await enrolled(ca, 'n1');
  const home = 'partner.example';
  expect(said(signRecord(node, { ...content(), home }), verify)).toBe('wrong-network');
  expect(said(signRecord(node, content()), verify, Date.now(), { ...RED, home })).toBe('wrong-network');
  expect(said(signRecord(node, { ...content(), home }), verify, Date.now(), { ...RED, home })).toBe(
    'accepted',
  );
});

test('what the key signed under another context is no record', async () => {
  const ca = await openCa();
  const node = await enrolled(ca, 'n1');
  const { record } = signRecord(node, content());
  const key = { key: node.privateKey, dsaEncoding: 'ieee-p1363' } as const;
  for (const input of [record, signingInput('vl3 something else v1', record)]) {
    const signature = new Uint8Array(sign('sha256', input, key));
    const signed = { record, signature, certificateChain: node.certificateChain };
    expect(said(signed, createRecordVerifier(ca.trustBundle))).toBe('unverified');
  }
});

test('only nodes sign records: an admin, the registry, a CA and a stranger do not', async () => {
  const ca = await issueCa();
  const verify = createRecordVerifier({ trustDomain: DOMAIN, certificates: [ca.der] });
  const uri = (path: string) => ({ uris: [`spiffe://${DOMAIN}/${path}`], issuer: ca });
  expect(said(signWith(await issue(uri('node/n1')), 'n1'), verify)).toBe('accepted');
  for (const [who, signer] of [
    ['an admin', await issue(uri('admin/n1'))],
    ['the registry', await issue(uri('registry'))],
    ['the CA itself', ca],
    ['another domain', await issue({ uris: ['spiffe://o.example/node/n1'], issuer: ca })],
    [
      'two names',
      await issue({ uris: [`spiffe://${DOMAIN}/node/n1`, `spiffe://${DOMAIN}/node/n2`], issuer: ca }),
    ],
    ['a stranger', await issue({ uris: [`spiffe://${DOMAIN}/node/n1`] })],
    ['a server only', await issue({ ...uri('node/n1'), extendedUsages: ['1.3.6.1.5.5.7.3.1'] })],
    ['an expired node', await issue({ ...uri('node/n1'), notAfter: Date.now() - 1000 })],
  ] as const) {
    expect(said(signWith(signer, 'n1'), verify), who).toBe('unverified');
  }
  const admin = await createAdminCredential(await openCa(), 'n1', ['192.0.2.1']);
  expect(admin.kind).toBe('admin');
});

test('a record that would outlive its SVID is refused', async () => {
  const ca = await issueCa();
  const verify = createRecordVerifier({ trustDomain: DOMAIN, certificates: [ca.der] });
  const svid = await issue({ uris: [`spiffe://${DOMAIN}/node/n1`], issuer: ca });
  const long = signWith(svid, 'n1', { notBefore: Date.now() - 1000, notAfter: Date.now() + 30 * DAY });
  expect(said(long, verify)).toBe('outlives-svid');
});

test('a chain that held is not believed when its bytes are cut into certificates elsewhere', async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const signed = signRecord(await enrolled(ca, 'n1'), content());
  expect(said(signed, verify)).toBe('accepted');
  const [leaf = new Uint8Array(0)] = signed.certificateChain;
  for (const certificateChain of [
    [leaf.slice(0, 9), leaf.slice(9)],
    [leaf, new Uint8Array(0)],
  ])
    expect(said({ ...signed, certificateChain }, verify)).toBe('unverified');
});

test('chains that fail are not remembered, and rubbish chains never throw', async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const signed = signRecord(await enrolled(ca, 'n1'), content());
  for (const der of [new Uint8Array(0), new Uint8Array(500), signed.certificateChain[0]?.subarray(0, 200)]) {
    if (der !== undefined) expect(said({ ...signed, certificateChain: [der] }, verify)).toBe('unverified');
  }
  expect(said(signed, verify, Date.now() - DAY)).toBe('unverified');
  expect(said(signed, verify)).toBe('accepted');
});

test('a record of a known node costs below a millisecond', async () => {
  const ca = await openCa();
  const verify = createRecordVerifier(ca.trustBundle);
  const signed = signRecord(await enrolled(ca, 'n1'), content());
  const batch = () => {
    const before = process.threadCpuUsage();
    for (let i = 0; i < 200; i++) said(signed, verify);
    const { user, system } = process.threadCpuUsage(before);
    return (user + system) / 1000;
  };
  // Of this thread's time, and the best of several: the machine may be busy.
  expect(Math.min(...Array.from({ length: 5 }, batch))).toBeLessThan(200);
});
