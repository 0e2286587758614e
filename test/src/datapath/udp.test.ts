import { fchownSync, readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { sharePort } from '../../../src/datapath/port-sharing.ts';
import { encodeSockaddr, sockaddrLength } from '../../../src/datapath/sockaddr.ts';
import { setInt } from '../../../src/datapath/socket-options.ts';
import { closeUdp, openUdp, rebindUdp, type SocketPair, socketsOf } from '../../../src/datapath/udp.ts';
import { bind, close, POLLIN, poll, read, sendto, socket } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';

const descriptors = (): number => readdirSync('/proc/self/fd').length;

test.each([
  [1, false, 3, 0],
  [1, true, 5, 2],
  [4, false, 12, 2],
  [4, true, 20, 2],
])(
  'each of %i pairs of workers has sockets of its own, for sparse flows too: %s, and what is closed is all of them',
  (pairs, sparseFirst, theirs, guards) => {
    const before = descriptors();
    const sockets = openUdp({ port: 0, allowOffloads: false, pairs, sparseFirst });
    const own = Array.from({ length: pairs }, (_, pair) => socketsOf(sockets, pair)).flatMap(
      ({ v4, v6, raw6, sparse }) => [v4, v6, raw6, sparse?.v4, sparse?.v6].filter((fd) => fd !== undefined),
    );
    expect(own.filter((fd) => fd >= 0)).toHaveLength(theirs);
    expect(new Set(own).size).toBe(theirs);
    const moved = rebindUdp(sockets, { port: 0, allowOffloads: false, mark: 0 });
    expect(descriptors()).toBe(before + theirs + guards);
    closeUdp(moved);
    expect(descriptors()).toBe(before);
  },
);

const SOCK_DGRAM = 2;
const IPPROTO_IP = 0;
const IP_TOS = 1;
const IPPROTO_IPV6 = 41;
const IPV6_TCLASS = 67;

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

test.each([1, 2, 4, 8])(
  'a port that %i pairs of workers share is shared with nobody else, whoever that is',
  (pairs) => {
    const sockets = openUdp({ port: 0, allowOffloads: false, pairs, sparseFirst: pairs !== 4 });
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

/** Sends from a socket of its own, by this traffic class, to `port` at `address`. */
const sendTo =
  (address: string, port: number) =>
  (trafficClass: number, ...datagram: number[]): void => {
    const sender = openUdp({ port: 0, allowOffloads: false });
    const scratch = new Arena(256);
    const isV4 = address === '127.0.0.1';
    const [from, level, option] = isV4
      ? [sender.v4, IPPROTO_IP, IP_TOS]
      : [sender.v6, IPPROTO_IPV6, IPV6_TCLASS];
    expect(setInt(scratch, from, level, option, trafficClass)).toBe(true);
    const sockaddr = encodeSockaddr({ address, port });
    scratch.bytes.set(datagram);
    scratch.bytes.set(sockaddr, 128);
    const length = sockaddrLength(sockaddr[0] ?? 0);
    expect(sendto(from, scratch.address, datagram.length, 0, scratch.address + 128, length)).toBe(
      datagram.length,
    );
    scratch.unmap();
    closeUdp(sender);
  };

/** The shortest transport data there is, to a receiver index that begins with `low`. */
const transportTo = (low: number): number[] => [4, 0, 0, 0, low, 1, 2, 3, ...new Array<number>(24).fill(9)];

const AF22 = 20 << 2;
const AF41 = 34 << 2;

describe.each(['127.0.0.1', '::1'])('at %s', (address) => {
  const at = ({ v4, v6 }: SocketPair): number => (address === '127.0.0.1' ? v4 : v6);

  test('each pair gets what ends in its number, and the first all else', () => {
    const sockets = openUdp({ port: 0, allowOffloads: false, pairs: 4 });
    const own = [0, 1, 2, 3].map((pair) => at(socketsOf(sockets, pair)));
    const send = sendTo(address, sockets.port);
    for (const low of [0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]) {
      const message = transportTo(low);
      send(AF22, ...message);
      expect(own.map(received)).toEqual(
        [0, 1, 2, 3].map((pair) => (pair === (low & 3) ? message : undefined)),
      );
    }
    for (const type of [0, 1, 2, 3, 5, 0xff]) {
      const message = [type, 0, 0, 0, 3, 3, 3, 3];
      send(0, ...message);
      expect(own.map(received)).toEqual([message, undefined, undefined, undefined]);
    }
    for (const length of [0, 1, 4, 5, 31]) {
      const tooShort = transportTo(3).slice(0, length);
      send(AF22, ...tooShort);
      expect(own.map(received)).toEqual([tooShort, undefined, undefined, undefined]);
    }
    closeUdp(sockets);
  });

  test.each([1, 2, 4])(
    'of %i pairs each gets what is marked as of a sparse flow by sockets of its own, whatever its ECN mark',
    (pairs) => {
      const sockets = openUdp({ port: 0, allowOffloads: false, pairs, sparseFirst: true });
      const all = Array.from({ length: pairs }, (_, pair) => socketsOf(sockets, pair));
      const own = all.map(at);
      const sparse = all.map((one) => at(one.sparse ?? { v4: -1, v6: -1 }));
      const send = sendTo(address, sockets.port);
      const none = own.map(() => undefined);
      for (const low of [0, 1, 2, 3, 0xff])
        for (const [trafficClass, isSparse] of [
          [0, false],
          [1, false],
          [AF22, true],
          [AF22 | 2, true],
          [AF41, false],
          [AF22 | 0x80, false],
        ] as const) {
          const message = transportTo(low);
          const byItsPair = own.map((_, pair) => (pair === (low & (pairs - 1)) ? message : undefined));
          send(trafficClass, ...message);
          expect([own.map(received), sparse.map(received)]).toEqual(
            isSparse ? [none, byItsPair] : [byItsPair, none],
          );
        }
      // Handshakes stay in line, however they are marked: anyone can send them.
      for (const type of [1, 2, 3]) {
        const message = [type, 0, 0, 0, 3, 3, 3, 3];
        send(AF22, ...message);
        expect([own.map(received), sparse.map(received)]).toEqual([[message, ...none.slice(1)], none]);
      }
      closeUdp(sockets);
    },
  );
});
