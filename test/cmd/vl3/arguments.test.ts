import { expect, test } from 'vitest';
import { collectHosts, parseHost } from '../../../cmd/vl3/arguments.ts';
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
  ['203.0.113.7', { host: '203.0.113.7' }],
  ['203.0.113.7:7443', { host: '203.0.113.7', port: 7443 }],
  ['registry.example:1', { host: 'registry.example', port: 1 }],
  ['[2001:db8::7]:7443', { host: '2001:db8::7', port: 7443 }],
  ['[2001:db8::7]', { host: '2001:db8::7' }],
])('%s is read as it is meant', (text, meant) => {
  expect(parseHost(text)).toEqual(meant);
});

test('the last group of a bare IPv6 address is no port', () => {
  expect(collectHosts('2001:db8::7', undefined)).toEqual([{ host: '2001:db8::7' }]);
});

test.each(['', ':7443', 'a:b:c', 'x:0', 'x:70000', '[203.0.113.7]:1', '2001:db8::7:x', 'a b:1'])(
  '"%s" is refused',
  (text) => {
    expect(() => parseHost(text)).toThrow('Write an address like');
  },
);

test.each([
  ['registry', 'run', '--trust-domain', 'x.example', '--listen', 'a:b:c'],
  ['registry', 'run', '--trust-domain', 'x.example', '--advertise', 'a:b:c'],
  ['agent', 'run', '--advertise', 'a:b:c'],
])('an address that cannot be read is a wrong command line, and said so: %s %s', async (...args) => {
  const { code, err } = await attempt(...args);
  expect(code).toBe(2);
  expect(err).toContain('Write an address like');
});
