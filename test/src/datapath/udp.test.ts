import { fchownSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { sharePort } from '../../../src/datapath/port-sharing.ts';
import { encodeSockaddr, sockaddrLength } from '../../../src/datapath/sockaddr.ts';
import { closeUdp, openUdp, rebindUdp, socketsOf } from '../../../src/datapath/udp.ts';
import { bind, close, POLLIN, poll, read, sendto, socket } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';

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
  expect(descriptors()).toBe(before + 14);
  closeUdp(moved);
  expect(descriptors()).toBe(before);
});

const SOCK_DGRAM = 2;

/** Whether another socket of `uid`, which says that it may be shared, can have the port. */
const canShare = (port: number, address: string, uid: number): boolean => {
  const scratch = new Arena(256);
  const sockaddr = encodeSockaddr({ address, port });
  const family = sockaddr[0] ?? 0;
  const fd = socket(family, SOCK_DGRAM, 0);
  try {
    fchownSync(fd, uid, -1);
    if (!sharePort(scratch, fd)) throw new Error('it cannot be shared at all');
    scratch.bytes.set(sockaddr);
    return bind(fd, scratch.address, sockaddrLength(family)) === 0;
  } finally {
    close(fd);
    scratch.unmap();
  }
};

test.each([2, 4, 8])(
  'a port that %i pairs of workers share is shared with nobody else, whoever that is',
  (pairs) => {
    const sockets = openUdp({ port: 0, allowOffloads: false, pairs });
    for (const address of ['0.0.0.0', '127.0.0.1', '::', '::1'])
      for (const uid of [0, 1000, 65_534])
        expect([address, uid, canShare(sockets.port, address, uid)]).toEqual([address, uid, false]);
    const { port } = rebindUdp(sockets, { port: 0, allowOffloads: false, mark: 0 });
    expect(canShare(port, '0.0.0.0', 0)).toBe(false);
    expect(canShare(sockets.port, '0.0.0.0', 0)).toBe(true);
    closeUdp(sockets);
    expect(canShare(port, '0.0.0.0', 0)).toBe(true);
  },
);

/** A datagram that has come to `fd`, if one has: all is on the loopback, where it takes no time. */
const received = (fd: number): number[] | undefined => {
  const scratch = new Arena(256);
  try {
    const { view, bytes, address } = scratch;
    view.setInt32(0, fd, true);
    view.setInt32(4, POLLIN, true);
    if (poll(address, 1, 0) !== 1) return undefined;
    return [...bytes.subarray(16, 16 + read(fd, address + 16, 64))];
  } finally {
    scratch.unmap();
  }
};

test.each(['127.0.0.1', '::1'])(
  'each pair gets at %s what ends in its number, and the first all else',
  (address) => {
    const pairs = 4;
    const sockets = openUdp({ port: 0, allowOffloads: false, pairs });
    const sender = openUdp({ port: 0, allowOffloads: false });
    const isV4 = address === '127.0.0.1';
    const own = [0, 1, 2, 3].map((pair) => socketsOf(sockets, pair)).map(({ v4, v6 }) => (isV4 ? v4 : v6));
    const scratch = new Arena(256);
    const sockaddr = encodeSockaddr({ address, port: sockets.port });
    scratch.bytes.set(sockaddr, 128);
    const send = (...datagram: number[]): void => {
      scratch.bytes.set(datagram);
      const from = isV4 ? sender.v4 : sender.v6;
      const length = sockaddrLength(sockaddr[0] ?? 0);
      expect(sendto(from, scratch.address, datagram.length, 0, scratch.address + 128, length)).toBe(
        datagram.length,
      );
    };
    for (const low of [0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]) {
      const message = [4, 0, 0, 0, low, 1, 2, 3];
      send(...message);
      expect(own.map(received)).toEqual(
        [0, 1, 2, 3].map((pair) => (pair === (low & 3) ? message : undefined)),
      );
    }
    for (const type of [0, 1, 2, 3, 5, 0xff]) {
      const message = [type, 0, 0, 0, 3, 3, 3, 3];
      send(...message);
      expect(own.map(received)).toEqual([message, undefined, undefined, undefined]);
    }
    scratch.unmap();
    closeUdp(sender);
    closeUdp(sockets);
  },
);
