// A domain whose signer is apart from its registry: all goes on as it does with one in the registry's process, no key of the
// CA is where the registry is, and what somebody gets signed who took the registry over.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { decodeVerifiedGrant } from '../../../native-free/admission/grant.ts';
import { RemoteSigner } from '../../../src/ca/remote-signer.ts';
import { parseCertificate } from '../../../src/identity/certificate.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { createGrantVerifier } from '../../../src/identity/grant-signer.ts';
import { renewIdentity } from '../../../src/identity/identity.ts';
import { generateKey } from '../../../src/identity/key.ts';
import type { GrantContent, SvidEvidence } from '../../../src/identity/signer.ts';
import { proveEnrolment, proveRenewal, tokenKey } from '../../../src/identity/svid-proofs.ts';
import { hashSecret } from '../../../src/identity/token.ts';
import { recordingLogger, refusal, TRUST_DOMAIN } from '../registry/fixture.ts';
import { ApartDomain } from './fixture.ts';

const SOON = { timeout: 20_000, interval: 50 };

/** What somebody has who took the registry over: its credential, and everything it sees. */
const takeOver = async (domain: ApartDomain): Promise<RemoteSigner> =>
  await RemoteSigner.open(
    { file: domain.credentialFile, trustDomain: TRUST_DOMAIN },
    { logger: recordingLogger().logger, now: Date.now },
  );

const request = async () => {
  const key = await generateKey();
  return { key, der: await createCertificateRequest(key) };
};

const asked = (change: Partial<GrantContent>): GrantContent => ({
  network: 'red',
  networkUid: '',
  nodeDomain: TRUST_DOMAIN,
  node: 'n1',
  isWhole: true,
  addresses: [],
  prefixes: ['10.60.0.0/24'],
  storeId: 'store',
  sequence: 1,
  ...change,
});

const WEEK = 7 * 86_400_000;

test('nodes enrol, renew and get their prefixes granted, and no key of the CA is where the registry is', async () => {
  const domain = await ApartDomain.start();
  const uid = await domain.createNetwork('red', '10.60.0.0/16');
  const n1 = await domain.enrol('n1');
  const [leaf] = n1.identity.certificateChain;
  expect(leaf && parseCertificate(leaf).isLeased).toBe(true);
  const { leases } = await n1.client.joinNetwork({ network: 'red' });
  const prefixes = leases.map(({ prefix }) => prefix);
  const verify = createGrantVerifier(n1.identity.trustBundle);
  await vi.waitFor(async () => {
    const stop = AbortSignal.timeout(2000);
    for await (const { step } of n1.client.watchNetwork({ network: 'red' }, { signal: stop })) {
      const grant = step.case === 'snapshot' ? step.value.nodes[0]?.grant : undefined;
      if (grant === undefined) throw new Error('no grant yet');
      const decoded = decodeVerifiedGrant(grant, verify, Date.now(), {
        ...{ network: 'red', networkUid: uid, node: 'n1' },
        nodeDomain: TRUST_DOMAIN,
      });
      expect(decoded).toMatchObject({ kind: 'accepted', grant: { isWhole: true, prefixes } });
      break;
    }
  }, SOON);
  const { key, der } = await request();
  const { certificateChain } = await n1.client.renewSvid({
    certificateRequest: der,
    proof: {
      signature: proveRenewal(n1.identity, der),
      certificateChain: [...n1.identity.certificateChain],
    },
  });
  expect(renewIdentity(n1.identity, { privateKey: key, certificateChain }, Date.now()).name).toBe('n1');
  expect((await (await domain.admin()).getStatus({})).signer).toBe('apart');
  // All files that the registry has, and not a secret of the CA's in one.
  const { active } = (await domain.authority()).authorities;
  const { d = '' } = active.key.export({ format: 'jwk' });
  const secret = Buffer.from(d, 'base64url');
  const files = await readdir(domain.registryState, { recursive: true, withFileTypes: true });
  expect(files.map(({ name }) => name)).not.toContain('ca');
  expect(files.map(({ name }) => name)).not.toContain('admin.json');
  for (const file of files.filter((one) => one.isFile())) {
    const bytes = await readFile(join(file.parentPath, file.name));
    expect(bytes.includes(secret) || bytes.toString().includes(secret.toString('base64').slice(0, 20))).toBe(
      false,
    );
  }
});

