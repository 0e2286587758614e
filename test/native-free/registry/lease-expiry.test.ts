import { beforeEach, describe, expect, test } from 'vitest';
import { putAttachments, putRecord } from '../../../native-free/registry/announcement-rules.ts';
import { advanceClock, startClock } from '../../../native-free/registry/clock-rules.ts';
import { bindCa, knowsCa } from '../../../native-free/registry/domain-rules.ts';
import { enroll } from '../../../native-free/registry/enrolment-rules.ts';
import {
  dueLeases,
  endLeases,
  forgetRested,
  purgeLeases,
} from '../../../native-free/registry/expiry-rules.ts';
import { keys } from '../../../native-free/registry/keys.ts';
import { joinNetwork, leasePrefix, releasePrefix } from '../../../native-free/registry/lease-rules.ts';
import { leaseTerms } from '../../../native-free/registry/lease-terms.ts';
import { MAX_LEASES } from '../../../native-free/registry/model.ts';
import { createNetwork } from '../../../native-free/registry/network-rules.ts';
import {
  beginRestored,
  endRecovery,
  finishReport,
  settle,
} from '../../../native-free/registry/recovery-rules.ts';
import { renewHolding } from '../../../native-free/registry/renewal-rules.ts';
import type { Rule } from '../../../native-free/registry/rules.ts';
import { createToken } from '../../../native-free/registry/token-rules.ts';
import type { MemoryStore } from '../../../src/registry/memory-store.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { firstFit, memoryStore, networkRequest, record } from './fixtures.ts';

const NOW = 1_000_000;
const TERMS = leaseTerms();
const PREFIX = '10.60.0.0/24';
const CA = 'a'.repeat(64);
let store: MemoryStore;
let transactor: Transactor;
let tokens = 0;
const run = async <T>(rule: Rule<T>): Promise<T> => (await transactor.run(rule)).answer;

const enrol = async (node: string): Promise<void> => {
  const secretHash = (++tokens).toString(16).padStart(16, '0').padEnd(64, 'a');
  await run(createToken({ hash: secretHash, node, ttlMs: undefined }, NOW));
  const certificate = { serial: node, notAfter: NOW * 2 };
  const svid = { certificate, notBefore: NOW, chain: ['AA=='] };
  await run(enroll({ secretHash, node, keyHash: 'k', spiffeId: 's', svid }, NOW));
};

/** Time goes on by whole ticks of the registry, and its maintenance does what it does. */
const pass = async (ms: number): Promise<void> => {
  await run(advanceClock(ms));
  const due = await run(dueLeases(TERMS));
  for (const holder of due.overdue) while ((await run(endLeases(holder, TERMS, NOW))).remaining);
  for (const holder of due.purgeable) await run(purgeLeases(holder, TERMS, NOW));
  while ((await run(forgetRested(TERMS))) > 0);
};

const everything = () => transactor.read([{ prefix: '/' }]);
const renew = async (node: string, prefixes: readonly string[], isExpired = false) => {
  const network = (await everything()).network('red')?.value;
  if (network === undefined) throw new Error('no network');
  const leases = prefixes.map((prefix) => ({ prefix, leasedAt: NOW, isExpired }));
  const { answers } = await run(renewHolding(node, { network, leases }, NOW));
  return answers.map(({ outcome }) => outcome);
};

beforeEach(async () => {
  store = memoryStore();
  transactor = new Transactor(store);
  await run(bindCa(CA));
  await run(createNetwork(networkRequest({ poolV6: '' }), { now: NOW, uid: 'uid' }));
  await enrol('n1');
  await run(startClock);
  await run(joinNetwork('red', 'n1', NOW, firstFit));
});

