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

test.each([['attach', '--netns', '/run/netns/x'], ['run']])(
  'a wait longer than the agent has patience is a wrong command line, and said so: %s',
  async (...args) => {
    const { code, err } = await attempt(...args, '--network', 'red', '--wait', '30d', '--', 'true');
    expect(code).toBe(2);
    expect(err).toContain('Wait at most 10m');
  },
);

test.each(['run', 'config'])(
  'a token and a token file from one place are a wrong command line of %s',
  async (name) => {
    const { code, err } = await attempt('agent', name, '--token', 'a', '--token-file', '/nowhere');
    expect(code).toBe(2);
    expect(err).toBe('vl3: both token and token-file are set: leave one of them out\n');
  },
);
