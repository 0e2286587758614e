import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { EnrollmentService } from '../../../src/api/generated/vl3/v1/enrollment_pb.js';
import { guard } from '../../../src/registry/guard.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { recordingLogger } from './fixture.ts';

/** The levels of what is logged when a call ends with this error. */
const levelsAfter = async (failure: Error): Promise<number[]> => {
  const { logger, lines } = recordingLogger();
  await using store = new MemoryStore({ identity: 'test', now: () => 0 });
  const trustDomain = 'test.example';
  const interceptor = guard({ transactor: new Transactor(store), logger, trustDomain, now: () => 0 });
  const enroll = async (): Promise<never> => {
    throw failure;
  };
  const transport = createRouterTransport(({ service }) => service(EnrollmentService, { enroll }), {
    router: { interceptors: [interceptor] },
  });
  await expect(createClient(EnrollmentService, transport).enroll({})).rejects.toThrow();
  return lines.map((line) => JSON.parse(line).level);
};

test("a request that cannot be read is the caller's fault and no error in the log", async () => {
  expect(await levelsAfter(new ConnectError('cannot decode message', Code.InvalidArgument))).toEqual([30]);
  expect(await levelsAfter(new TypeError('a mistake of ours'))).toEqual([50]);
});
