// A registry that lost its memory, over real TLS, and nodes that hold, claim, testify and cheat.

import { copyFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { JoinNetworkResponse } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { LeaseAnswer_Outcome as Outcome } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { signRecord } from '../../../src/identity/record-signer.ts';
import { backupStopped } from '../../../src/registry/backup-file.ts';
import type { AdminClient } from '../../../src/registry/client.ts';
import { restoreStore } from '../../../src/registry/restore.ts';
import { red, refusal, startDomain, type TestDomain, type TestNode, temporaryDirectory } from './fixture.ts';

/** A minute of budget: leases last 70 s, registry time is written every 350 ms. */
const SHORT = { outageBudgetMs: 60_000, livenessTtlMs: 2000 };

type Held = JoinNetworkResponse;

const join_ = (node: TestNode): Promise<Held> => node.client.joinNetwork({ network: 'red' });

const renew = async (node: TestNode, held: Held, leases = held.leases, seen = {}) => {
  const { answers, recovering } = await node.client.renewLeases({
    holdings: held.network === undefined ? [] : [{ network: held.network, leases }],
    ...seen,
  });
  return { recovering, outcomes: answers.map(({ prefix, outcome }) => [prefix, Outcome[outcome]]) };
};

const renewedAll = ({ leases }: Held) => leases.map(({ prefix }) => [prefix, 'RENEWED']);

const signed = ({ identity }: TestNode, held: Held, sequence = 1) => {
  const record = signRecord(identity, {
    network: 'red',
    networkUid: held.network?.uid ?? '',
    publicKey: Buffer.alloc(32, identity.name).toString('base64'),
    endpoints: [],
    sequence,
    prefixes: held.leases.map(({ prefix, leasedAt }) => ({
      prefix,
      leasedAt: Number(leasedAt?.seconds ?? 0n) * 1000 + Math.floor((leasedAt?.nanos ?? 0) / 1e6),
    })),
  });
  return { ...record, certificateChain: [...record.certificateChain] };
};

const storeFiles = (domain: TestDomain): string[] =>
  readdirSync(domain.stateDirectory).filter((name) => name.startsWith('store.db'));

const loseStore = async (domain: TestDomain): Promise<void> => {
  await domain.stop();
  for (const file of storeFiles(domain)) rmSync(join(domain.stateDirectory, file));
  await domain.start();
};

const copyStore = (domain: TestDomain): string => {
  const copy = temporaryDirectory();
  for (const file of storeFiles(domain)) copyFileSync(join(domain.stateDirectory, file), join(copy, file));
  return copy;
};

const putStoreBack = (domain: TestDomain, copy: string): void => {
  for (const file of storeFiles(domain)) rmSync(join(domain.stateDirectory, file));
  for (const file of readdirSync(copy)) copyFileSync(join(copy, file), join(domain.stateDirectory, file));
};

/** What a watch tells a node of the store, with the registry's word for it. */
const positionOf = async (node: TestNode) => {
  const watch = new AbortController();
  for await (const { storeId, revision, stamp } of node.client.watchNetwork(
    { network: 'red' },
    { signal: watch.signal },
  )) {
    watch.abort();
    return { storeId, revision, stamp };
  }
  throw new Error('the watch said nothing');
};

const recoveryOf = async (admin: AdminClient) => (await admin.getStatus({})).recovery;

const until = async (holds: () => Promise<boolean>): Promise<void> => {
  for (const end = Date.now() + 30_000; !(await holds()); ) {
    if (Date.now() > end) throw new Error('it did not come to be');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};

test('an empty registry takes nodes, network, leases and records from what they hold, and issues nothing until it is settled', async () => {
  const domain = await startDomain();
  const first = await domain.admin();
  await first.createNetwork({ network: red });
  const [a, b, silent] = [await domain.enrol('a'), await domain.enrol('b'), await domain.enrol('silent')];
  const [heldA, heldB, heldSilent] = [await join_(a), await join_(b), await join_(silent)];
  await a.client.putRecord({ network: 'red', record: signed(a, heldA) });
  const before = (await first.getNetwork({ name: 'red' })).network;

  await loseStore(domain);
  const admin = await domain.admin();
  expect(await recoveryOf(admin)).toMatchObject({ reason: 'empty', awaited: [], adopted: [] });
  expect((await a.client.heartbeat({})).recovering).toBe(true);
  expect(await refusal(admin.createNetwork({ network: red }))).toMatch(/^unavailable: .*registry settle/);
  expect(await renew(a, heldA)).toEqual({ recovering: true, outcomes: renewedAll(heldA) });
  expect((await admin.getNetwork({ name: 'red' })).network).toEqual({
    ...before,
    revision: expect.anything(),
  });
  // Of another node the registry knows nothing yet; a third testifies of it with the record it signed.
  const testimony = [signed(silent, heldSilent, 5), { ...signed(b, heldB), signature: new Uint8Array(64) }];
  expect(await a.client.testifyRecords({ network: 'red', records: testimony })).toMatchObject({
    restored: 1,
  });
  expect(await a.client.testifyRecords({ network: 'red', records: testimony })).toMatchObject({
    restored: 0,
  });
  const { recovery } = await admin.getStatus({});
  expect(recovery?.awaited).toEqual(['silent']);
  expect(recovery?.adopted.sort()).toEqual(['a', 'silent']);

  const request = { network: 'red', family: 4, requestId: 'more' };
  expect(await refusal(a.client.leasePrefix(request))).toMatch(/^unavailable: .*no prefix until nodes/);
  // Under that name an unknown node may come back, unless the admin says that it does not.
  expect(await refusal(domain.enrol('new'))).toMatch(/^unavailable: .*no name until nodes/);
  expect(await refusal(domain.enrol('new', await domain.token('new')))).toBe('accepted');

  const { unclaimed } = await admin.settleRegistry({});
  expect(unclaimed.map(({ node, prefix }) => [node, prefix])).toEqual(
    heldSilent.leases.map(({ prefix }) => ['silent', prefix]),
  );
  expect(await recoveryOf(admin)).toBeUndefined();
  const taken = [...heldA.leases, ...heldSilent.leases].map(({ prefix }) => prefix);
  expect(taken).not.toContain((await a.client.leasePrefix(request)).lease?.prefix);
  // The one who was silent lost nothing; whom nobody named is a stranger now.
  expect((await renew(silent, heldSilent)).outcomes).toEqual(renewedAll(heldSilent));
  expect(await refusal(b.client.heartbeat({}))).toMatch(/^unauthenticated: .*is unknown here/);
  const log = domain.log.lines.join('');
  for (const said of [
    'lost its memory',
    'taken from its certificate',
    'restored by testimony',
    'ended by an admin',
  ])
    expect(log).toContain(said);
});

test('a restored registry waits for all it knows, and what was leased since the backup stays its holder’s', async () => {
  const domain = await startDomain(SHORT);
  await (await domain.admin()).createNetwork({ network: red });
  const [a, b] = [await domain.enrol('a'), await domain.enrol('b')];
  const heldA = await join_(a);
  await domain.stop();
  const file = join(temporaryDirectory(), 'backup.db');
  await backupStopped(join(domain.stateDirectory, 'store.db'), { file, force: false, onProgress: () => {} });
  await domain.start();
  const heldB = await join_(b);
  const more = await a.client.leasePrefix({ network: 'red', family: 4, requestId: 'r' });
  await domain.stop();
  await restoreStore({ file, stateDirectory: domain.stateDirectory, force: true, now: Date.now() });
  await domain.start();

  const admin = await domain.admin();
  expect((await recoveryOf(admin))?.awaited.sort()).toEqual(['a', 'b']);
  expect((await renew(b, heldB)).outcomes).toEqual(renewedAll(heldB));
  const all = [...heldA.leases, ...(more.lease ? [more.lease] : [])];
  expect((await renew(a, heldA, all)).outcomes).toEqual(all.map(({ prefix }) => [prefix, 'RENEWED']));
  await until(async () => (await recoveryOf(admin)) === undefined);
  expect(domain.log.lines.join('')).toContain('every node has said what it holds');
  const { leases } = await admin.getNetwork({ name: 'red' });
  expect(leases.map(({ prefix }) => prefix).sort()).toEqual(
    [...all, ...heldB.leases].map(({ prefix }) => prefix).sort(),
  );
});

test('a copy that was put back by hand is found out by what its nodes have seen, before it issues anything', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const [a, b] = [await domain.enrol('a'), await domain.enrol('b')];
  await a.client.heartbeat({});
  await domain.stop();
  const copy = copyStore(domain);
  await domain.start();
  await a.client.heartbeat({});
  const heldA = await join_(a);
  const seen = await positionOf(a);
  const later = { ...(await positionOf(a)), revision: seen.revision + 1n };
  await domain.stop();
  putStoreBack(domain, copy);
  await domain.start();
  expect(await refusal(join_(b))).toMatch(/^unavailable: .*first hears the nodes that were alive \(a\)/);
  expect((await a.client.heartbeat(seen)).recovering).toBe(true);
  expect(await recoveryOf(await domain.admin())).toMatchObject({ reason: 'went-back' });
  expect(await refusal(join_(b))).toMatch(/^unavailable: .*lost its memory/);
  expect((await renew(a, heldA, heldA.leases, seen)).outcomes).toEqual(renewedAll(heldA));

  // Settled once, it is not lost again by whoever repeats it, over a restart too, nor by a later one that was never said.
  const admin = await domain.admin();
  await admin.settleRegistry({});
  for (const position of [seen, later]) expect((await b.client.heartbeat(position)).recovering).toBe(false);
  await domain.stop();
  await domain.start();
  for (const node of [a, b]) expect((await node.client.heartbeat(seen)).recovering).toBe(false);
  expect(await refusal(join_(b))).toBe('accepted');
});

test('no node makes the registry recover by naming a revision or a store that the registry never spoke of', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  await admin.createNetwork({ network: red });
  const [liar, b] = [await domain.enrol('liar'), await domain.enrol('b')];
  await join_(liar);
  const { storeId, revision, stamp } = await positionOf(liar);
  expect(stamp).toHaveLength(48);
  const flipped = stamp.map((byte, index) => (index === 20 ? byte ^ 1 : byte));
  const otherRun = stamp.map((byte, index) => (index === 0 ? byte ^ 1 : byte));
  const huge = BigInt(Number.MAX_SAFE_INTEGER);
  for (const told of [
    { storeId, revision: huge },
    { storeId, revision: huge, stamp },
    { storeId, revision: revision + 1n, stamp },
    { storeId, revision, stamp: flipped },
    { storeId, revision, stamp: otherRun },
    { storeId: 'never-was', revision: 1n },
    { storeId: 'never-was', revision, stamp },
    { storeId: '', revision, stamp },
    { storeId, revision, stamp: new Uint8Array(100_000) },
  ]) {
    expect((await liar.client.heartbeat(told)).recovering).toBe(false);
    expect((await liar.client.renewLeases({ holdings: [], ...told })).recovering).toBe(false);
    const { storeId: id, revision: afterRevision, stamp: watchStamp = new Uint8Array() } = told;
    const watch = new AbortController();
    const request = { network: 'red', storeId: id, afterRevision, stamp: watchStamp };
    for await (const _ of liar.client.watchNetwork(request, { signal: watch.signal })) {
      watch.abort();
      break;
    }
  }
  await domain.stop();
  await domain.start();
  // What it really heard, in this run and in the one before, proves nothing against a store that has it.
  expect((await liar.client.heartbeat({ storeId, revision, stamp })).recovering).toBe(false);
  expect((await liar.client.heartbeat(await positionOf(liar))).recovering).toBe(false);
  expect(await recoveryOf(await domain.admin())).toBeUndefined();
  expect(await refusal(join_(b))).toBe('accepted');
});