describe('a lease that is not renewed', () => {
  const attachment = { id: 'a', workload: '', addresses: ['10.60.0.9'], interfaceName: 'red', labels: {} };

  test('ends after its whole term, and with it what its node said of the prefix, by a tombstone', async () => {
    await run(putRecord('red', 'n1', record({ sequence: 4, prefixes: [{ prefix: PREFIX, leasedAt: NOW }] })));
    await run(putAttachments('red', 'n1', [attachment], NOW));
    await pass(TERMS.termMs - 1);
    expect((await everything()).record('red', 'n1')).toBeDefined();
    await pass(1);
    const state = await everything();
    expect(state.lease('red', PREFIX)?.value).toMatchObject({ node: 'n1', endedAt: TERMS.termMs });
    expect(state.record('red', 'n1')).toBeUndefined();
    expect(state.tombstone('red', 'n1')?.value.recordSequence).toBe(4);
    expect(state.attachments('red', 'n1')).toEqual([]);
    const late = record({ sequence: 5, prefixes: [{ prefix: PREFIX, leasedAt: NOW }] });
    await expect(run(putRecord('red', 'n1', late))).rejects.toThrow(/is not leased to node/);
  });

  test('is its node’s again in quarantine, and nobody else’s', async () => {
    await pass(TERMS.termMs);
    await enrol('n2');
    const other = await run(joinNetwork('red', 'n2', NOW, firstFit));
    expect(other.leases[0]?.prefix).toBe('10.60.1.0/24');
    await pass(TERMS.quarantineMs - 1);
    expect(await renew('n2', ['10.60.1.0/24', PREFIX])).toEqual(['renewed', 'lost']);
    expect(await renew('n1', [PREFIX], true)).toEqual(['renewed']);
    expect((await everything()).lease('red', PREFIX)?.value.endedAt).toBeUndefined();
  });

  test('is free after the quarantine, which no start begins anew, and its node is off the network', async () => {
    await pass(TERMS.termMs);
    await pass(TERMS.quarantineMs / 2);
    await run(startClock);
    await pass(TERMS.quarantineMs / 2);
    const state = await everything();
    expect(state.lease('red', PREFIX)).toBeUndefined();
    expect(state.member('red', 'n1')).toBeUndefined();
    expect(state.tombstone('red', 'n1')).toBeDefined();
    expect(await renew('n1', [PREFIX], true)).toEqual(['lost']);
  });

  test('has its full term from each start on, and no time passes while the registry is down', async () => {
    await pass(TERMS.termMs - 1);
    await run(startClock);
    await pass(TERMS.termMs - 1);
    expect((await everything()).lease('red', PREFIX)?.value.endedAt).toBeUndefined();
    await pass(1);
    expect((await everything()).lease('red', PREFIX)?.value.endedAt).toBeDefined();
  });

  test('ends also when there are more attachments in it than fit into one transaction', async () => {
    const many = Array.from({ length: 200 }, (_, i) => ({
      ...attachment,
      id: `a${i}`,
      addresses: [`10.60.0.${i + 2}`],
    }));
    while ((await run(putAttachments('red', 'n1', many, NOW))).remaining > 0);
    await pass(TERMS.termMs);
    expect((await everything()).attachments('red', 'n1')).toEqual([]);
  });
});

test('a node with every lease it may have renews, loses and gives back all of them, each in one transaction', async () => {
  const prefixes = [PREFIX];
  for (let i = 1; i < MAX_LEASES; i++) {
    const request = { network: 'red', node: 'n1', family: 4, requestId: `r${i}` };
    prefixes.push((await run(leasePrefix(request, NOW, firstFit))).prefix);
  }
  await pass(1000);
  expect(new Set(await renew('n1', prefixes))).toEqual(new Set(['renewed']));
  await pass(TERMS.termMs);
  expect((await everything()).leases('red').every(({ value }) => value.endedAt !== undefined)).toBe(true);
  expect(new Set(await renew('n1', prefixes, true))).toEqual(new Set(['renewed']));
  await run(beginRestored('s2'));
  expect(await renew('n1', [])).toEqual([]);
  expect((await everything()).leases('red').every(({ value }) => value.freedAt !== undefined)).toBe(true);
  expect(new Set(await renew('n1', prefixes))).toEqual(new Set(['renewed']));
});

