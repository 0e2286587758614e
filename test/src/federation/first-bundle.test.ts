// The first contact with a domain that invites: whose CA is taken, and what an impostor hears.

import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Invitation } from '../../../native-free/federation/invitation.ts';
import { fetchInvitingBundle } from '../../../src/federation/first-bundle.ts';
import { DOMAIN, type Issued, issue, issueCa, listenTls } from '../identity/fixture.ts';

const invitation = (cas: readonly Issued[], ...ports: number[]): Invitation => ({
  trustDomain: DOMAIN,
  registries: ports.map((port) => `127.0.0.1:${port}`),
  endpoint: { profile: 'https_web', url: 'https://a.example/' },
  caFingerprints: cas.map(({ der }) => new Uint8Array(createHash('sha256').update(der).digest())),
  secret: new Uint8Array(32),
  expiresAt: Date.now() + 60_000,
  constraints: { trustDomain: 'partner.example', networks: ['red'], names: [], prefixes: [] },
});

const listen = async (ca: Issued, id = `spiffe://${DOMAIN}/registry`) => {
  const leaf = await issue({ uris: [id], issuer: ca });
  return await listenTls({ privateKey: leaf.key, certificateChain: [leaf.der] }, { certificates: [ca.der] });
};
const now = Date.now;

test('the CA is taken from a registry that shows any of those that the invitation names, and that is passed on', async () => {
  const [old, next] = [await issueCa(), await issueCa()];
  const server = await listen(next);
  const found = await fetchInvitingBundle(invitation([old, next], server.port), { now });
  expect(found).toEqual({
    registry: `127.0.0.1:${server.port}`,
    trustBundle: { trustDomain: DOMAIN, certificates: [next.der] },
  });
  expect((await server.heard()).bytes).toBe('');
});

test('a registry that is down and an impostor are passed over, and the impostor hears nothing', async () => {
  const ca = await issueCa();
  const [good, rogue] = [await listen(ca), await listen(await issueCa())];
  const found = await fetchInvitingBundle(invitation([ca], 1, rogue.port, good.port), { now });
  expect(found.registry).toBe(`127.0.0.1:${good.port}`);
  expect((await rogue.heard()).bytes).toBe('');
});

test('of impostors alone nothing is taken: another CA, a node, a registry of another domain', async () => {
  const ca = await issueCa();
  const servers = [
    await listen(await issueCa({ subject: ca.subject })),
    await listen(ca, `spiffe://${DOMAIN}/node/n1`),
    await listen(ca, 'spiffe://other.example/registry'),
  ];
  for (const { port } of servers)
    await expect(fetchInvitingBundle(invitation([ca], port), { now })).rejects.toMatchObject({
      code: 'unauthenticated',
    });
  await expect(fetchInvitingBundle(invitation([ca], 1), { now })).rejects.toMatchObject({
    code: 'unavailable',
  });
});
