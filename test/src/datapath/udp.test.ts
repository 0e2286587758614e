import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { closeUdp, openUdp, rebindUdp, socketsOf } from '../../../src/datapath/udp.ts';

const descriptors = (): number => readdirSync('/proc/self/fd').length;

test('each pair of workers has sockets of its own, and what is closed is all of them', () => {
  const before = descriptors();
  const sockets = openUdp({ port: 0, allowOffloads: false, pairs: 4 });
  const own = [0, 1, 2, 3].flatMap((pair) => {
    const { v4, v6, raw6 } = socketsOf(sockets, pair);
    return [v4, v6, raw6];
  });
  expect(own.filter((fd) => fd !== undefined && fd >= 0)).toHaveLength(12);
  expect(new Set(own).size).toBe(12);
  const moved = rebindUdp(sockets, { port: 0, allowOffloads: false, mark: 0 });
  expect(descriptors()).toBe(before + 12);
  closeUdp(moved);
  expect(descriptors()).toBe(before);
});
