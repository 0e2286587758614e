// What a registry tells of its partners, and that the README tells the same.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { observeRegistry } from '../../../src/metrics/registry-metrics.ts';
import { abroad, admit, companies, federate, invite, PARTNER } from '../registry/companies.ts';
import { refusal } from '../registry/fixture.ts';

test('federations, the age of bundles, and what partners were refused are told, as the README has them', async () => {
  const both = await companies();
  const observed = observeRegistry(both.home.registry.observed);
  onTestFinished(() => observed[Symbol.dispose]());
  await federate(both);
  await admit(both.home, { app: 'ledger' });
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  await client.joinNetwork({ network: 'red' });
  await refusal(client.joinNetwork({ network: 'green' }));
  const { lease } = await client.leasePrefix({ network: 'red', family: 4, requestId: 'a' });
  const [a, b, c] = (lease?.prefix ?? '').split('/')[0]?.split('.') ?? [];
  const workload = (id: string, host: number) => ({
    ...{ id, workload: id, interfaceName: 'red', labels: { app: id } },
    addresses: [`${a}.${b}.${c}.${host}`],
  });
  const attachments = [workload('ledger', 5), workload('other', 6)];
  await client.putAttachments({ network: 'red', attachments });
  await refusal((await both.partner.federation()).acceptInvitation({ invitation: await invite(both) }));
  const text = await observed.metrics();
  const value = (sample: string): number => Number(text.split(`\n${sample} `)[1]?.split('\n')[0]);
  expect(value('vl3_registry_federations{state="active"}')).toBe(1);
  expect(value(`vl3_registry_federation_nodes{domain="${PARTNER}"}`)).toBe(1);
  expect(value(`vl3_registry_federation_calls_refused_total{domain="${PARTNER}"}`)).toBe(1);
  expect(value(`vl3_registry_federation_bundle_refreshed{domain="${PARTNER}"}`)).toBe(1);
  expect(value(`vl3_registry_federation_attachments{domain="${PARTNER}"}`)).toBe(1);
  expect(value(`vl3_registry_federation_admissions_refused_total{domain="${PARTNER}"}`)).toBe(1);
  const age = value(`vl3_registry_federation_bundle_age_seconds{domain="${PARTNER}"}`);
  expect(age).toBeGreaterThanOrEqual(0);
  expect(age).toBeLessThan(600);
  const readme = readFileSync(resolve(import.meta.dirname, '../../../README.md'), 'utf8');
  const served = [...text.matchAll(/^# HELP (vl3_registry_federation\w*) (.*)$/gm)];
  expect(served.length).toBe(8);
  for (const [, name = '', help = ''] of served) {
    const row = readme.split('\n').find((line) => line.startsWith(`| \`${name}\` |`));
    expect(row?.endsWith(`| ${help} |`)).toBe(true);
  }
});
