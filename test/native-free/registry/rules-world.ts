// A registry's rules over a store in memory, and the calls that tests of rules begin with. Each test has a store of its own
// (`beginAnew`).

import { enroll } from '../../../native-free/registry/enrolment-rules.ts';
import { joinNetwork } from '../../../native-free/registry/lease-rules.ts';
import { createNetwork } from '../../../native-free/registry/network-rules.ts';
import type { Rule } from '../../../native-free/registry/rules.ts';
import { createToken } from '../../../native-free/registry/token-rules.ts';
import type { MemoryStore } from '../../../src/registry/memory-store.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { firstFit, memoryStore, networkRequest } from './fixtures.ts';

export const NOW = 1_000_000;
export const claim = (prefix: string, leasedAt = NOW) => ({ prefix, leasedAt });
export const HOUR = 3_600_000;
export const WEEK = 7 * 24 * HOUR;
export let store: MemoryStore;
export let transactor: Transactor;

/** To be called before each test. */
export const beginAnew = (): void => {
  store = memoryStore();
  transactor = new Transactor(store);
};

/** Does `work` in another store than the test's. */
export const within = async <T>(other: MemoryStore, by: Transactor, work: () => Promise<T>): Promise<T> => {
  const before = { store, transactor };
  store = other;
  transactor = by;
  try {
    return await work();
  } finally {
    ({ store, transactor } = before);
  }
};

export const run = async <T>(rule: Rule<T>): Promise<T> => (await transactor.run(rule)).answer;
export const refused = async (rule: () => Rule<unknown>) => {
  try {
    await run(rule());
  } catch (error) {
    if (error instanceof Error && 'code' in error) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
};
export const keysBelow = async (prefix: string) =>
  (await store.read([{ prefix }])).entries.map(({ key }) => key);
export const heldPrefixes = async () =>
  (await transactor.read([{ prefix: '/leases/' }]))
    .leases('red')
    .filter(({ value }) => value.freedAt === undefined);

let tokens = 0;
export const newToken = async (node = '', ttlMs = HOUR) => {
  const hash = (++tokens).toString(16).padStart(16, '0').padEnd(64, 'a');
  await run(createToken({ hash, node, ttlMs }, NOW));
  return hash;
};
export const enrolling = (secretHash: string, node: string, serial = `serial-${node}`, keyHash = 'key') => ({
  secretHash,
  node,
  keyHash,
  spiffeId: `spiffe://test/node/${node}`,
  svid: {
    certificate: { serial, notAfter: NOW + WEEK },
    notBefore: NOW,
    chain: [Buffer.from(serial).toString('base64')],
  },
});
export const enrolled = async (...nodes: string[]) => {
  for (const node of nodes) await run(enroll(enrolling(await newToken(), node), NOW));
};
export const red = () => run(createNetwork(networkRequest(), { now: NOW, uid: 'uid-red' }));
export const join = (node: string, network = 'red') => run(joinNetwork(network, node, NOW, firstFit));

export const attachment = (id: string, ...addresses: string[]) => ({
  id,
  workload: 'web-1',
  addresses,
  interfaceName: 'red',
  labels: { app: 'web' },
});
