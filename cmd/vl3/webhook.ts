// vl3 webhook: tells people what is wrong with an annotation as they write it.

import { once } from 'node:events';
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { webhookSettings } from '../../src/config/webhook-settings.ts';
import type { CommandGroup, Context } from './context.ts';
import { createLogger } from './log.ts';
import { openMetrics } from './metrics.ts';
import { addConfigCommand, readSettings, withSettings } from './settings.ts';

export const webhookCommands: CommandGroup = (program: Command, context: Context): void => {
  const webhook = program
    .command('webhook')
    .description("a cluster's admission webhook: refuses annotations that cannot be understood");

  withSettings(webhook.command('run', { isDefault: true }), webhookSettings)
    .description('run the webhook; it makes its certificate, renews it, and tells API servers to trust it')
    .addHelpText(
      'after',
      '\nBest as the chart installs it (webhook.enabled). Any number may run beside each other.\n\nExamples:\n  vl3 webhook run\n  vl3 webhook run --kubeconfig ./kubeconfig --configuration vl3-webhook --listen 10.0.0.7:9443',
    )
    .action(async (_options: unknown, command: Command) => {
      const { values } = readSettings(command, webhookSettings, context);
      const { startWebhook } = await import('../../src/webhook/webhook.ts');
      const logger = createLogger('webhook', values['log-level']);
      await using metrics = await openMetrics(values['metrics-listen']);
      await using running = await startWebhook(
        {
          listen: values.listen,
          name: values.name ?? hostname(),
          configuration: values.configuration,
          kubeconfig: values.kubeconfig,
          trustDomain: values['trust-domain'],
        },
        { logger },
      );
      if (metrics !== undefined) {
        const { observeWebhook } = await import('../../src/metrics/webhook-metrics.ts');
        metrics.observe(observeWebhook(running.observed));
        logger.info({ port: metrics.port }, 'metrics are served');
      }
      if (!context.signal.aborted) await once(context.signal, 'abort');
      logger.info('stopping');
    });

  addConfigCommand(webhook, webhookSettings, context);
};
