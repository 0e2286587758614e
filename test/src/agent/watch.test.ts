// A network's watch towards a registry that comes and goes, which is a client here that says what it is told to.

import { once } from 'node:events';
import { create } from '@bufbuild/protobuf';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Vl3Error } from '../../../native-free/error.ts';
import { Backoff } from '../../../src/agent/backoff.ts';
import { NetworkWatch } from '../../../src/agent/watch.ts';
import {
  type WatchNetworkResponse,
  WatchNetworkResponseSchema,
} from '../../../src/api/generated/vl3/v1/agent_pb.js';
import type { AgentClient } from '../../../src/registry/client.ts';

/** How long something may take that happens at once, on a machine that is busy. */
const SOON = { timeout: 30_000 };

type Stream = (signal: AbortSignal) => AsyncGenerator<WatchNetworkResponse>;

const saysNothing: Stream = async function* (signal) {
  yield* [];
  if (!signal.aborted) await once(signal, 'abort');
  signal.throwIfAborted();
};
const saysSomething: Stream = async function* (signal) {
  yield create(WatchNetworkResponseSchema, {});
  yield* saysNothing(signal);
};

let opened: number;
let stream: Stream;
let problems: (Vl3Error | undefined)[];
let stop: AbortController;
let watch: NetworkWatch;
let running: Promise<void> | undefined;

const begin = (first: Stream): void => {
  stream = first;
  // Only what a watch asks of a client.
  const client = {
    watchNetwork: (_: unknown, { signal }: { signal: AbortSignal }) => {
      opened++;
      return stream(signal);
    },
  } as unknown as AgentClient;
  watch = new NetworkWatch(
    {
      network: 'red',
      key: 'red',
      isForeign: false,
      position: () => undefined,
      onStep: () => {},
      onState: (problem) => problems.push(problem),
    },
    { client: () => client, logger: pino({ level: 'silent' }) },
  );
  running = watch.run(stop.signal);
};

beforeEach(() => {
  [opened, problems, stop, running] = [0, [], new AbortController(), undefined];
});
afterEach(async () => {
  stop.abort();
  await running;
});

test('a wait that would take days ends when there is reason to hurry, and the next is a first one again', async () => {
  const DAY = 24 * 60 * 60 * 1000;
  const backoff = new Backoff({ firstMs: DAY, capMs: 8 * DAY });
  const first = backoff.next();
  const second = backoff.next();
  const waiting = backoff.wait(stop.signal);
  backoff.hurry();
  await waiting;
  expect(second).toBeGreaterThan(first);
  expect(backoff.next()).toBeLessThanOrEqual(DAY);
});

test('a stream from which nothing has come is opened anew when the registry answers again, and no other', async () => {
  begin(saysNothing);
  await vi.waitFor(() => expect(opened).toBe(1), SOON);
  stream = saysSomething;
  watch.registryIsBack();
  await vi.waitFor(() => expect(opened).toBe(2), 20_000);
  await vi.waitFor(() => expect(problems.at(-1)).toBeUndefined(), SOON);
  watch.registryIsBack();
  await new Promise((resolve) => setImmediate(resolve));
  expect(opened).toBe(2);
});