test('who was deleted stays out, and one who claims everything gets what is free, within bounds, and nothing of others', async () => {
  const domain = await startDomain();
  const first = await domain.admin();
  await first.createNetwork({ network: { ...red, poolV6: '' } });
  const names = ['honest', 'late', 'thief', 'deleted'];
  const nodes: TestNode[] = [];
  for (const name of names) nodes.push(await domain.enrol(name));
  const [honest, late, thief, deleted] = nodes;
  if (!honest || !late || !thief || !deleted) throw new Error('no nodes');
  const [heldHonest, heldLate, heldThief] = [await join_(honest), await join_(late), await join_(thief)];
  await first.deleteNode({ name: 'deleted' });
  await domain.stop();
  const file = join(temporaryDirectory(), 'backup.db');
  await backupStopped(join(domain.stateDirectory, 'store.db'), { file, force: false, onProgress: () => {} });
  await restoreStore({ file, stateDirectory: domain.stateDirectory, force: true, now: Date.now() });
  await domain.start();
  expect(await refusal(deleted.client.heartbeat({}))).toMatch(/^unauthenticated: .*was deleted/);
  await renew(honest, heldHonest);

  const claim = (prefix: string) => ({ prefix, network: 'red', node: 'thief' });
  const claims = Array.from({ length: 60 }, (_, i) => claim(`10.60.${i}.0/24`));
  const { outcomes } = await renew(thief, heldThief, claims as typeof heldThief.leases);
  const of = (wanted: string) =>
    outcomes.filter(([, outcome]) => outcome === wanted).map(([prefix]) => prefix);
  expect(of('RENEWED')).toHaveLength(32);
  expect(of('LOST')).toContain(heldHonest.leases[0]?.prefix);
  expect(of('PENDING')).toEqual(heldLate.leases.map(({ prefix }) => prefix));
  const odd = ['10.61.0.0/24', '10.60.0.0/16', '10.60.0.128/25', 'fd00:60::/112'].map(claim);
  expect((await renew(thief, heldThief, odd as typeof heldThief.leases)).outcomes).toEqual(
    odd.map(({ prefix }) => [prefix, 'LOST']),
  );
  expect(await refusal(renew(thief, heldThief, [claim('10.60.0.1/24')] as typeof heldThief.leases))).toMatch(
    /^invalid-argument/,
  );
  expect((await renew(late, heldLate)).outcomes).toEqual(renewedAll(heldLate));
  const conflicts = (await recoveryOf(await domain.admin()))?.conflicts ?? [];
  expect(conflicts.some((one) => one.startsWith('node "thief": '))).toBe(true);
});

