// What a registry tells of whoever signs for it, where that is not itself.

import { expect, onTestFinished, test, vi } from 'vitest';
import { observeRegistry } from '../../../src/metrics/registry-metrics.ts';
import { ApartDomain } from '../ca/fixture.ts';
import { startDomain } from '../registry/fixture.ts';

const SOON = { timeout: 20_000, interval: 100 };

const samples = async (observed: ReturnType<typeof observeRegistry>, name: string): Promise<string[]> =>
  (await observed.metrics()).split('\n').filter((line) => line.startsWith(`${name}{`));

test('that a signer apart does not answer is told by metrics, and by the status with what waits for it', async () => {
  const domain = await ApartDomain.start();
  const observed = observeRegistry(domain.registry.observed);
  onTestFinished(() => observed[Symbol.dispose]());
  const admin = await domain.admin();
  expect(await samples(observed, 'vl3_registry_signer_connected')).toEqual([
    'vl3_registry_signer_connected{signer="apart"} 1',
  ]);
  expect((await admin.getStatus({})).identities).toEqual([]);
  await domain.stopSigner();
  await vi.waitFor(async () => {
    expect(await samples(observed, 'vl3_registry_signer_connected')).toEqual([
      'vl3_registry_signer_connected{signer="apart"} 0',
    ]);
  }, SOON);
  const [away] = (await admin.getStatus({})).identities;
  expect(away?.problem).toMatch(/^nobody enrols, .* while the signer is away: /);
});

test('a registry that is the CA tells nothing of another', async () => {
  const domain = await startDomain();
  const observed = observeRegistry(domain.registry.observed);
  onTestFinished(() => observed[Symbol.dispose]());
  expect(await observed.metrics()).not.toMatch(/^vl3_registry_signer_connected/m);
});
