// The lease keeper over a disk, a clock and a registry made up here: what it asks, what it makes of the answers, and what
// it takes down when there are none.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { DEFAULT_TERM_MS } from '../../../native-free/ipam/lease-clock.ts';
import type { Moment } from '../../../native-free/moment.ts';
import { NETWORK } from '../../../native-free/reconcile/documents.ts';
import { SeenStore } from '../../../native-free/reconcile/seen-store.ts';
import { LeaseCalls } from '../../../src/agent/lease-calls.ts';
import { LeaseKeeper } from '../../../src/agent/lease-keeper.ts';
import { AgentState } from '../../../src/agent/state.ts';
import {
  AgentService,
  LeaseAnswer_Outcome as Outcome,
  type RenewLeasesRequest,
  type RenewLeasesResponse,
  RenewLeasesResponseSchema,
} from '../../../src/api/generated/vl3/v1/agent_pb.js';

/** How long something may take that happens at once, on a machine that is busy. */
const SOON = { timeout: 30_000 };

const TERM = 100_000;
const PREFIX = '10.60.0.0/24';

let directory: string;
let state: AgentState;
let now: Moment;
let asked: RenewLeasesRequest[];
let withdrawn: string[];
let events: string[];
let answer: (request: RenewLeasesRequest) => RenewLeasesResponse;
const ends: (() => Promise<void>)[] = [];

const outcome = (kind: Outcome, reason = '', recovering = false): RenewLeasesResponse =>
  create(RenewLeasesResponseSchema, {
    answers: [{ network: 'red', prefix: PREFIX, outcome: kind, reason }],
    leaseTermMs: BigInt(TERM),
    recovering,
  });

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-keeper-'));
  state = new AgentState(directory);
  now = { bootId: 'b', boot: 1_000_000, wall: 1_900_000_000_000 };
  asked = [];
  withdrawn = [];
  events = [];
  answer = () => outcome(Outcome.RENEWED);
  state.put(NETWORK, 'red', {
    name: 'red',
    uid: 'u1',
    poolV4: '10.60.0.0/16',
    poolV6: '',
    excludedPrefixes: [],
    mtu: 0,
    nodePrefixLengthV4: 24,
    nodePrefixLengthV6: 0,
    createdAt: 1,
    isRestricted: false,
    rulesetVersion: 0,
    leases: [{ prefix: PREFIX, leasedAt: 7, term: { termMs: TERM, since: now } }],
    privateKey: '',
    timestampMark: '',
    recordSequence: 0,
    emptySince: 0,
    isLeaving: false,
    allocator: { prefixes: [] },
  });
});

