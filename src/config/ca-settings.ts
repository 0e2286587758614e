// Every setting of `vl3 ca`, the signer on a machine of its own. Adding one here makes its key in the file, its environment
// variable and its flag.

import { z } from 'zod';
import { LOG_LEVELS } from './common.ts';
import { choice, directory, duration, host, trustDomain } from './fields.ts';
import { type ProgramSettings, setting } from './setting.ts';

const schema = z.strictObject({
  'trust-domain': setting(trustDomain(), {
    placeholder: '<name>',
    description: "the domain's name, e.g. aws-prod.example",
  }),
  listen: setting(host().prefault('0.0.0.0:7444'), {
    placeholder: '<address:port>',
    description: 'where to listen for the registry and for admins',
  }),
  'state-dir': setting(directory().prefault('/var/lib/vl3/ca'), {
    placeholder: '<directory>',
    isPath: true,
    description: "where the CA's key and the ledger live",
  }),
  'outage-budget': setting(
    duration()
      .refine((seconds) => seconds >= 60 && seconds <= 60 * 86_400, 'write a duration from 1m to 60d')
      .prefault('6d'),
    {
      placeholder: '<duration>',
      description: "the registry's: SVIDs and leases last a sixth longer",
    },
  ),
  'log-level': setting(choice(LOG_LEVELS).prefault('info'), {
    placeholder: '<level>',
    description: `least severe level that is logged: ${LOG_LEVELS.join(', ')}`,
  }),
});

export const caSettings: ProgramSettings<typeof schema> = {
  program: 'ca',
  environmentPrefix: 'VL3_CA_',
  file: '/etc/vl3/ca.yaml',
  schema,
};
