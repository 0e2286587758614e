// Either side rotates its CA: overlapping bundles carry the federation over, and a CA that was taken back is nobody's.

import { expect, test } from 'vitest';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import type { RotationStep } from '../../../src/identity/ca-rotation.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import type { Identity } from '../../../src/identity/identity.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { decodeSpiffeBundle, trustBundleOf } from '../../../src/identity/spiffe-bundle.ts';
import { connectPartner } from '../../../src/registry/client.ts';
import { abroad, admit, companies, federate, HOME, PARTNER, until } from './companies.ts';
import { refusal, type TestDomain } from './fixture.ts';

const rotate = async (domain: TestDomain, step: RotationStep): Promise<void> => {
  const { signer } = domain.registry.observed.context;
  if (!(signer instanceof CertificateAuthority)) throw new Error('the CA is elsewhere');
  await signer.rotate(step, true);
};

/** Asks the other domain's endpoint, as it does every few minutes. */
const look = async (domain: TestDomain, at: string): Promise<void> =>
  await domain.registry.observed.context.partnerLinks.look(at);

/** As the node does daily. */
const renewed = async (domain: TestDomain, identity: Identity): Promise<Identity> => {
  const { signer } = domain.registry.observed.context;
  const privateKey = await generateKey();
  const request = await createCertificateRequest(privateKey);
  return {
    ...identity,
    privateKey,
    certificateChain: await signer.signNodeSvid(request, identity.name),
    trustBundle: signer.trustBundle,
  };
};

test("a partner's CA is rotated without a gap, and the old one counts no more once it is taken back", async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const { identity } = await both.partner.enrol('n1');
  const old = abroad(both, { identity });
  await old.joinNetwork({ network: 'red' });
  const prints = async () =>
    (await (await both.home.federation()).listPartners({})).partners[0]?.caFingerprints.length;

  await rotate(both.partner, 'prepare');
  await look(both.home, PARTNER);
  expect(await prints()).toBe(2);
  await rotate(both.partner, 'sign');
  await look(both.home, PARTNER);
  const next = await renewed(both.partner, identity);
  // The new one and the old one are let in side by side.
  await abroad(both, { identity: next }).heartbeat({});
  await old.heartbeat({});
  await rotate(both.partner, 'retire');
  await old.heartbeat({});
  await look(both.home, PARTNER);
  expect(await prints()).toBe(1);
  // On the connection that it had, too.
  expect(await refusal(old.heartbeat({}))).toMatch(/^unauthenticated/);
  const { leases } = await abroad(both, { identity: next }).joinNetwork({ network: 'red' });
  expect(leases.length).toBe(2);
});

test("a partner's CA that was replaced before anybody heard of the next is nobody's until it is invited anew", async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const { identity } = await both.partner.enrol('n1');
  await rotate(both.partner, 'prepare');
  await rotate(both.partner, 'sign');
  const next = await renewed(both.partner, identity);
  expect(await refusal(abroad(both, { identity: next }).heartbeat({}))).toMatch(/^unauthenticated/);
  // Whoever serves the bundle now could be anybody.
  await look(both.home, PARTNER);
  expect(await refusal(abroad(both, { identity: next }).heartbeat({}))).toMatch(/^unauthenticated/);
  const [shown] = (await (await both.home.federation()).listPartners({})).partners;
  expect(shown?.bundleProblem).toMatch(/the server is not/);
  await federate(both);
  await abroad(both, { identity: next }).heartbeat({});
});

test('the home domain rotates its CA, and partners learn of it from its endpoint', async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  const listed = async () => (await node.client.listFederations({})).federations[0];
  const before = await listed();
  await rotate(both.home, 'prepare');
  await look(both.partner, HOME);
  const during = await listed();
  expect(during?.bundle).not.toBe(before?.bundle);
  const held = trustBundleOf(decodeSpiffeBundle(during?.bundle ?? '', HOME));
  expect(held.certificates.length).toBe(2);
  await rotate(both.home, 'sign');
  // The server shows a certificate of the new CA within a moment, which the bundle of before the change verifies.
  await until(async () => {
    await using connection = connectPartner(node.identity, {
      registries: both.home.registry.registries,
      trustBundle: held,
    });
    return (await refusal(connection.client.joinNetwork({ network: 'red' }))) === 'accepted' || undefined;
  });
  await rotate(both.home, 'retire');
  await look(both.partner, HOME);
  const after = await listed();
  expect(decodeSpiffeBundle(after?.bundle ?? '', HOME).certificates.length).toBe(1);
  expect(BigInt(after?.bundleSequence ?? 0) > BigInt(during?.bundleSequence ?? 0)).toBe(true);
});