afterEach(async () => {
  for (const end of ends.splice(0)) await end();
  state[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

/** A keeper of a node that is on red, and could not open it. */
const keeper = (): LeaseKeeper => {
  const client = createClient(
    AgentService,
    createRouterTransport(({ service }) =>
      service(AgentService, {
        renewLeases: (request) => {
          asked.push(request);
          return answer(request);
        },
      }),
    ),
  );
  return new LeaseKeeper(
    { domain: undefined },
    {
      state,
      networks: () => ({ all: [], get: () => undefined, pending: new Map([['red', 'it cannot be opened']]) }),
      clock: { monotonic: () => now.boot, wall: () => now.wall, moment: () => now },
      calls: new LeaseCalls(),
      client: () => client,
      seen: new SeenStore(state),
      withdraw: async (network, prefix) => void withdrawn.push(`${network} ${prefix}`),
      report: (event) => void events.push(event),
      logger: pino({ level: 'silent' }),
    },
  );
};

const run = (): LeaseKeeper => {
  const one = keeper();
  const stop = new AbortController();
  const done = one.run(stop.signal);
  ends.push(async () => {
    stop.abort();
    await done;
  });
  return one;
};

const later = (milliseconds: number): void => {
  now = { ...now, boot: now.boot + milliseconds, wall: now.wall + milliseconds };
};

const lease = () => state.get(NETWORK, 'red')?.leases[0];

test('a renewal names all that is held, and the term runs from when it was asked for', async () => {
  later(50_000);
  const one = run();
  await vi.waitFor(() => expect(one.leases[0]?.leftMs).toBe(TERM), SOON);
  expect(asked[0]?.holdings).toMatchObject([
    {
      network: { name: 'red', uid: 'u1', poolV4: '10.60.0.0/16' },
      leases: [{ prefix: PREFIX, expired: false }],
    },
  ]);
  // Daily, not all the time.
  const times = asked.length;
  later(7_900);
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  expect(asked.length).toBe(times);
  later(4_200);
  await vi.waitFor(() => expect(asked.length).toBe(times + 1), SOON);
});

test('what cannot be renewed is used no more in time, and comes back with the registry', async () => {
  answer = () => {
    throw new Vl3Error('unavailable', 'no answer');
  };
  const one = run();
  await vi.waitFor(() => expect(one.problem).toBeDefined(), SOON);
  later(97_900);
  expect(one.leases[0]?.phase).toBe('good');
  later(200);
  expect(one.leases[0]?.phase).toBe('closing');
  expect(withdrawn).toEqual([]);
  later(1_000);
  await vi.waitFor(() => expect(withdrawn).toContain(`red ${PREFIX}`), SOON);
  expect(events).toEqual([
    expect.stringMatching(/could not be renewed: what was attached from it is taken down/),
  ]);
  later(1_000);
  expect(one.leases[0]?.phase).toBe('ended');
  answer = () => outcome(Outcome.RENEWED);
  one.registryIsBack();
  await vi.waitFor(() => expect(one.leases[0]?.phase).toBe('good'), SOON);
  expect(asked.at(-1)?.holdings[0]?.leases[0]?.expired).toBe(true);
});

test('a lease that is another node’s now is written down as lost before it is taken down', async () => {
  answer = () => outcome(Outcome.LOST, 'it is leased to node "b"');
  const one = run();
  await vi.waitFor(() => expect(withdrawn).toContain(`red ${PREFIX}`), SOON);
  expect(lease()?.lost).toBe('it is leased to node "b"');
  expect(one.leases[0]?.phase).toBe('ended');
  expect(events).toEqual([`prefix ${PREFIX} of network red was lost: it is leased to node "b"`]);
  // And claimed no more.
  one.renewSoon();
  await vi.waitFor(() => expect(asked.at(-1)?.holdings[0]?.leases).toEqual([]), SOON);
});

test('while the registry cannot tell, the term runs on and it is asked again soon', async () => {
  answer = () => outcome(Outcome.PENDING, 'node "b" claims it too', true);
  const before = lease()?.term;
  const one = run();
  await vi.waitFor(() => expect(one.leases[0]?.problem).toBe('node "b" claims it too'), SOON);
  expect(lease()?.term).toEqual(before);
  const times = asked.length;
  later(TERM / 200);
  await vi.waitFor(() => expect(asked.length).toBeGreaterThan(times), SOON);
});

test('what ended while no agent ran is taken down before anything else', async () => {
  later(TERM);
  await keeper().begin();
  expect(withdrawn).toEqual([`red ${PREFIX}`]);
  expect(asked).toEqual([]);
});

test('an answer about what this node does not hold changes nothing', async () => {
  answer = () =>
    create(RenewLeasesResponseSchema, {
      answers: [
        { network: 'red', prefix: '10.60.9.0/24', outcome: Outcome.RENEWED },
        { network: 'blue', prefix: PREFIX, outcome: Outcome.LOST },
      ],
      leaseTermMs: BigInt(TERM),
    });
  const before = state.get(NETWORK, 'red');
  const one = run();
  await vi.waitFor(() => expect(asked.length).toBeGreaterThan(0), SOON);
  await vi.waitFor(() => expect(one.problem).toBeUndefined(), SOON);
  expect(state.get(NETWORK, 'red')).toEqual(before);
});

test('a registry of an earlier version, which knows no end of leases, renews by answering at all', async () => {
  answer = () => {
    throw new ConnectError('what is that', Code.Unimplemented);
  };
  const one = run();
  await vi.waitFor(() => expect(one.leases[0]?.leftMs).toBe(DEFAULT_TERM_MS), SOON);
  expect(one.problem).toBeUndefined();
});

test('of a node that was deleted everything is taken down at once, whatever the terms say', async () => {
  const one = keeper();
  await one.loseAll('this node was deleted at the registry');
  expect(withdrawn).toEqual([`red ${PREFIX}`]);
  expect(one.leases).toMatchObject([{ phase: 'ended', problem: 'this node was deleted at the registry' }]);
  expect(state.get(NETWORK, 'red')?.leases).toMatchObject([
    { lost: 'this node was deleted at the registry' },
  ]);
  expect(events).toEqual([
    expect.stringMatching(/^this node was deleted.*attached anew as soon as it can be$/),
  ]);
});
