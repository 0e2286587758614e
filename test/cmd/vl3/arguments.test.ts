import { expect, test } from 'vitest';
import type { Context } from '../../../cmd/vl3/context.ts';
import { run } from '../../../cmd/vl3/program.ts';

const attempt = async (...args: string[]): Promise<{ code: number; err: string }> => {
  const seen = { code: 0, err: '' };
  const context: Context = {
    env: {},
    out: () => {},
    err: (line) => {
      seen.err += `${line}\n`;
    },
    signal: new AbortController().signal,
    exit: (code) => {
      seen.code = code;
    },
  };
  await run(args, context);
  return seen;
};

test.each([
  ['registry', 'run', '--trust-domain', 'x.example', '--listen', 'a:b:c'],
  ['registry', 'run', '--trust-domain', 'x.example', '--advertise', 'a:b:c'],
  ['agent', 'run', '--advertise', 'a:b:c'],
])('an address that cannot be read is a wrong command line, and said so: %s %s', async (...args) => {
  const { code, err } = await attempt(...args);
  expect(code).toBe(2);
  expect(err).toContain('Write an address like');
});
