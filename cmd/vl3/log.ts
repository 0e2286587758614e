// The logger of the long-running commands: JSON lines on stderr with stable field names, secrets redacted.

import { destination, type Logger, pino } from 'pino';

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
