// A partner's registry that was taken over, whose signer is apart: what it serves as its domain's bundle is not followed
// unless that domain has signed it.

import { describe, expect, test } from 'vitest';
import { successionProblem } from '../../../src/federation/succession.ts';
import type { CertificateAuthority } from '../../../src/identity/ca.ts';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { openCa } from '../identity/fixture.ts';

const PARTNER = 'partner.example';

const bundleOf = async (
  ca: CertificateAuthority,
  { certificates = ca.trustBundle.certificates, by = ca } = {},
) => {
  const signed = await by.ownAuthorities();
  const sequence = BigInt(ca.sequence);
  const text = encodeSpiffeBundle({ trustDomain: PARTNER, certificates }, { sequence, signed });
  return decodeSpiffeBundle(text, PARTNER);
};

describe('a bundle that bore the signature of its domain', () => {
  test('is followed by what that signs, also through a rotation, and never by an older one', async () => {
    const ca = await openCa(PARTNER);
    const first = await bundleOf(ca);
    expect(successionProblem({ held: first }, first, Date.now())).toBeUndefined();
    await ca.rotate('prepare');
    const second = await bundleOf(ca);
    expect(successionProblem({ held: first }, second, Date.now())).toBeUndefined();
    await ca.rotate('sign', true);
    await ca.rotate('retire', true);
    const last = await bundleOf(ca);
    expect(last.certificates).toHaveLength(1);
    expect(successionProblem({ held: second }, last, Date.now())).toBeUndefined();
    expect(successionProblem({ held: last }, second, Date.now())).toMatch(/does not verify/);
    expect(successionProblem({ held: second }, first, Date.now())).toMatch(/is older than what was seen/);
    // Who missed the rotation knows nobody by whom it is signed.
    expect(successionProblem({ held: first }, last, Date.now())).toMatch(/does not verify/);
  });

  test('is not followed by one with another CA beside the real ones, nor by one that is not signed', async () => {
    const ca = await openCa(PARTNER);
    const impostor = await openCa(PARTNER);
    const held = await bundleOf(ca);
    const certificates = [...ca.trustBundle.certificates, ...impostor.trustBundle.certificates];
    const problem = async (change: Parameters<typeof bundleOf>[1]) =>
      successionProblem({ held }, await bundleOf(ca, change), Date.now());
    expect(await problem({ certificates })).toMatch(/names other CAs than partner.example signed/);
    expect(await problem({ certificates, by: impostor })).toMatch(/does not verify/);
    expect(successionProblem({ held }, await bundleOf(impostor), Date.now())).toMatch(/does not verify/);
    const text = encodeSpiffeBundle(ca.trustBundle, { sequence: BigInt(ca.sequence) });
    expect(successionProblem({ held }, decodeSpiffeBundle(text, PARTNER), Date.now())).toMatch(
      /lacks the signature of partner.example/,
    );
  });
});

test('the first one is signed by the CA that the invitation names, if it is signed', async () => {
  const ca = await openCa(PARTNER);
  const impostor = await openCa(PARTNER);
  const pinned = ca.trustBundle.certificates;
  expect(successionProblem({ pinned }, await bundleOf(ca), Date.now())).toBeUndefined();
  const certificates = [...pinned, ...impostor.trustBundle.certificates];
  const mixed = await bundleOf(ca, { certificates, by: impostor });
  expect(successionProblem({ pinned }, mixed, Date.now())).toMatch(/does not verify/);
});
