// The webhook as a program of its own, with times of a test's: `node webhook-program.ts '{"listen":…,"pace":…}'`.

import { createLogger } from '../../cmd/vl3/log.ts';
import { openMetrics } from '../../cmd/vl3/metrics.ts';
import { observeWebhook } from '../../src/metrics/webhook-metrics.ts';
import { startWebhook, type WebhookOptions } from '../../src/webhook/webhook.ts';

export interface WebhookProgramOptions extends WebhookOptions {
  readonly metrics: { readonly host: string; readonly port: number };
}

if (import.meta.main) {
  const options: WebhookProgramOptions = JSON.parse(process.argv[2] ?? '{}');
  await using metrics = await openMetrics(options.metrics);
  await using running = await startWebhook(options, { logger: createLogger('webhook', 'info') });
  metrics?.observe(observeWebhook(running.observed));
  await new Promise((resolve) => process.once('SIGTERM', resolve));
}
