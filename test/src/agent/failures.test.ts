import { pino } from 'pino';
import { expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { Failures } from '../../../src/agent/failures.ts';

test('a failure is said once for each reason and network, and after ten minutes how often it came', () => {
  const lines: unknown[] = [];
  const logger = pino(
    { level: 'warn', base: null, timestamp: false },
    { write: (line: string) => lines.push(JSON.parse(line)) },
  );
  let now = 0;
  const failures = new Failures('leaving failed', { logger, clock: { monotonic: () => now } });
  const gone = new Vl3Error('unavailable', 'gone');
  for (let i = 0; i < 100; i++) {
    now += 5_000;
    expect(failures.say(gone, { network: 'red' })).toBe(gone);
  }
  failures.say(gone, { network: 'green' });
  failures.say(new Vl3Error('internal', 'other'), { network: 'red' });
  now = 700_000;
  failures.say(gone, { network: 'red' });
  expect(lines).toMatchObject([
    { network: 'red', code: 'unavailable', reason: 'gone', again: 0, msg: 'leaving failed' },
    { network: 'green', reason: 'gone', again: 0 },
    { network: 'red', reason: 'other', again: 0 },
    { network: 'red', reason: 'gone', again: 99 },
  ]);
});
