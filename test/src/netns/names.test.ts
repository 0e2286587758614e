import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAddress } from '../../../native-free/ipam/prefix.ts';
import {
  checkAttachmentId,
  checkInterfaceName,
  checkNamespaceName,
  defaultInterfaceName,
  hostInterfaceName,
  linkLocalAddress,
  macAddress,
  routerName,
} from '../../../src/netns/names.ts';

test('a host interface has a name of its own that an interface may have, the same each time', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      checkInterfaceName(hostInterfaceName(a));
      expect(hostInterfaceName(a)).toBe(hostInterfaceName(a));
      if (a !== b) expect(hostInterfaceName(a)).not.toBe(hostInterfaceName(b));
    }),
  );
});

test("no two networks have one router namespace, whatever domains are called, and each can be one's name", () => {
  const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
  const domain = fc.option(fc.stringMatching(/^[a-z0-9._-]{1,255}$/), { nil: undefined });
  const key = fc
    .tuple(name, domain)
    .map(([network, of]) => (of === undefined ? network : `${network}@${of}`));
  fc.assert(
    fc.property(key, key, (a, b) => {
      checkNamespaceName(routerName('vl3-', a));
      if (a !== b) expect(routerName('vl3-', a)).not.toBe(routerName('vl3-', b));
    }),
  );
  expect(routerName('vl3-', 'red')).toBe('vl3-red');
  expect(routerName('vl3-', 'red@home.example')).toBe('vl3-red.home.example');
  expect(routerName('vl3-', `red@${'d'.repeat(200)}`)).toMatch(/^vl3-red_[0-9a-f]{20}$/);
});

test('MAC addresses are unicast, locally administered, and differ at the two ends', () => {
  fc.assert(
    fc.property(fc.string(), (id) => {
      const mac = macAddress(id, 'pod');
      expect(mac).toMatch(/^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
      expect(mac).not.toBe(macAddress(id, 'host'));
    }),
  );
});

test('a link-local address is the EUI-64 of the MAC address', () => {
  expect(formatAddress(linkLocalAddress('02:00:5e:10:00:01'))).toBe('fe80::5eff:fe10:1');
  expect(formatAddress(linkLocalAddress('8e:ec:40:0d:be:b0'))).toBe('fe80::8cec:40ff:fe0d:beb0');
});

test.each(['', 'a b', 'x\ny', '../a', '-a', 'a'.repeat(129), 'a/b', 'a"b', 'a;b'])(
  '%j is no attachment id',
  (id) => {
    expect(() => checkAttachmentId(id)).toThrow(/is not an attachment id/);
  },
);

test('a name that passes holds nothing that a batch or a rule could mistake for syntax', () => {
  fc.assert(
    fc.property(fc.string(), (name) => {
      try {
        checkInterfaceName(name);
      } catch {
        return;
      }
      expect(name).toMatch(/^[\w.-]{1,15}$/);
    }),
  );
});

test('a pod gets an interface for each of two networks with long names that begin alike', () => {
  const names = ['payments', 'team-payments-production', 'team-payments-staging'].map(defaultInterfaceName);
  expect(names[0]).toBe('payments');
  expect(new Set(names).size).toBe(3);
  for (const name of names) expect(() => checkInterfaceName(name)).not.toThrow();
});