test('a prefix that was given back rests: it goes to another only when nothing else is free, and then it is forgotten', async () => {
  await run(releasePrefix('red', 'n1', PREFIX));
  const resting: unknown[] = [];
  const chooser: typeof firstFit = (request) => {
    resting.push((request as { resting?: unknown[] }).resting?.length);
    return firstFit(request);
  };
  await enrol('n2');
  await run(joinNetwork('red', 'n2', NOW, chooser));
  expect(resting).toEqual([1]);
  expect((await everything()).lease('red', PREFIX)?.value).toMatchObject({ node: 'n2' });
  await run(leasePrefix({ network: 'red', node: 'n1', family: 4, requestId: 'again' }, NOW, firstFit));
  await run(releasePrefix('red', 'n1', '10.60.1.0/24'));
  await pass(TERMS.restMs);
  expect((await everything()).lease('red', '10.60.1.0/24')).toBeUndefined();
});

test('a store of before there was registry time loads, and its leases have their full term', async () => {
  const old = memoryStore();
  transactor = new Transactor(old);
  const value = (content: unknown) => new TextEncoder().encode(JSON.stringify(content));
  const put = (key: string, content: unknown) => ({ kind: 'put' as const, key, value: value(content) });
  const lease = { network: 'red', node: 'n1', prefix: PREFIX, leasedAt: NOW };
  await old.transact([], [put(keys.domain, { caFingerprint: CA }), put(keys.lease('red', PREFIX), lease)]);
  expect(await run(knowsCa)).toBe('known');
  await run(startClock);
  await run(bindCa(CA));
  await pass(TERMS.termMs - 1);
  expect((await everything()).lease('red', PREFIX)?.value).toEqual(lease);
  await pass(1);
  expect((await everything()).lease('red', PREFIX)?.value.endedAt).toBe(TERMS.termMs);
});

describe('a recovery', () => {
  test('begins once for a restored store, and ends when all known nodes have spoken and a tick has passed', async () => {
    expect(await run(beginRestored('s2'))).toBe(true);
    expect(await run(beginRestored('s2'))).toBe(false);
    await run(finishReport('n1', { pending: [], conflicts: [] }));
    expect(await run(endRecovery(TERMS))).toBeUndefined();
    await run(advanceClock(TERMS.tickMs));
    expect(await run(endRecovery(TERMS))).toBe('all-reported');
    expect(await run(beginRestored('s2'))).toBe(false);
  });

  test('of an empty store ends by itself only when nobody can hold anything more', async () => {
    transactor = new Transactor(memoryStore());
    expect(await run(knowsCa)).toBe('fresh');
    await run(bindCa(CA, true));
    await run(advanceClock(TERMS.termMs + TERMS.quarantineMs - 1));
    expect(await run(endRecovery(TERMS))).toBeUndefined();
    await run(advanceClock(1));
    expect(await run(endRecovery(TERMS))).toBe('run-out');
  });

  test('gives what one node claims and the other never confirmed to the first, when an admin settles it', async () => {
    await enrol('n2');
    await run(beginRestored('s2'));
    expect(await renew('n2', [PREFIX])).toEqual(['pending']);
    await run(finishReport('n2', { pending: [{ network: 'red', prefix: PREFIX }], conflicts: [] }));
    expect((await run(settle(NOW))).unclaimed.map(({ node }) => node)).toEqual(['n1']);
    expect(await renew('n2', [PREFIX])).toEqual(['renewed']);
    expect(await renew('n1', [PREFIX])).toEqual(['lost']);
  });

  test('takes nobody’s word for a prefix whose term is over', async () => {
    await run(beginRestored('s2'));
    expect(await renew('n1', [PREFIX], true)).toEqual(['pending']);
    await enrol('n2');
    expect(await renew('n2', [PREFIX])).toEqual(['renewed']);
  });
});
