// A registry by SPIRE, which federates itself: of the partners that are named the bundles are those that the Workload API
// gives, each of its own domain alone.

import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { OfferedSvid } from '../../../src/identity/svid.ts';
import { SpiffeAuthority } from '../../lab/spiffe-authority.ts';
import { answerOf, WorkloadApiServer } from '../../lab/workload-api.ts';
import { abroad, admit, HOME, invite, PARTNER } from './companies.ts';
import { red, refusal, startDomain, TestDomain, temporaryDirectory } from './fixture.ts';

const SOON = { timeout: 20_000, interval: 20 };

/** Home lives by a Workload API, which is told to give bundles; the partner has a CA of its own, and is on red. */
const scene = async () => {
  const authority = await SpiffeAuthority.create(HOME);
  const api = new WorkloadApiServer(join(temporaryDirectory(), 'api.sock'));
  const own: Record<string, OfferedSvid> = {};
  for (const path of ['registry', 'admission', 'admin/alice']) own[path] = await authority.issue(`/${path}`);
  const give = (bundles: Record<string, readonly Uint8Array[]>): void => {
    const federated = Object.entries(bundles).map(([domain, certificates]) => [
      `spiffe://${domain}`,
      new Uint8Array(Buffer.concat(certificates)),
    ]);
    api.publish(answerOf(own, Object.fromEntries(federated)));
  };
  await api.start();
  onTestFinished(() => api.stop());
  const partner = await startDomain({ trustDomain: PARTNER });
  const { certificates } = partner.registry.observed.context.signer.trustBundle;
  give({ [PARTNER]: certificates });
  const place = { kind: 'workload-api', socket: api.socket } as const;
  const home = new TestDomain({
    trustDomain: HOME,
    ownIdentity: { place, admissionPlace: place, enrolment: 'open' },
    partnerLinks: { given: new Set([PARTNER]) },
  });
  await home.start();
  const admin = await home.admin();
  await admin.settleRegistry({});
  await admin.createNetwork({ network: red });
  const both = { home, partner };
  await (await partner.federation()).acceptInvitation({ invitation: await invite(both) });
  await admit(home);
  const node = await partner.enrol('n1');
  const joins = () => refusal(abroad(both, node).joinNetwork({ network: 'red' }));
  const listed = async () => (await (await home.federation()).listPartners({})).partners[0];
  return { home, api, give, certificates, joins, listed };
};

test('a partner is known by the bundle that is given, and by nothing of another domain', async () => {
  const { give, certificates, joins, listed } = await scene();
  expect(await joins()).toBe('accepted');
  // Whatever CA another domain has speaks for nobody but that.
  const other = await SpiffeAuthority.create(PARTNER);
  give({ [PARTNER]: other.bundle, 'other.example': certificates });
  await vi.waitFor(async () => expect((await listed())?.bundleProblem).toBe(''), SOON);
  await vi.waitFor(async () => expect(await joins()).toMatch(/^unauthenticated|^unavailable/), SOON);
  expect((await listed())?.caFingerprints).toHaveLength(1);
  give({ [PARTNER]: [...certificates, ...other.bundle] });
  await vi.waitFor(async () => expect(await joins()).toBe('accepted'), SOON);
  expect((await listed())?.caFingerprints).toHaveLength(2);
});

test('what is not given any more counts no more, and the list says what to do', async () => {
  const { give, certificates, joins, listed } = await scene();
  expect(await joins()).toBe('accepted');
  give({});
  await vi.waitFor(async () => expect(await joins()).toMatch(/^unauthenticated|^unavailable/), SOON);
  const none = await listed();
  expect(none?.caFingerprints).toEqual([]);
  expect(none?.bundleProblem).toMatch(
    /gives no bundle of partner\.example.*have the registry's entry federate with it/,
  );
  give({ [PARTNER]: [] });
  await vi.waitFor(
    async () => expect((await listed())?.bundleProblem).toMatch(/without any CA.*bundle list/),
    SOON,
  );
  give({ [PARTNER]: certificates });
  await vi.waitFor(async () => expect(await joins()).toBe('accepted'), SOON);
  expect((await listed())?.bundleProblem).toBe('');
});

test('while nobody gives anything, what was given goes on', async () => {
  const { home, api, joins } = await scene();
  expect(await joins()).toBe('accepted');
  await api.stop();
  const { partners, partnerLinks } = home.registry.observed.context;
  await vi.waitFor(async () => {
    await partnerLinks.look(PARTNER);
    expect(partnerLinks.problemOf(PARTNER)).toMatch(/is not confirmed: the Workload API .* cannot be used/);
  }, SOON);
  expect(await joins()).toBe('accepted');
  expect(partners.of(PARTNER)?.held?.bundle.certificates).toHaveLength(1);
});
