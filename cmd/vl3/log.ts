// The logger of the long-running commands: JSON lines on stderr with stable field names, secrets redacted. Neither a
// flood of lines nor a log that cannot be written (its disk is full, its reader is gone) stops the program.

import { writeSync } from 'node:fs';
import { type Logger, pino } from 'pino';
import { LogBudget } from '../../native-free/log-budget.ts';

const STDERR = 2;

/** `write` takes a line; what it throws costs that line. */
export const createLogger = (
  component: string,
  level: string,
  write: (line: string) => void = (line) => void writeSync(STDERR, line),
  now: () => number = () => performance.now(),
): Logger => {
  const budget = new LogBudget();
  return pino(
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
      hooks: {
        logMethod([first, ...rest], method) {
          const [text] = [first, ...rest].filter((one) => typeof one === 'string');
          const leftOut = budget.take(text ?? '', now());
          if (leftOut === undefined) return;
          if (leftOut === 0) return method.apply(this, [first, ...rest]);
          const fields = typeof first === 'object' ? first : {};
          method.apply(this, [{ ...fields, leftOut }, text]);
        },
      },
    },
    {
      write: (line) => {
        try {
          write(line);
        } catch {
          // There is nowhere to say it.
        }
      },
    },
  );
};
