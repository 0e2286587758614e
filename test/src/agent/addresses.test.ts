// A node's addresses over a registry made up here, whose pool has two prefixes of one pod address each: what is handed out,
// leased and given back, in which order, and what is said while some of it is under way.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Address, formatAddress } from '../../../native-free/ipam/prefix.ts';
import type { Moment } from '../../../native-free/moment.ts';
import { NETWORK } from '../../../native-free/reconcile/documents.ts';
import { SavedNetwork } from '../../../native-free/reconcile/saved-network.ts';
import { Addresses } from '../../../src/agent/addresses.ts';
import { LeaseCalls } from '../../../src/agent/lease-calls.ts';
import { AgentState } from '../../../src/agent/state.ts';
import { AgentService } from '../../../src/api/generated/vl3/v1/agent_pb.js';

const FIRST = '10.60.0.0/30';
const SECOND = '10.60.0.4/30';
const PREFIX_REST = 1_000;
const TERM = 100_000_000n;

let directory: string;
let state: AgentState;
let now: Moment;
let saved: SavedNetwork;
let addresses: Addresses;
/** What the registry says is this node's, what the node's record there says, and each call that came. */
let held: Set<string>;
let announced: readonly string[];
let calls: string[];
/** Whether the record reaches the registry, once that is known; and before it answers that something was released. */
let onTheWay: () => Promise<boolean>;
let answering: () => Promise<void>;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-addresses-'));
  state = new AgentState(directory);
  now = { bootId: 'b', boot: 1_000_000, wall: 1_900_000_000_000 };
  held = new Set([FIRST]);
  announced = [FIRST];
  calls = [];
  onTheWay = () => Promise.resolve(true);
  answering = () => Promise.resolve();
  state.put(NETWORK, 'tiny', {
    name: 'tiny',
    uid: 'u1',
    poolV4: '10.60.0.0/29',
    poolV6: '',
    excludedPrefixes: [],
    mtu: 0,
    nodePrefixLengthV4: 30,
    nodePrefixLengthV6: 0,
    createdAt: 1,
    isRestricted: false,
    rulesetVersion: 0,
    leases: [{ prefix: FIRST, leasedAt: 7, term: { termMs: Number(TERM), since: now } }],
    privateKey: '',
    timestampMark: '',
    recordSequence: 0,
    emptySince: 0,
    isLeaving: false,
    allocator: { prefixes: [] },
  });
  saved = new SavedNetwork('tiny', state);
  addresses = new Addresses(saved, {
    client: () => client,
    onLeased: () => Promise.resolve(),
    announced: async () => {
      if (await onTheWay()) announced = saved.document.leases.map(({ prefix }) => prefix);
    },
    now: () => now.boot,
    moment: () => now,
    leaseCall: (call) => leaseCalls.run(call),
    rests: { addressMs: 60_000, prefixMs: PREFIX_REST },
    logger: pino({ level: 'silent' }),
  });
  const leaseCalls = new LeaseCalls();
});

afterEach(() => {
  state[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

const client = createClient(
  AgentService,
  createRouterTransport(({ service }) =>
    service(AgentService, {
      leasePrefix: () => {
        const prefix = [FIRST, SECOND].find((one) => !held.has(one));
        calls.push(`lease ${prefix ?? 'refused'}`);
        if (prefix === undefined) throw new ConnectError('the pool has no free /30', Code.ResourceExhausted);
        held.add(prefix);
        return { lease: { network: 'tiny', prefix }, leaseTermMs: TERM };
      },
      releasePrefix: async ({ prefix }) => {
        calls.push(`release ${prefix}`);
        if (announced.includes(prefix))
          throw new ConnectError('it is announced still', Code.FailedPrecondition);
        held.delete(prefix);
        await answering();
        return {};
      },
    }),
  ),
);

const take = async (owner: string): Promise<string> => {
  const taken = await addresses.allocate(owner, {}, () => undefined, new AbortController().signal);
  return taken.map(formatAddress).join(' ');
};
const give = (owner: string, value: number): void => {
  const address: Address = { family: 4, value: 0x0a_3c_00_00n + BigInt(value) };
  addresses.free(owner, [address], () => undefined);
};
const passes = (ms: number): void => {
  now = { ...now, boot: now.boot + ms, wall: now.wall + ms };
};
const leases = (): string[] => saved.document.leases.map(({ prefix }) => prefix);

/** Both prefixes are leased, and empty for long enough: the second one can go. */
const shrinkable = async (): Promise<void> => {
  expect([await take('a'), await take('b')]).toEqual(['10.60.0.2', '10.60.0.6']);
  await addresses.giveBack();
  give('b', 6);
  give('a', 2);
  passes(PREFIX_REST);
  announced = leases();
  calls = [];
};

test('a further prefix that is empty is given back once it is not announced any more, at the first try', async () => {
  await shrinkable();
  await addresses.giveBack();
  expect(calls).toEqual([`release ${SECOND}`]);
  expect(held).toEqual(new Set([FIRST]));
  expect([leases(), saved.document.returning]).toEqual([[FIRST], []]);
});

test('who needs another prefix while one is on its way back is not refused for that', async () => {
  await shrinkable();
  const arrival = Promise.withResolvers<boolean>();
  onTheWay = () => arrival.promise;
  const givingBack = addresses.giveBack();
  expect(leases()).toEqual([FIRST]);
  const taken = [take('c'), take('d')];
  arrival.resolve(true);
  await givingBack;
  // What rests is handed out last, and it is: the second one has no other.
  expect((await Promise.all(taken)).sort()).toEqual(['10.60.0.2', '10.60.0.6']);
  expect(calls).toEqual([`release ${SECOND}`, `lease ${SECOND}`, 'lease refused']);
});

test('what could not be given back before is, when another prefix is needed', async () => {
  await shrinkable();
  onTheWay = () => Promise.resolve(false);
  await addresses.giveBack();
  expect(calls).toEqual([`release ${SECOND}`]);
  expect([leases(), saved.document.returning]).toEqual([[FIRST], [SECOND]]);
  onTheWay = () => Promise.resolve(true);
  expect(await take('c')).toBe('10.60.0.6');
  expect(calls.slice(1)).toEqual([`release ${SECOND}`, `lease ${SECOND}`]);
});

test('what was given back without an answer and is leased anew is not given back any more', async () => {
  await shrinkable();
  answering = () => Promise.reject(new ConnectError('the answer got lost', Code.Unavailable));
  await addresses.giveBack();
  expect(saved.document.returning).toEqual([SECOND]);
  expect(await take('c')).toBe('10.60.0.6');
  expect(saved.document.returning).toEqual([]);
  calls = [];
  announced = [];
  await addresses.giveBack();
  expect(calls).toEqual([]);
  expect(held).toEqual(new Set([FIRST, SECOND]));
});

test('a refusal is forgotten once a prefix was given back', async () => {
  await shrinkable();
  // Refused, and so served with what has not rested.
  expect(await take('c')).toBe('10.60.0.2');
  expect(calls).toEqual(['lease refused']);
  give('c', 2);
  passes(PREFIX_REST);
  await addresses.giveBack();
  expect(await take('d')).toBe('10.60.0.6');
  expect(calls).toEqual(['lease refused', `release ${SECOND}`, `lease ${SECOND}`]);
});

test('a registry that does not answer what is given back is waited for no longer than for a lease', async () => {
  await shrinkable();
  onTheWay = () => new Promise(() => undefined);
  void addresses.giveBack();
  expect(await take('c')).toBe('10.60.0.2');
  expect(calls).toEqual([]);
});
