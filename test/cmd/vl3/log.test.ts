import { expect, test } from 'vitest';
import { createLogger } from '../../../cmd/vl3/log.ts';

const logging = () => {
  const lines: Record<string, unknown>[] = [];
  const clock = { now: 0 };
  const write = (line: string): void => void lines.push(JSON.parse(line));
  return { lines, clock, logger: createLogger('agent', 'info', write, () => clock.now) };
};

test('a line has its component, level, fields and text, and no secret', () => {
  const { lines, logger } = logging();
  logger.warn({ node: 'edge-1', token: 'vl3j1.x' }, 'refused');
  logger.info('up');
  logger.debug('not at this level');
  expect(lines).toMatchObject([
    { component: 'agent', level: 40, node: 'edge-1', token: '[Redacted]', msg: 'refused' },
    { component: 'agent', level: 30, msg: 'up' },
  ]);
});

test('a flood of lines is cut, and how many were left out is said', () => {
  const { lines, clock, logger } = logging();
  for (let i = 0; i < 5000; i++) logger.info({ i }, 'call refused');
  expect(lines).toHaveLength(300);
  clock.now = 1000;
  logger.info({ i: 'next' }, 'call refused');
  expect(lines.at(-1)).toMatchObject({ i: 'next', leftOut: 4700, msg: 'call refused' });
});

test('a log that cannot be written stops nothing', () => {
  const logger = createLogger('agent', 'info', () => {
    throw new Error('ENOSPC: no space left on device');
  });
  expect(() => logger.error({ err: new Error('x') }, 'lost')).not.toThrow();
});
