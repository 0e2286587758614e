// What is typed for stock WireGuard peers, before any agent is asked.

import { expect, test } from 'vitest';
import { inProcess } from './in-process.ts';

const create = (...args: string[]) =>
  inProcess(['peer', 'create', 'phone', '--network', 'red', '--socket', '/nonexistent/vl3.sock', ...args]);

test.each([
  'vpn.example',
  'vpn.example:',
  'vpn.example:0',
  'vpn.example:65536',
  '2001:db8::1:51820',
  'vpn.example:51820\nPostUp = reboot',
  ':51820',
  'a b:51820',
])('the endpoint %j, which no WireGuard could use, is refused before anything is made', async (endpoint) => {
  const { code, err } = await create('--endpoint', endpoint);
  expect(code).toBe(2);
  expect(err).toMatch(/write host:port, and an IPv6 address in brackets/);
});

test.each(['vpn.example:51820', '192.0.2.1:1', '[2001:db8::1]:51820'])(
  'the endpoint %j is taken',
  async (endpoint) => {
    expect((await create('--endpoint', endpoint)).err).not.toMatch(/host:port/);
  },
);
