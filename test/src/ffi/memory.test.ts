// Arenas, the clock and errors of system calls, against what the operating system says by other means.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import { close, ENOENT, errno, errnoName, O_RDONLY, open, read } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { loadEvp, loadLowLevel } from '../../../src/ffi/openssl.ts';

test('a system call reads into an arena where its offset says', () => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3-'));
  writeFileSync(join(directory, 'file'), 'through the foreign function interface');
  const arena = new Arena(8192);
  const offset = arena.allocate(100) + 5;
  const fd = open(join(directory, 'file'), O_RDONLY);
  expect(read(fd, arena.address + offset, 7)).toBe(7);
  close(fd);
  expect(Buffer.from(arena.bytes.subarray(offset, offset + 7)).toString()).toBe('through');
  expect(arena.bytes[offset + 7]).toBe(0);
  arena.unmap();
  rmSync(directory, { recursive: true });
});

test('a failed call leaves its error number', () => {
  expect(open('/nowhere/at/all', O_RDONLY)).toBe(-1);
  const code = errno();
  expect(code).toBe(ENOENT);
  expect(errnoName(code)).toBe('ENOENT');
});

test('regions of an arena are aligned, zero and apart, and it says when it is full', () => {
  const arena = new Arena(4096);
  const regions = [10, 64, 1, 100].map((length) => arena.allocate(length));
  for (const region of regions) expect(region % 64).toBe(0);
  expect(new Set(regions).size).toBe(4);
  expect(arena.bytes.every((byte) => byte === 0)).toBe(true);
  expect(() => arena.allocate(4096)).toThrow(/full/);
  arena.unmap();
});

test('an arena for vector code is the same memory at both places, and stays so', () => {
  const arena = new Arena(100_000, true);
  const alias = new Uint8Array(arena.alias?.buffer ?? new ArrayBuffer(0));
  expect(alias.length).toBe(131_072);
  expect(arena.bytes.length).toBe(102_400);
  arena.bytes.set([1, 2, 3], 99_000);
  expect([...alias.subarray(99_000, 99_003)]).toEqual([1, 2, 3]);
  alias[5] = 7;
  expect(arena.bytes[5]).toBe(7);
  const fd = open('/dev/zero', O_RDONLY);
  read(fd, arena.address + 99_000, 2);
  close(fd);
  expect([...alias.subarray(99_000, 99_003)]).toEqual([0, 0, 3]);
  arena.unmap();
  // What is left of it is V8's, and harmless.
  expect(alias[99_002]).toBe(3);
});

test('a pointer is the address of its target', () => {
  const arena = new Arena(4096);
  arena.setPointer(8, 100);
  expect(arena.getUint64(8)).toBe(arena.address + 100);
  expect(arena.view.getBigUint64(8, true)).toBe(BigInt(arena.address + 100));
  arena.setUint64(16, 2 ** 53 - 1);
  expect(arena.view.getBigUint64(16, true)).toBe(2n ** 53n - 1n);
  arena.unmap();
});

test('the clock is the time since boot and never goes back', () => {
  const uptime = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 1000;
  const now = monotonicNow();
  expect(Math.abs(now - uptime)).toBeLessThan(1000);
  let last = now;
  for (let i = 0; i < 1000; i++) {
    const next = monotonicNow();
    expect(next).toBeGreaterThanOrEqual(last);
    last = next;
  }
});

test('this node binary has what the fast AEAD tiers need', () => {
  expect(loadLowLevel()?.poly1305ContextSize()).toBeGreaterThan(100);
  expect(loadEvp()?.chacha20Poly1305()).toBeGreaterThan(0);
});
