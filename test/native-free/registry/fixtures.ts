// What the rules' tests share: a store in memory, a plain first-fit chooser, and a way to run rules on them.

import type { Prefix } from '../../../native-free/ipam/prefix.ts';
import { familyBits, prefixCovers, prefixesOverlap } from '../../../native-free/ipam/prefix.ts';
import type { StoredRecord } from '../../../native-free/registry/model.ts';
import type { NetworkRequest } from '../../../native-free/registry/network-rules.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';

export const memoryStore = (): MemoryStore =>
  new MemoryStore({ identity: 'test', now: () => performance.now() });

/** First fit, the slow and obvious way: no neighbour of the tested code. */
export const firstFit = (request: {
  pool: Prefix;
  length: number;
  excluded: readonly Prefix[];
  leased: readonly Prefix[];
}): Prefix | undefined => {
  const { pool, length } = request;
  const step = 1n << BigInt(familyBits(pool.family) - length);
  for (let value = pool.value; ; value += step) {
    const candidate = { family: pool.family, value, length };
    if (!prefixCovers(pool, candidate)) return undefined;
    const taken = [...request.excluded, ...request.leased];
    if (!taken.some((other) => prefixesOverlap(other, candidate))) return candidate;
  }
};

export const networkRequest = (over: Partial<NetworkRequest> = {}): NetworkRequest => ({
  name: 'red',
  poolV4: '10.60.0.0/16',
  poolV6: 'fd00:60::/48',
  nodePrefixLengthV4: 0,
  nodePrefixLengthV6: 0,
  excluded: [],
  mtu: 0,
  ...over,
});

export const record = (over: Partial<StoredRecord> = {}): StoredRecord => ({
  record: Buffer.from(`record ${over.sequence ?? 1}`).toString('base64'),
  signature: Buffer.alloc(64, 1).toString('base64'),
  certificateChain: [Buffer.alloc(400, 2).toString('base64')],
  sequence: 1,
  prefixes: [],
  notAfter: 10_000_000_000_000,
  ...over,
});
