import { sign } from 'node:crypto';
import { expect, test } from 'vitest';
import { decodeVerifiedGrant, encodeGrant, GRANT_CONTEXT } from '../../../native-free/admission/grant.ts';
import { type SignedRecord, signingInput } from '../../../native-free/registry/record.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { createGrantVerifier, GrantSigner } from '../../../src/identity/grant-signer.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { createServerCredential } from '../../../src/identity/tls.ts';
import { temporaryDirectory } from '../registry/fixture.ts';

const open = (trustDomain: string) =>
  CertificateAuthority.open({ directory: `${temporaryDirectory()}/ca`, trustDomain });

const content = {
  network: 'red',
  networkUid: 'uid',
  nodeDomain: 'home.example',
  node: 'n1',
  isWhole: true,
  addresses: [],
  storeId: 'store',
  sequence: 1,
};
const EXPECTED = { network: 'red', networkUid: 'uid', node: 'n1' };

test("is verified when the domain's admission identity signed it, and not when anybody else of the domain did", async () => {
  const ca = await open('home.example');
  const verify = createGrantVerifier(ca.trustBundle);
  const now = Date.now();
  const signer = await GrantSigner.create(ca);
  const good = signer.grant(content, now + 60_000);
  const kind = (signed: SignedRecord, at = now) => decodeVerifiedGrant(signed, verify, at, EXPECTED).kind;
  expect(kind(good)).toBe('accepted');
  expect(kind(good, now + 61_000)).toBe('refused');
  expect(kind({ ...good, signature: new Uint8Array(64) })).toBe('refused');

  const bytes = encodeGrant({
    ...content,
    trustDomain: 'home.example',
    notBefore: now - 1,
    notAfter: now + 60_000,
  });
  const by = (key: Awaited<ReturnType<typeof generateKey>>, certificateChain: readonly Uint8Array[]) => ({
    record: bytes,
    signature: new Uint8Array(
      sign('sha256', signingInput(GRANT_CONTEXT, bytes), { key, dsaEncoding: 'ieee-p1363' }),
    ),
    certificateChain,
  });
  const key = await generateKey();
  const request = await createCertificateRequest(key);
  expect(kind(by(key, await ca.signAdmissionCertificate(request)))).toBe('accepted');
  expect(kind(by(key, await ca.signNodeSvid(request, 'n1')))).toBe('refused');
  expect(kind(by(key, await ca.signAdminCredential(request, 'admin')))).toBe('refused');
  const server = await createServerCredential(ca, ['registry.example']);
  expect(kind(by(server.privateKey, server.certificateChain))).toBe('refused');
});

test('of another domain is not taken, and what was signed for something else neither', async () => {
  const [home, other] = [await open('home.example'), await open('partner.example')];
  const verify = createGrantVerifier(home.trustBundle);
  const now = Date.now();
  const foreign = (await GrantSigner.create(other)).grant(
    { ...content, nodeDomain: 'partner.example' },
    now + 60_000,
  );
  expect(decodeVerifiedGrant(foreign, verify, now, EXPECTED).kind).toBe('refused');
  const signer = await GrantSigner.create(home);
  const grant = encodeGrant({
    ...content,
    trustDomain: 'home.example',
    notBefore: now - 1,
    notAfter: now + 60_000,
  });
  const log = signer.sign('vl3 admission log head v1', grant);
  expect(decodeVerifiedGrant(log, verify, now, EXPECTED).kind).toBe('refused');
});
