// A log that a signer apart has signed an end of does not end sooner, or otherwise.

import { expect, test } from 'vitest';
import { forgetHead, noteHead } from '../../../native-free/ca/log-rules.ts';
import { MemoryDocuments } from './memory-documents.ts';

const HOME = 'home.example';
const NOW = 1_800_000_000_000;
const world = () => {
  const store = new MemoryDocuments();
  const note = (head: object): void =>
    noteHead(
      store,
      new TextEncoder().encode(JSON.stringify({ trustDomain: HOME, hash: '', at: NOW, ...head })),
      HOME,
      NOW,
    );
  return { store, note };
};

test('its end is signed again, and further on, and never before or otherwise', () => {
  const { store, note } = world();
  note({ sequence: 5, hash: 'a', at: NOW - 5 });
  note({ sequence: 5, hash: 'a' });
  expect(() => note({ sequence: 5, hash: 'b' })).toThrow(/one that ends otherwise was signed/);
  note({ sequence: 6, hash: 'a', logs: [{ of: 'x', hash: 'c' }] });
  expect(() => note({ sequence: 6, hash: 'a', logs: [{ of: 'x', hash: 'd' }] })).toThrow(/ends otherwise/);
  // The chain of a partner that is none any more goes without a line.
  note({ sequence: 6, hash: 'a', logs: [] });
  note({ sequence: 9, hash: 'c', logs: [] });
  expect(() => note({ sequence: 8, hash: 'a' })).toThrow(
    /ends at number 8, and one that ends at 9 was signed/,
  );
  forgetHead(store);
  note({ sequence: 2, hash: 'z' });
});

test('what is no end of this domain at this time is not signed', () => {
  const { note, store } = world();
  expect(() => note({ sequence: 1, trustDomain: 'other.example' })).toThrow(/it is of other.example/);
  expect(() => note({ sequence: 1, at: NOW - 7_200_000 })).toThrow(/its time is not now/);
  expect(() => note({ sequence: -1 })).toThrow(/it is none/);
  expect(() => noteHead(store, new Uint8Array([255]), HOME, NOW)).toThrow(/it is none/);
  expect(() => noteHead(store, new Uint8Array(300_000), HOME, NOW)).toThrow(/it is none/);
});
