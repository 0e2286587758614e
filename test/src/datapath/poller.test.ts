// What a thread waits for: with many TUNs, and while there is no room for what it would read.

import { closeSync, readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Poller } from '../../../src/datapath/poller.ts';
import { O_NONBLOCK, POLLIN, read, socketpair, write } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const LENGTH = 1000;
const FIRST = 0;

let arena: Arena;
let scratch: number;
let poller: Poller;
let descriptors: number[];

const openPair = (type = SOCK_DGRAM): [number, number] => {
  socketpair(AF_UNIX, type | O_NONBLOCK, 0, scratch);
  const pair: [number, number] = [arena.view.getInt32(0, true), arena.view.getInt32(4, true)];
  descriptors.push(...pair);
  return pair;
};
const send = (fd: number): boolean => write(fd, scratch, LENGTH) === LENGTH;
const take = (fd: number): boolean => read(fd, scratch, LENGTH) > 0;

beforeEach(() => {
  arena = new Arena(16384);
  scratch = arena.address + arena.allocate(LENGTH);
  descriptors = [];
});
afterEach(() => {
  for (const fd of descriptors) closeSync(fd);
  arena.unmap();
});

test('a TUN is not waited for while a socket has no room, and is again once it has', () => {
  const [socket, far] = openPair();
  const [tun, inside] = openPair();
  const [listener, sender] = openPair();
  poller = new Poller(arena, -1, 1, [listener]);
  const position = poller.watch([tun]);
  const seen = (): [number, number] => {
    poller.wait(0);
    return [poller.eventsAt(FIRST), poller.eventsAt(position)];
  };
  send(inside);
  expect(poller.hasRoom(socket)).toBe(true);
  expect(seen()).toEqual([0, POLLIN]);

  while (send(socket));
  expect([poller.hasRoom(socket), poller.isHeldBack]).toEqual([false, true]);
  expect(poller.eventsAt(position)).toBe(0);
  expect(seen()).toEqual([0, 0]);
  // What comes from outside is.
  send(sender);
  expect(seen()).toEqual([POLLIN, 0]);

  while (take(far));
  expect([poller.hasRoom(socket), poller.isHeldBack]).toEqual([true, false]);
  expect(seen()).toEqual([POLLIN, POLLIN]);
});

describe('of many TUNs', () => {
  const MANY = 100;
  const tuns: number[] = [];
  const insides: number[] = [];

  beforeEach(() => {
    for (const list of [tuns, insides]) list.length = 0;
    for (let i = 0; i < MANY; i++) {
      const [tun, inside] = openPair();
      tuns.push(tun);
      insides.push(inside);
    }
  });
  const readable = (position: number): number[] => {
    poller.wait(0);
    return tuns.map((_, i) => i).filter((i) => poller.eventsAt(position + i) === POLLIN);
  };

  test('those that have something are seen, as long as they have', () => {
    poller = new Poller(arena, -1, MANY);
    const position = poller.watch(tuns);
    expect(readable(position)).toEqual([]);
    for (const i of [0, 41, 99]) send(insides[i] ?? -1);
    expect(readable(position)).toEqual([0, 41, 99]);
    take(tuns[41] ?? -1);
    expect(readable(position)).toEqual([0, 99]);
    for (const i of [0, 99]) take(tuns[i] ?? -1);
    expect(readable(position)).toEqual([]);
    poller.close();
  });

  test('each is seen in its turn when all have something', () => {
    poller = new Poller(arena, -1, MANY);
    const position = poller.watch(tuns);
    for (const inside of insides) send(inside);
    const seen = new Set([...readable(position), ...readable(position)]);
    expect(seen.size).toBe(MANY);
    poller.close();
  });

  test('one whose other end is gone is told apart, and one that is no longer watched is not seen', () => {
    poller = new Poller(arena, -1, MANY);
    const [lost, far] = openPair(SOCK_STREAM);
    let position = poller.watch([...tuns.slice(1), lost]);
    closeSync(far);
    descriptors = descriptors.filter((fd) => fd !== far);
    poller.wait(0);
    expect(poller.eventsAt(position + MANY - 1) & ~POLLIN).not.toBe(0);
    send(insides[8] ?? -1);
    position = poller.watch(tuns.slice(0, 7));
    expect(readable(position)).toEqual([]);
    poller.close();
  });

  test('none is waited for while a socket has no room', () => {
    const [socket, far] = openPair();
    poller = new Poller(arena, -1, MANY);
    const position = poller.watch(tuns);
    send(insides[5] ?? -1);
    expect(readable(position)).toEqual([5]);
    while (send(socket));
    expect(poller.hasRoom(socket)).toBe(false);
    expect(poller.eventsAt(position + 5)).toBe(0);
    expect(readable(position)).toEqual([]);
    while (take(far));
    expect(poller.hasRoom(socket)).toBe(true);
    expect(readable(position)).toEqual([5]);
    poller.close();
  });

  test('no descriptor is left when others are watched, or none', () => {
    const open = (): number => readdirSync('/proc/self/fd').length;
    const before = open();
    poller = new Poller(arena, -1, MANY);
    for (let i = 0; i < 3; i++) poller.watch(tuns);
    expect(open()).toBe(before + 1);
    poller.close();
    expect(open()).toBe(before);
  });
});

test('a socket that is not there has room', () => {
  poller = new Poller(arena, -1, 1);
  expect(poller.hasRoom(-1)).toBe(true);
});
