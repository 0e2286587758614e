// A node that announces without end.

import { expect, test } from 'vitest';
import { fromConnectError } from '../../../src/api/errors.ts';
import { red, startDomain } from './fixture.ts';

test('a node that has much decided pays for the time, and is told to wait after a few calls', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const { client } = await domain.enrol('n1');
  const { client: other } = await domain.enrol('n2');
  for (const one of [client, other]) await one.joinNetwork({ network: 'red' });
  const admission = await domain.admission();
  for (let i = 0; i < 100; i++)
    await admission.createAdmissionRule({
      rule: {
        network: 'red',
        name: `r${i}`,
        workload: `labels.app == "x${i}" || namespace.contains("${i}")`,
      },
    });
  await admission.deleteAdmissionRule({ network: 'red', name: 'home' });
  const attachments = Array.from({ length: 4000 }, (_, i) => ({
    id: `p${i}`,
    workload: 'web',
    addresses: [`fd00:60::${(i + 16).toString(16)}`],
    interfaceName: 'red',
    labels: { app: 'none' },
    namespace: 'none',
  }));
  let calls = 0;
  await expect(
    (async () => {
      for (; calls < 500; calls++) await client.putAttachments({ network: 'red', attachments });
    })(),
  ).rejects.toThrow(/or as much by what it announces/);
  expect(calls).toBeLessThan(100);
  expect(calls).toBeGreaterThan(1);
  await other.putAttachments({ network: 'red', attachments: [] });
}, 120_000);

test('a node that announces without end is told to wait, and keeps nobody else from announcing', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const [{ client: flooder }, { client: other }] = [await domain.enrol('n1'), await domain.enrol('n2')];
  for (const client of [flooder, other]) await client.joinNetwork({ network: 'red' });
  const refused = new Set<string>();
  let taken = 0;
  while (refused.size === 0 && taken < 5000) {
    const announce = async (): Promise<void> => {
      try {
        await flooder.putAttachments({ network: 'red', attachments: [] });
        taken += 1;
      } catch (error) {
        const { code, message } = fromConnectError(error);
        refused.add(`${code}: ${message}`);
      }
    };
    await Promise.all(Array.from({ length: 50 }, announce));
  }
  expect([...refused]).toEqual([
    'resource-exhausted: node "n1" announces more than 25 times a second, or as much by what it announces: its agent tries again by itself',
  ]);
  expect(taken).toBeGreaterThanOrEqual(500);
  expect(domain.registry.observed.context.counters.refusedAnnouncements).toBeGreaterThan(0);
  await other.putAttachments({ network: 'red', attachments: [] });
}, 60_000);
