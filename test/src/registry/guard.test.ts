import {
  Code,
  ConnectError,
  createClient,
  createContextValues,
  createRouterTransport,
} from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { federation } from '../../../native-free/registry/federation-model.ts';
import { keys } from '../../../native-free/registry/keys.ts';
import { put } from '../../../native-free/registry/rules.ts';
import { AgentService } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { EnrollmentService } from '../../../src/api/generated/vl3/v1/enrollment_pb.js';
import { callerKey } from '../../../src/registry/caller.ts';
import { Counters } from '../../../src/registry/context.ts';
import { guard } from '../../../src/registry/guard.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { recordingLogger, red, startDomain } from './fixture.ts';

/** The levels of what is logged when a call ends with this error. */
const levelsAfter = async (failure: Error, calls = 1): Promise<number[]> => {
  const { logger, lines } = recordingLogger();
  await using store = new MemoryStore({ identity: 'test', now: () => 0 });
  const trustDomain = 'test.example';
  const { signal: stopping } = new AbortController();
  const interceptor = guard({
    ...{ transactor: new Transactor(store), logger, trustDomain, stopping, counters: new Counters() },
    now: () => 0,
  });
  const enroll = async (): Promise<never> => {
    throw failure;
  };
  const transport = createRouterTransport(({ service }) => service(EnrollmentService, { enroll }), {
    router: { interceptors: [interceptor] },
  });
  const client = createClient(EnrollmentService, transport);
  for (let i = 0; i < calls; i++) await expect(client.enroll({})).rejects.toThrow();
  return lines.map((line) => JSON.parse(line).level);
};

test("a request that cannot be read is the caller's fault and no error in the log", async () => {
  expect(await levelsAfter(new ConnectError('cannot decode message', Code.InvalidArgument))).toEqual([30]);
  expect(await levelsAfter(new TypeError('a mistake of ours'))).toEqual([50]);
});

test('who is refused again and again for the same reason is logged once, and a failure of ours each time', async () => {
  expect(await levelsAfter(new Vl3Error('permission-denied', 'no'), 50)).toEqual([30]);
  expect(await levelsAfter(new TypeError('a mistake of ours'), 3)).toEqual([50, 50, 50]);
});

test('a registry that stops logs nothing for the watches that it ends', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const { client } = await domain.enrol('n1');
  await client.joinNetwork({ network: 'red' });
  const opened = Promise.withResolvers<void>();
  const watched = (async () => {
    for await (const _ of client.watchNetwork({ network: 'red' })) opened.resolve();
  })();
  const ended = expect(watched).rejects.toThrow(/the registry is stopping/);
  await opened.promise;
  await domain.stop();
  await ended;
  const messages = domain.log.lines.map((line) => JSON.parse(line).msg);
  expect(messages).toContain('registry is up');
  expect(messages).not.toContain('call refused');
});

test('a partner whose nodes ask without end keeps no other partner waiting', async () => {
  const { logger } = recordingLogger();
  await using store = new MemoryStore({ identity: 'test', now: () => 0 });
  const transactor = new Transactor(store);
  const domains = ['greedy.example', 'modest.example'];
  const operations = domains.map((trustDomain) =>
    put(keys.federation(trustDomain), federation, { trustDomain, activeSince: 1, registries: [] }),
  );
  await transactor.run({ reads: [], decide: () => ({ compares: [], operations, answer: undefined }) });
  const { signal: stopping } = new AbortController();
  const interceptor = guard({
    ...{ transactor, logger, trustDomain: 'test.example', stopping, counters: new Counters() },
    now: () => 0,
  });
  const held = Promise.withResolvers<void>();
  let asked = 0;
  const joinNetwork = async ({ network }: { network: string }) => {
    asked += 1;
    if (network === 'held') await held.promise;
    return {};
  };
  const transport = createRouterTransport(({ service }) => service(AgentService, { joinNetwork }), {
    transport: { interceptors: [interceptor] },
  });
  const client = createClient(AgentService, transport);
  const by = (domain: string, network: string) => {
    const caller = {
      role: 'foreign-node',
      name: `n1@${domain}`,
      serial: '1',
      notBefore: 0,
      notAfter: 1,
      address: '',
    } as const;
    return client.joinNetwork({ network }, { contextValues: createContextValues().set(callerKey, caller) });
  };
  const greedy = Array.from({ length: 40 }, () => by('greedy.example', 'held'));
  await by('modest.example', 'red');
  expect(asked).toBeLessThan(40);
  held.resolve();
  await Promise.all(greedy);
  expect(asked).toBe(41);
});
