// What a webhook tells of itself, and that the README tells the same.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test, vi } from 'vitest';
import { observeWebhook } from '../../../src/metrics/webhook-metrics.ts';
import { parsePrometheusText, sumOf } from './prometheus-text.ts';

const counts = { allowed: 3, warned: 1, refused: 2, other: 0, malformed: 4 };

test('reviews are counted by result, answers are timed, and the README has every metric as it is served', async () => {
  const server = { counts, onDone: (_seconds: number) => {} };
  const certificates = { problems: ['it is not trusted yet'], notAfter: 1_800_000_000_000, renewals: 5 };
  using observed = observeWebhook({ server, certificates });
  server.onDone(0.003);
  // Node's own have no value before the event loop has turned a few times.
  const metrics = await vi.waitFor(async () => parsePrometheusText(await observed.metrics()), {
    timeout: 30_000,
  });
  expect(sumOf(metrics, 'vl3_webhook_reviews_total', { result: 'refused' })).toBe(2);
  expect(sumOf(metrics, 'vl3_webhook_reviews_total')).toBe(10);
  expect(sumOf(metrics, 'vl3_webhook_certificate_expiry_timestamp_seconds')).toBe(1_800_000_000);
  expect(sumOf(metrics, 'vl3_webhook_certificate_renewals_total')).toBe(5);
  expect(metrics.get('vl3_webhook_review_duration_seconds')?.type).toBe('histogram');
  expect(await observed.readiness()).toEqual(['it is not trusted yet']);
  expect(await observed.health()).toEqual([]);

  const readme = readFileSync(resolve(import.meta.dirname, '../../../README.md'), 'utf8');
  const rows = [...readme.matchAll(/^\| `(vl3_webhook_\w+)` \| (\w+) \| ([a-z ]+|-) \| (.*) \|$/gm)];
  const told = rows.map(([, name, type, , help]) => ({ name, type, help }));
  const served = [...metrics]
    .filter(([name]) => name.startsWith('vl3_webhook_'))
    .map(([name, { type, help }]) => ({ name, type, help }));
  expect(told).toEqual(served);
});