test('who claims first what an empty registry does not know takes nothing from its holder, who is heard until an admin decides', async () => {
  const domain = await startDomain(SHORT);
  const first = await domain.admin();
  await first.createNetwork({ network: red });
  const [honest, thief] = [await domain.enrol('honest'), await domain.enrol('thief')];
  const [held, heldThief] = [await join_(honest), await join_(thief)];
  await loseStore(domain);
  const admin = await domain.admin();
  // He says that he has had it since ever.
  const stolen = held.leases.map((lease) => ({ ...lease, node: 'thief', leasedAt: undefined }));
  const claims = [...heldThief.leases, ...stolen] as typeof held.leases;
  expect((await renew(thief, heldThief, claims)).outcomes.map(([, outcome]) => outcome)).toContain('RENEWED');
  const pending = held.leases.map(({ prefix }) => [prefix, 'PENDING']);
  expect((await renew(honest, held)).outcomes).toEqual(pending);
  expect((await recoveryOf(admin))?.conflicts.join()).toMatch(/node "honest": .*leased to node "thief" by/);
  await admin.deleteNode({ name: 'thief' });
  expect((await renew(honest, held)).outcomes).toEqual(renewedAll(held));
  expect(await refusal(thief.client.heartbeat({}))).toMatch(/^unauthenticated/);
});

test('the outage budget decides how long leases and SVIDs last, and every answer about leases says it', async () => {
  const domain = await startDomain(SHORT);
  const admin = await domain.admin();
  await admin.createNetwork({ network: red });
  const a = await domain.enrol('a');
  expect((await admin.getStatus({})).outageBudgetMs).toBe(60_000n);
  expect(a.identity.notAfter - Date.now()).toBeLessThan(71_000);
  expect((await join_(a)).leaseTermMs).toBe(70_000n);
  expect((await a.client.heartbeat({})).leaseTermMs).toBe(70_000n);
  const request = { network: 'red', family: 4, requestId: 'r' };
  expect((await a.client.leasePrefix(request)).leaseTermMs).toBe(70_000n);
  expect((await a.client.renewLeases({})).leaseTermMs).toBe(70_000n);
});