test('the registry leases nobody what the signer would refuse him: a prefix rests there as long as it is booked here', async () => {
  const domain = await ApartDomain.start();
  const { terms, signer } = domain.registry.observed.context;
  expect(signer.isApart).toBe(true);
  // The last grant that names it lasts a term, and a seventh of that it rests.
  expect(terms.restMs).toBeGreaterThan(Math.ceil((await domain.authority()).svidValidityMs * (8 / 7)));
});

test('the end of the log is signed for whoever exports it, several at once while it grows, and for no registry that shows an earlier one', async () => {
  const domain = await ApartDomain.start();
  await domain.createNetwork('red', '10.60.0.0/16');
  const admission = await domain.admission();
  const exported = async (): Promise<Uint8Array | undefined> => {
    let head: Uint8Array | undefined;
    for await (const one of admission.exportAdmissionLog({})) head = one.head?.head ?? head;
    return head;
  };
  const grow = async (name: string) =>
    await admission.createAdmissionRule({ rule: { network: 'red', name, labels: { app: name } } });
  await grow('a');
  const first = await exported();
  const heads = await Promise.all([exported(), grow('b'), exported(), grow('c'), exported()]);
  expect(heads.filter((one) => one instanceof Uint8Array)).toHaveLength(3);
  await using signer = await takeOver(domain);
  expect(first && (await refusal(signer.signLogHead(first)))).toMatch(/and one that ends at \d+ was signed/);
  await (await domain.ca()).forgetLog({});
  expect(first && (await refusal(signer.signLogHead(first)))).toBe('accepted');
});

test('without the signer the registry starts and serves, and once it is back all goes on', async () => {
  const domain = await ApartDomain.start();
  await domain.createNetwork('red', '10.60.0.0/16');
  const n1 = await domain.enrol('n1');
  await domain.stopRegistry();
  await domain.stopSigner();
  await domain.startRegistry();
  expect((await n1.client.joinNetwork({ network: 'red' })).leases).toHaveLength(1);
  const { der } = await request();
  const proof = {
    signature: proveRenewal(n1.identity, der),
    certificateChain: [...n1.identity.certificateChain],
  };
  const renewal = { certificateRequest: der, proof };
  expect(await refusal(n1.client.renewSvid(renewal))).toMatch(/^unavailable: the signer/);
  await domain.startSigner();
  await vi.waitFor(
    async () => expect((await n1.client.renewSvid(renewal)).certificateChain).toHaveLength(1),
    SOON,
  );
});

