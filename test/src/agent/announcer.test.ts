// When an announcer says that it has said what is due.

import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Announcer } from '../../../src/agent/announcer.ts';
import { AgentService } from '../../../src/api/generated/vl3/v1/agent_pb.js';

const SIGNED = { record: new Uint8Array(), signature: new Uint8Array(), certificateChain: [] };

let stop: AbortController;
let running: Promise<void>;
let prefixes: string[];
let taken: string[][];
let answer: () => Promise<void>;

beforeEach(() => {
  stop = new AbortController();
  running = Promise.resolve();
  prefixes = ['10.60.0.0/24'];
  taken = [];
  answer = () => Promise.resolve();
});

afterEach(async () => {
  stop.abort();
  await running;
});

const announcer = (): Announcer => {
  const client = createClient(
    AgentService,
    createRouterTransport(({ service }) =>
      service(AgentService, {
        putRecord: async () => {
          const said = [...prefixes];
          await answer();
          taken.push(said);
          return {};
        },
        putAttachments: () => ({}),
      }),
    ),
  );
  return new Announcer(
    {
      network: 'red',
      key: 'red',
      networkUid: 'u1',
      home: 'test.example',
      content: () => ({
        network: 'red',
        networkUid: 'u1',
        home: 'test.example',
        publicKey: '',
        prefixes: prefixes.map((prefix) => ({ prefix, leasedAt: 1 })),
        endpoints: [],
      }),
      attachments: () => [],
      names: () => SIGNED,
      onDecided: () => undefined,
      nextSequence: () => 1,
    },
    {
      client: () => client,
      svidId: () => 'svid',
      attest: () => undefined,
      sign: () => SIGNED,
      logger: pino({ level: 'silent' }),
    },
  );
};

test('what is due is said once the registry has taken it', async () => {
  const one = announcer();
  running = one.run(stop.signal);
  await one.said;
  expect(taken).toEqual([['10.60.0.0/24']]);
  prefixes = [];
  one.announce();
  await one.said;
  expect(taken).toEqual([['10.60.0.0/24'], []]);
  await one.said;
});

test('what changes while something is said is said as well', async () => {
  const one = announcer();
  const arrival = Promise.withResolvers<void>();
  answer = () => arrival.promise;
  running = one.run(stop.signal);
  prefixes = [];
  one.announce();
  const said = one.said;
  arrival.resolve();
  await said;
  expect(taken.at(-1)).toEqual([]);
});

test('who waits for it is not kept while a failure is waited out, nor after the end, nor before the beginning', async () => {
  const one = announcer();
  await one.said;
  answer = () => Promise.reject(new ConnectError('not now', Code.Unavailable));
  running = one.run(stop.signal);
  await one.said;
  expect([taken, one.problems.length]).toEqual([[], 1]);
  one.announce();
  await one.said;
  stop.abort();
  await running;
  one.announce();
  await one.said;
});
