import { expect, test } from 'vitest';
import {
  advertised,
  duration,
  host,
  hostWithPort,
  integer,
  reservedRange,
} from '../../../src/config/fields.ts';

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

test.each([
  '',
  ':7443',
  'a:b:c',
  'x:0',
  'x:70000',
  '[203.0.113.7]:1',
  '2001:db8::7:x',
  'a b:1',
  '1.2.3.400',
  '10.1',
  'a_b.7',
  '-x',
  'http//x',
  'a..b',
])('"%s" is refused', (text) => {
  expect(host().safeParse(text).error?.message).toContain('write an address like');
});

test.each([
  '0.0.0.0',
  '127.0.0.1:51820',
  '169.254.3.4',
  '224.0.0.1',
  '255.255.255.255:1',
  '::',
  '::1',
  'fe80::1',
  '[fe80::1%eth0]:1',
  '[ff02::1]:7443',
  '::ffff:203.0.113.7',
])('%s is not advertised: nobody could reach it', (text) => {
  const { error } = advertised({ loopback: false }).safeParse(text);
  expect(error?.message).toMatch(/no other machine can reach this machine at .*: name an address of it/);
});

test('what can be reached is advertised, and names are: a registry also beside its nodes', () => {
  for (const text of ['203.0.113.7', '10.0.0.5:1', '[2001:db8::7]:7443', 'fd00::5', 'vpn.example:4500'])
    expect(advertised({ loopback: false }).safeParse(text).success, text).toBe(true);
  for (const text of ['127.0.0.1:7443', '[::1]:7443'])
    expect(advertised({ loopback: true }).safeParse(text).success, text).toBe(true);
  for (const text of ['0.0.0.0', '224.0.0.1', '127.0.0.400'])
    expect(advertised({ loopback: true }).safeParse(text).success, text).toBe(false);
});

test.each(['0.0.0.0/0', '::/0'])('%s is no range to reserve', (text) => {
  expect(reservedRange().safeParse(text).error?.message).toContain('no network could have a pool');
});

test('a range to reserve is a prefix', () => {
  expect(reservedRange().parse('10.96.0.0/12')).toMatchObject({ family: 4, length: 12 });
  expect(reservedRange().safeParse('10.96.0.1/12').error?.message).toContain('did you mean');
});

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
