// Every setting of `vl3 webhook`. Adding one here makes its key in the file, its environment variable and its flag.

import { z } from 'zod';
import { LOG_LEVELS, METRICS_DESCRIPTION } from './common.ts';
import { choice, hostWithPort, text, trustDomain } from './fields.ts';
import { type ProgramSettings, setting } from './setting.ts';

const schema = z.strictObject({
  listen: setting(hostWithPort().prefault('0.0.0.0:9443'), {
    placeholder: '<address:port>',
    description: 'where API servers reach it, by HTTPS',
  }),
  configuration: setting(text(253).prefault('vl3-webhook'), {
    placeholder: '<name>',
    description:
      'the ValidatingWebhookConfiguration that says by what name they call it, and whom they trust there',
  }),
  name: setting(text(253).optional(), {
    placeholder: '<name>',
    description: 'what this replica is called; no other is called so',
    otherwise: 'the host name',
  }),
  kubeconfig: setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description: 'how the API server of the cluster is reached',
    otherwise: "by the service account of the webhook's pod",
  }),
  'trust-domain': setting(trustDomain().optional(), {
    placeholder: '<name>',
    description: "this cluster's domain: networks of others are warned about",
    otherwise: 'those of every domain pass',
  }),
  'log-level': setting(choice(LOG_LEVELS).prefault('info'), {
    placeholder: '<level>',
    description: `least severe level that is logged: ${LOG_LEVELS.join(', ')}`,
  }),
  'metrics-listen': setting(hostWithPort().optional(), METRICS_DESCRIPTION),
});

export const webhookSettings: ProgramSettings<typeof schema> = {
  program: 'webhook',
  environmentPrefix: 'VL3_WEBHOOK_',
  file: '/etc/vl3/webhook.yaml',
  schema,
};
