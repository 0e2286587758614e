// The logger of the long-running commands: JSON lines on stderr with stable field names, secrets redacted.

import { Option } from 'commander';
import { destination, type Logger, pino } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;

export const logLevelOption = (): Option =>
  new Option('--log-level <level>', 'least severe level that is logged').choices(LOG_LEVELS).default('info');

export const createLogger = (component: string, level: string): Logger =>
  pino(
    {
      level,
      base: { component },
      timestamp: pino.stdTimeFunctions.isoTime,
      // A second line of defence; nothing should pass these in the first place.
      redact: [
        'privateKey',
        'presharedKey',
        'secret',
        'token',
        '*.privateKey',
        '*.presharedKey',
        '*.secret',
        '*.token',
      ],
    },
    destination({ fd: 2, sync: true }),
  );
