// What a rotation of the CA does to whoever comes in the middle of it, and what is kept over it.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { connectCa } from '../../../src/ca/client.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import type { RotationStep } from '../../../src/identity/ca-rotation.ts';
import { verifyStatement } from '../../../src/identity/domain-statement.ts';
import { enroll } from '../../../src/identity/enroll.ts';
import { readAdminCredential } from '../../../src/identity/identity-file.ts';
import { parseJoinToken } from '../../../src/identity/token.ts';
import {
  agentOf,
  refusal,
  startDomain,
  type TestDomain,
  type TestNode,
  TRUST_DOMAIN,
  temporaryDirectory,
} from '../registry/fixture.ts';

const SOON = { timeout: 20_000, interval: 50 };

const step = async (domain: TestDomain, step: RotationStep): Promise<void> => {
  await using ca = await connectCa(domain.registry.adminFile);
  await ca.client.rotateCa({ step, isUrgent: true });
  const wanted = step === 'retire' ? 1 : 2;
  await vi.waitFor(async () => {
    const { trustBundle } = await readAdminCredential(domain.registry.adminFile);
    expect(trustBundle.certificates).toHaveLength(wanted);
    await using again = await connectCa(domain.registry.adminFile);
    const { authorities } = (await again.client.getCa({})) ?? {};
    expect(authorities).toHaveLength(wanted);
  }, SOON);
};

const open = (directory: string, now: () => number = Date.now) =>
  CertificateAuthority.open({ directory, trustDomain: TRUST_DOMAIN }, { now });

test('whoever enrols at any moment of a rotation is let in, and its SVID holds as long as its CA is in the bundle', async () => {
  const domain = await startDomain();
  const before = await domain.enrol('n1');
  await step(domain, 'prepare');
  const prepared = await domain.enrol('n2');
  // Made before, and used after: it names a CA that does not sign any more.
  const late = parseJoinToken(await domain.token('n3'));
  await step(domain, 'sign');
  const signed = await domain.enrol('n4');
  // As a node that has heard of the CAs by now.
  const { signer } = domain.registry.observed.context;
  const beat = ({ identity }: TestNode) =>
    refusal(agentOf({ ...identity, trustBundle: signer.trustBundle }).heartbeat({}));
  for (const node of [before, prepared, signed]) expect(await beat(node), node.name).toBe('accepted');
  expect(await refusal(enroll({ token: late, node: 'n3', directory: temporaryDirectory() }))).toMatch(
    /^unauthenticated: the server is not the registry/,
  );
  await step(domain, 'retire');
  expect(await beat(signed)).toBe('accepted');
  for (const node of [before, prepared]) expect(await beat(node), node.name).toMatch(/^unauthenticated/);
  await domain.stop();
  await domain.start();
  expect(await refusal((await domain.enrol('n5')).client.heartbeat({}))).toBe('accepted');
});

test('each step waits for the time that an SVID lasts, and for its turn', async () => {
  let now = Date.now();
  const ca = await open(join(temporaryDirectory(), 'ca'), () => now);
  const week = ca.svidValidityMs;
  expect(await refusal(ca.rotate('sign'))).toMatch(/there is no next CA/);
  expect(await refusal(ca.rotate('retire'))).toMatch(/no CA waits to be retired/);
  await ca.rotate('prepare');
  expect(await refusal(ca.rotate('prepare'))).toMatch(/a rotation is under way/);
  now += week - 1;
  expect(await refusal(ca.rotate('sign'))).toMatch(/do not know the next CA yet: wait until/);
  now += 1;
  await ca.rotate('sign');
  expect(await refusal(ca.rotate('prepare'))).toMatch(/a rotation is under way/);
  now += week - 1;
  expect(await refusal(ca.rotate('retire'))).toMatch(/has not ended yet: wait until/);
  now += 1;
  await ca.rotate('retire');
  await ca.rotate('prepare');
});

test('the key that was replaced is nowhere any more; what followed from it is kept; a restart knows all of it', async () => {
  const directory = join(temporaryDirectory(), 'ca');
  const first = await open(directory);
  const purpose = 'vl3 registry position stamp v1';
  const secret = await first.secretFor(purpose);
  const { d = '' } = first.authorities.active.key.export({ format: 'jwk' });
  await first.rotate('prepare');
  await first.rotate('sign', true);
  const again = await open(directory);
  expect(again.trustBundle).toEqual(first.trustBundle);
  expect(await again.secretFor(purpose)).toEqual(secret);
  const raw = Buffer.from(d, 'base64url');
  for (const name of await readdir(directory)) {
    const text = await readFile(join(directory, name), 'utf8');
    const ders = [...text.matchAll(/BEGIN PRIVATE KEY-----(.*?)-----END/gs)].map(([, body = '']) =>
      Buffer.from(body.replaceAll('\\n', ''), 'base64'),
    );
    for (const der of ders) expect(der.includes(raw)).toBe(false);
  }
  expect(await readdir(directory)).toEqual(['authorities.json']);
});

test('what the domain says is signed by who signs, grows, and is believed under the bundle before it', async () => {
  const ca = await open(join(temporaryDirectory(), 'ca'));
  let { trustBundle } = ca;
  let sequence = 0;
  const heard = async (): Promise<void> => {
    const statement = verifyStatement(await ca.statement(), trustBundle, Date.now());
    expect(statement.sequence).toBeGreaterThan(sequence);
    ({ sequence } = statement);
    ({ trustBundle } = ca);
  };
  await heard();
  await ca.rotate('prepare');
  await heard();
  await ca.rotate('sign', true);
  await heard();
  await ca.revoke('n1');
  await heard();
  await ca.rotate('retire', true);
  await heard();
  // Another domain's, or one of the same name, is believed nothing.
  const stranger = await open(join(temporaryDirectory(), 'ca'));
  const statement = await stranger.statement();
  expect(() => verifyStatement(statement, trustBundle, Date.now())).toThrow(/does not verify/);
  const { record, ...signed } = await ca.statement();
  const altered = Buffer.from(record.toString().length > 0 ? record : []);
  altered[altered.length - 2] = (altered.at(-2) ?? 0) ^ 1;
  expect(() => verifyStatement({ ...signed, record: altered }, trustBundle, Date.now())).toThrow(
    /does not verify/,
  );
});

test('a node that was revoked is void by what it had, and not by what it gets when it is let in again', async () => {
  const domain = await startDomain();
  const n1 = await domain.enrol('n1');
  const { signer } = domain.registry.observed.context;
  await (await domain.admin()).deleteNode({ name: 'n1' });
  const { revoked, ...rest } = verifyStatement(await signer.statement(), signer.trustBundle, Date.now());
  expect(revoked.map(({ node }) => node)).toEqual(['n1']);
  const until = new Map(revoked.map((one) => [one.node, one.until]));
  const { verifyChain } = await import('../../../src/identity/chain.ts');
  const { CLIENT_AUTH } = await import('../../../src/identity/certificate.ts');
  const bundle = { ...signer.trustBundle, revoked: until };
  const of = (chain: readonly Uint8Array[]) => verifyChain(chain, bundle, Date.now(), CLIENT_AUTH);
  expect(of(n1.identity.certificateChain)).toMatchObject({ kind: 'refused', message: 'was revoked' });
  const again = await domain.enrol('n1', await domain.token('n1'));
  expect(of(again.identity.certificateChain)).toMatchObject({ kind: 'verified' });
  expect(rest.trustDomain).toBe(TRUST_DOMAIN);
});