describe('somebody who took the registry over', () => {
  test('gets no SVID signed: not by a token that he saw proven, nor for another key or name, nor without any proof', async () => {
    const domain = await ApartDomain.start();
    const n1 = await domain.enrol('n1');
    await using signer = await takeOver(domain);
    const token = await domain.token('n2');
    const tokenId = hashSecret(token.secret);
    const honest = await request();
    const own = await request();
    const proof = proveEnrolment(tokenKey(token.secret), { tokenId, node: 'n2', request: honest.der });
    const byToken: SvidEvidence = { kind: 'token', tokenId, proof };
    const refused = /^permission-denied: the signer refuses it/;
    expect(await refusal(signer.signNodeSvid(own.der, 'n2', byToken))).toMatch(refused);
    expect(await refusal(signer.signNodeSvid(honest.der, 'n3', byToken))).toMatch(refused);
    expect(await refusal(signer.signNodeSvid(own.der, 'n2', { kind: 'none' }))).toMatch(refused);
    // The registry's own hash of the secret is no key.
    const guessed = proveEnrolment(Buffer.from(tokenId, 'hex'), { tokenId, node: 'n2', request: own.der });
    expect(await refusal(signer.signNodeSvid(own.der, 'n2', { ...byToken, proof: guessed }))).toMatch(
      refused,
    );
    // A token that only the registry made is none.
    const made = { kind: 'token', tokenId: hashSecret('x'), proof } as const;
    expect(await refusal(signer.signNodeSvid(own.der, 'n2', made))).toMatch(/no admin registered/);
    // What n1 signs for its own renewal is for its own key and name.
    const { certificateChain } = n1.identity;
    const renewal = {
      kind: 'renewal' as const,
      proof: { signature: proveRenewal(n1.identity, honest.der), certificateChain },
    };
    expect(await refusal(signer.signNodeSvid(own.der, 'n1', renewal))).toMatch(refused);
    expect(await refusal(signer.signNodeSvid(honest.der, 'n2', renewal))).toMatch(refused);
    // And the very same, replayed, is what was meant.
    expect(await signer.signNodeSvid(honest.der, 'n2', byToken)).toHaveLength(1);
    expect(await signer.signNodeSvid(honest.der, 'n2', byToken)).toHaveLength(1);
    expect(await refusal(signer.signNodeSvid(own.der, 'n2', byToken))).toMatch(refused);
  });

  test("takes nobody's name with a token for any name", async () => {
    const domain = await ApartDomain.start();
    await domain.enrol('n1');
    await using signer = await takeOver(domain);
    const { secret } = await domain.token();
    const { der } = await request();
    const tokenId = hashSecret(secret);
    const proof = proveEnrolment(tokenKey(secret), { tokenId, node: 'n1', request: der });
    expect(await refusal(signer.signNodeSvid(der, 'n1', { kind: 'token', tokenId, proof }))).toMatch(
      /a node "n1" exists/,
    );
  });

  test('gets no prefix signed for two nodes, nor one out of the pool, nor on a network that no admin made', async () => {
    const domain = await ApartDomain.start();
    const networkUid = await domain.createNetwork('red', '10.60.0.0/16');
    await domain.enrol('n1');
    await domain.enrol('n2');
    await using signer = await takeOver(domain);
    const grant = (change: Partial<GrantContent>) =>
      refusal(signer.signGrant(asked({ networkUid, ...change }), Date.now() + WEEK));
    expect(await grant({})).toBe('accepted');
    expect(await grant({ node: 'n2' })).toMatch(/10.60.0.0\/24 is node "n1"'s until/);
    expect(await grant({ node: 'n2', prefixes: ['10.60.0.128/25'] })).toMatch(/is node "n1"'s until/);
    expect(await grant({ node: 'n2', prefixes: ['10.60.0.0/16'] })).toMatch(/is node "n1"'s until/);
    expect(await grant({ node: 'n2', prefixes: ['10.61.0.0/24'] })).toMatch(/lies in no pool/);
    expect(await grant({ node: 'n2', prefixes: ['0.0.0.0/0'] })).toMatch(/lies in no pool/);
    expect(await grant({ networkUid: 'other' })).toMatch(/network "red" is/);
    expect(await grant({ network: 'green' })).toMatch(/no admin registered network "green"/);
    expect(await grant({ node: 'n2', nodeDomain: 'partner.example' })).toMatch(
      /does not know partner.example/,
    );
    // Whoever restarts it does not make it forget.
    await domain.stopSigner();
    await domain.startSigner();
    await vi.waitFor(async () => expect(await grant({ node: 'n2' })).toMatch(/is node "n1"'s until/), SOON);
    // An admin ends it, and nobody else.
    await (await domain.ca()).revokeNode({ name: 'n1' });
    expect(await grant({})).toMatch(/node "n1" was revoked/);
    expect(await grant({ node: 'n2' })).toBe('accepted');
  });

  test('gets no grant that would keep the later ones out', async () => {
    const domain = await ApartDomain.start();
    const networkUid = await domain.createNetwork('red', '10.60.0.0/16');
    await domain.enrol('n1');
    await using signer = await takeOver(domain);
    const year = 365 * 24 * 60 * 60 * 1000;
    const first = await signer.signGrant(
      asked({ networkUid, sequence: Date.now() + year }),
      Date.now() + WEEK,
    );
    expect(first.sequence).toBeLessThan(Date.now() + 2 * 60 * 60 * 1000);
    const second = await signer.signGrant(asked({ networkUid, sequence: 1 }), Date.now() + WEEK);
    expect(second.sequence).toBeGreaterThan(first.sequence);
  });

  test('is granted whole what the rules admit by the node alone, and of the rest what the node itself signed', async () => {
    const domain = await ApartDomain.start();
    const networkUid = await domain.createNetwork('red', '10.60.0.0/16');
    await domain.enrol('n1');
    const ca = await domain.ca();
    await ca.withdrawRule({ network: 'red', name: 'home' });
    await ca.registerRule({ rule: { network: 'red', name: 'ledger', labels: { app: 'ledger' } } });
    await using signer = await takeOver(domain);
    // He says that all of it is admitted, and which addresses are.
    const signed = await signer.signGrant(
      asked({ networkUid, isWhole: true, addresses: ['10.60.0.9'] }),
      Date.now() + WEEK,
    );
    const { trustBundle } = await domain.authority();
    const decoded = decodeVerifiedGrant(signed, createGrantVerifier(trustBundle), Date.now(), {
      ...{ network: 'red', networkUid, node: 'n1' },
      nodeDomain: TRUST_DOMAIN,
    });
    expect(decoded).toMatchObject({ kind: 'accepted', grant: { isWhole: false, addresses: [] } });
  });

  test('is no admin to it, and makes himself none; an admin is no registry', async () => {
    const domain = await ApartDomain.start();
    const { connectRegistry } = await import('../../../src/registry/connection.ts');
    const { clientTlsOptions } = await import('../../../src/identity/tls.ts');
    const { readRegistryCredential } = await import('../../../src/ca/registry-credential.ts');
    const { readAdminCredential } = await import('../../../src/identity/identity-file.ts');
    const { CaService, SignerService } = await import('../../../src/api/generated/vl3/v1/ca_pb.js');
    const { createClient } = await import('@connectrpc/connect');
    const stolen = await readRegistryCredential(domain.credentialFile, TRUST_DOMAIN, Date.now());
    const admin = await readAdminCredential(domain.adminFile);
    const n1 = await domain.enrol('n1');
    const as = (credential: typeof stolen | typeof admin | undefined) => {
      const tls = clientTlsOptions(stolen.trustBundle, credential, 'ca');
      return connectRegistry({ registries: [domain.signerAddress], tls });
    };
    await using registry = as(stolen);
    await using person = as(admin);
    await using nobody = as(undefined);
    await using node = as(n1.identity);
    const denied = /permission-denied|not for the role/;
    for (const { name } of CaService.methods) {
      const call = (transport: typeof registry.transport) => {
        const method = CaService.methods.find((one) => one.name === name);
        if (method === undefined) throw new Error(name);
        const client = createClient(CaService, transport);
        const one: unknown = Reflect.get(client, method.localName);
        return typeof one === 'function' ? refusal(Promise.resolve(one.call(client, {}))) : 'none';
      };
      expect([name, await call(registry.transport)]).toEqual([name, expect.stringMatching(denied)]);
      for (const one of [nobody, node])
        expect([name, await call(one.transport)]).toEqual([
          name,
          expect.stringMatching(/unauthenticated|the CA answers/),
        ]);
    }
    for (const { name, localName } of SignerService.methods) {
      const call = (transport: typeof registry.transport) => {
        const client = createClient(SignerService, transport);
        const one: unknown = Reflect.get(client, localName);
        return typeof one === 'function' ? refusal(Promise.resolve(one.call(client, {}))) : 'none';
      };
      expect([name, await call(person.transport)]).toEqual([name, expect.stringMatching(denied)]);
      for (const one of [nobody, node])
        expect([name, await call(one.transport)]).toEqual([
          name,
          expect.stringMatching(/unauthenticated|the CA answers/),
        ]);
    }
  });

  test('stands in for the CA to nobody', async () => {
    const domain = await ApartDomain.start();
    const { connectSigner } = await import('../../../src/ca/client.ts');
    const { readAdminCredential, writeIdentity } = await import('../../../src/identity/identity-file.ts');
    const file = join(domain.caState, 'misled.json');
    const admin = await readAdminCredential(domain.adminFile);
    await writeIdentity(file, { ...admin, signers: [domain.registryAddress] });
    await using connection = await connectSigner(file);
    expect(connection && (await refusal(connection.client.getCa({})))).toMatch(
      /is not the CA of test.example/,
    );
  });
});
