import { expect, test } from 'vitest';
import { duration, host, hostWithPort, integer } from '../../../src/config/fields.ts';

test.each([
  ['203.0.113.7', { host: '203.0.113.7' }],
  ['203.0.113.7:7443', { host: '203.0.113.7', port: 7443 }],
  ['registry.example:1', { host: 'registry.example', port: 1 }],
  ['[2001:db8::7]:7443', { host: '2001:db8::7', port: 7443 }],
  ['[2001:db8::7]', { host: '2001:db8::7' }],
  // The last group of a bare IPv6 address is no port.
  ['2001:db8::7', { host: '2001:db8::7' }],
])('%s is read as it is meant', (text, meant) => {
  expect(host().parse(text)).toEqual(meant);
});

test.each(['', ':7443', 'a:b:c', 'x:0', 'x:70000', '[203.0.113.7]:1', '2001:db8::7:x', 'a b:1'])(
  '"%s" is refused',
  (text) => {
    expect(host().safeParse(text).error?.message).toContain('write an address like');
  },
);

test('where metrics are served has a port', () => {
  expect(hostWithPort().parse('[::1]:9643')).toEqual({ host: '::1', port: 9643 });
  expect(hostWithPort().safeParse('127.0.0.1').success).toBe(false);
});

test.each([
  ['90s', 90],
  ['15m', 900],
  ['1h', 3600],
  ['7d', 604_800],
])('%s is %d seconds', (text, seconds) => {
  expect(duration().parse(text)).toBe(seconds);
});

test.each(['', 'soon', '7', '-1s', '1.5h', '1h30m', '1w'])('"%s" is no duration', (text) => {
  expect(duration().safeParse(text).success).toBe(false);
});

test.each(['', '0', '1e3', '0x10', ' 5', '65536', '-1', '99999999999999999999'])(
  '"%s" is no port',
  (text) => {
    expect(integer(1, 65_535).safeParse(text).success).toBe(false);
  },
);
