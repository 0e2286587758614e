import { expect, test } from 'vitest';
import { Staging } from '../../../src/datapath/staging.ts';

const packet = (device: number, length: number, first = 0, packets = 1) => {
  const bytes = new Uint8Array(length);
  bytes[0] = first;
  return { device, bytes, packets };
};

test('the newest of a peer wait, in order, and the oldest go first', () => {
  const staging = new Staging();
  for (let i = 0; i < 128; i++) expect(staging.add(7, packet(0, 100, i))).toBe(0);
  expect(staging.add(7, packet(0, 100, 200))).toBe(1);
  const firsts = staging.take(7).map(({ bytes }) => bytes[0]);
  expect(firsts).toEqual([...Array.from({ length: 127 }, (_, i) => i + 1), 200]);
  expect(staging.take(7)).toEqual([]);
});

test('a peer waits with half a megabyte at most', () => {
  const staging = new Staging();
  for (let i = 0; i < 8; i++) expect(staging.add(7, packet(0, 1 << 16))).toBe(0);
  expect(staging.add(7, packet(0, 1 << 16))).toBe(1);
  expect(staging.add(7, packet(0, 1))).toBe(1);
});

test('a super-packet that is dropped counts as the packets it stands for', () => {
  const staging = new Staging();
  for (let i = 0; i < 8; i++) expect(staging.add(7, packet(0, 1 << 16, 0, 45))).toBe(0);
  expect(staging.add(7, packet(0, 1))).toBe(45);
});

test('a network that has filled its share takes nothing from another, and gets it back', () => {
  const staging = new Staging();
  const fill = (): number => {
    let kept = 0;
    for (let peer = 0; peer < 64; peer++)
      for (let i = 0; i < 8; i++) if (staging.add(peer, packet(0, 1 << 16)) === 0) kept += 1;
    return kept;
  };
  expect(fill()).toBe(128);
  expect(staging.add(1000, packet(1, 1 << 16))).toBe(0);
  expect(staging.take(1000)).toHaveLength(1);
  for (let peer = 0; peer < 64; peer++) staging.take(peer);
  expect(fill()).toBe(128);
});

test('several workers together keep no more for a network than one, nor for all', () => {
  const workers = 8;
  const bytes = new Uint8Array(1 << 16);
  const fill = (devices: number): number => {
    let kept = 0;
    for (let worker = 0; worker < workers; worker++) {
      const staging = new Staging(workers);
      for (let peer = 0; peer < 64 * devices; peer++)
        for (let i = 0; i < 8; i++)
          if (staging.add(peer, { bytes, device: peer >> 6, packets: 1 }) === 0) kept += 1;
    }
    return kept * bytes.length;
  };
  expect(fill(1)).toBe(8 << 20);
  expect(fill(20)).toBe(64 << 20);
});
