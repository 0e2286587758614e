// The status annotation.

import { expect, test } from 'vitest';
import { formatNetworkStatus, STATUS_KEY } from '../../../native-free/kube/network-status.ts';

const red = {
  name: 'red',
  interface: 'red',
  ips: ['10.60.0.2', 'fd00::2'],
  mac: '02:00:00:00:00:01',
  mtu: 1420,
};
const green = { name: 'green', interface: 'net1', ips: [], pending: 'the registry cannot be reached' };

test('lists networks as others read it, pending ones with the reason', () => {
  expect(JSON.parse(formatNetworkStatus([red, green]))).toEqual([
    { name: 'green', interface: 'net1', ips: [], default: false, dns: {}, pending: green.pending },
    { ...red, default: false, dns: {} },
  ]);
});

test('stands under a key of its own: Multus writes the other', () => {
  expect(STATUS_KEY).toBe('vl3.io/network-status');
});

test('says the same of the same networks, whatever their order, and cuts a long reason', () => {
  expect(formatNetworkStatus([red, green])).toBe(formatNetworkStatus([green, red]));
  expect(formatNetworkStatus([{ ...green, pending: 'x'.repeat(5000) }]).length).toBeLessThan(700);
});
