// Replay windows against a set of all counters, allowed IPs against a linear search, prefixes against text.

import { AllowedIps } from '../../../native-free/device/allowed-ips.ts';
import {
  buildAllowedIpsTable,
  lookupV4,
  lookupV6,
  NO_PEER,
} from '../../../native-free/device/allowed-ips-table.ts';
import {
  addressBytes,
  familyBits,
  formatPrefix,
  type Prefix,
  prefixAround,
  prefixContains,
} from '../../../native-free/ipam/prefix.ts';
import { REPLAY_WINDOW, ReplayWindow } from '../../../native-free/noise/replay.ts';
import { ReplayWindows } from '../../../src/datapath/replay-windows.ts';
import type { Source } from '../source.ts';
import { mustEqual, pure } from '../target.ts';

const LIMIT = 2n ** 64n - 2n ** 13n - 1n;
const EDGES = [
  0n,
  31n,
  32n,
  8159n,
  8160n,
  8192n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n - 9000n,
  LIMIT - 1n,
  LIMIT,
  2n ** 64n - 1n,
];

const fuzzReplay = (source: Source): void => {
  const window = new ReplayWindow();
  const windows = new ReplayWindows(3);
  const slot = source.between(0, 2);
  const seen = new Set<bigint>();
  let greatest = 0n;
  let at = 0n;
  while (!source.isEmpty) {
    const step = source.between(0, 5);
    if (step === 0) at = source.pick(EDGES);
    else if (step === 1) at = greatest - BigInt(REPLAY_WINDOW) + BigInt(source.between(-2, 2));
    else if (step === 2) at = greatest + BigInt(source.u16());
    else if (step === 3) at = greatest - BigInt(source.u16());
    else at += BigInt(source.between(-40, 40));
    if (at < 0n) at = 0n;
    if (at >= 2n ** 64n) at = 2n ** 64n - 1n;
    const expected = at < LIMIT && !seen.has(at) && greatest - at <= BigInt(REPLAY_WINDOW);
    mustEqual(window.accept(Number(at >> 32n), Number(at & 0xffffffffn)), expected, `counter ${at}`);
    // The worker's counters are below 2^53.
    if (greatest < 2n ** 53n && at < 2n ** 53n)
      mustEqual(windows.accept(slot, Number(at)), expected, `counter ${at} in the worker`);
    if (!expected) continue;
    seen.add(at);
    if (at > greatest) greatest = at;
  }
};

const somePrefix = (source: Source): Prefix => {
  const family = source.pick([4, 6] as const);
  const bits = familyBits(family);
  let value = 0n;
  // Few different bits, so that prefixes nest and meet.
  for (const byte of source.take(bits / 8)) value = (value << 8n) | BigInt(byte & 0x81);
  const length = source.pick([0, 1, bits, bits - 1, source.between(0, bits)]);
  return prefixAround({ family, value }, length);
};

const fuzzAllowedIps = (source: Source): void => {
  const trie = new AllowedIps<number>();
  const slow = new Map<string, { prefix: Prefix; value: number }>();
  for (let n = source.between(1, 40); n > 0; n--) {
    const prefix = somePrefix(source);
    const value = source.between(1, 5);
    const key = formatPrefix(prefix);
    const kind = source.between(0, 7);
    if (kind === 0) {
      trie.removeAll(value);
      for (const [held, one] of slow) if (one.value === value) slow.delete(held);
    } else if (kind === 1) {
      const holds = slow.get(key)?.value === value;
      mustEqual(trie.remove(prefix, value), holds, 'whether it held the prefix');
      if (holds) slow.delete(key);
    } else {
      trie.insert(prefix, value);
      slow.set(key, { prefix, value });
    }
  }
  const entries = [...trie.entries()];
  mustEqual(
    entries.map((one) => `${formatPrefix(one.prefix)} ${one.value}`).sort(),
    [...slow].map(([key, one]) => `${key} ${one.value}`).sort(),
    'the entries',
  );
  const table = buildAllowedIpsTable(entries);
  for (let n = 0; n < 24; n++) {
    const near = entries.length > 0 && source.chance(160) ? source.pick(entries).prefix : somePrefix(source);
    const bits = familyBits(near.family);
    const address = { family: near.family, value: near.value ^ (1n << BigInt(source.between(0, bits - 1))) };
    let best: { prefix: Prefix; value: number } | undefined;
    for (const one of slow.values())
      if (prefixContains(one.prefix, address) && one.prefix.length >= (best?.prefix.length ?? 0)) best = one;
    const bytes = addressBytes(address);
    mustEqual(trie.lookup(bytes), best?.value, 'who has the address');
    const fast = near.family === 4 ? lookupV4(table, bytes, 0) : lookupV6(table, bytes, 0);
    mustEqual(fast, best?.value ?? NO_PEER, 'who has the address by the table');
  }
};

export const tableTargets = [
  pure('replay', 'a counter is taken once, and none that is too old, in both windows', 400, fuzzReplay),
  pure('allowed-ips', 'the trie and the flat table find what a linear search finds', 900, fuzzAllowedIps),
];
