// What a thread waits for while there is no room for what it would read.

import { closeSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Poller } from '../../../src/datapath/poller.ts';
import { O_NONBLOCK, POLLIN, read, socketpair, write } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const LENGTH = 1000;
const FIRST = 0;

let arena: Arena;
let scratch: number;
let poller: Poller;
let descriptors: number[];

const openPair = (): [number, number] => {
  socketpair(AF_UNIX, SOCK_DGRAM | O_NONBLOCK, 0, scratch);
  const pair: [number, number] = [arena.view.getInt32(0, true), arena.view.getInt32(4, true)];
  descriptors.push(...pair);
  return pair;
};
const send = (fd: number): boolean => write(fd, scratch, LENGTH) === LENGTH;
const take = (fd: number): boolean => read(fd, scratch, LENGTH) > 0;

beforeEach(() => {
  arena = new Arena(8192);
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

test('a socket that is not there has room', () => {
  poller = new Poller(arena, -1, 1);
  expect(poller.hasRoom(-1)).toBe(true);
});
