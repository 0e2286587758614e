// What SPIRE's agent really does at its Workload API, and what becomes of an identity then: entries that go and come back,
// several of the same identity, federated domains that lose their CAs, streams that end with or without an error, a restart
// without the server.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Code, ConnectError } from '@connectrpc/connect';
import { pino } from 'pino';
import { expect, onTestFinished, test, vi } from 'vitest';
import { IdentitySource } from '../../../src/identity/identity-source.ts';
import type { OfferedSvid, Wanted } from '../../../src/identity/svid.ts';
import { WorkloadApi } from '../../../src/identity/workload-api.ts';
import { SpiffeAuthority } from '../../lab/spiffe-authority.ts';
import { type Answer, answerOf, WorkloadApiServer } from '../../lab/workload-api.ts';

const SOON = { timeout: 20_000, interval: 10 };
const PARTNER = 'spiffe://partner.example';

const serve = async (answer: Answer | undefined): Promise<WorkloadApiServer> => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3t-spire-'));
  const server = new WorkloadApiServer(join(directory, 'api.sock'));
  server.publish(answer);
  await server.start();
  onTestFinished(async () => {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  return server;
};

const follow = ({ socket }: WorkloadApiServer, wanted: Wanted = { kind: 'node' }): IdentitySource => {
  const source = new IdentitySource(new WorkloadApi({ socket }), wanted, {
    logger: pino({ level: 'silent' }),
    now: Date.now,
    monotonic: () => performance.now(),
  });
  onTestFinished(() => source[Symbol.asyncDispose]());
  return source;
};

const takes = async (source: IdentitySource, { certificateChain }: OfferedSvid): Promise<void> =>
  await vi.waitFor(() => {
    expect(source.svid?.certificateChain).toEqual(certificateChain);
    expect(source.problem).toBeUndefined();
  }, SOON);

const der = (authority: SpiffeAuthority): Uint8Array => new Uint8Array(Buffer.concat(authority.bundle));

test('an entry that is taken away leaves the SVID in use, says so, and comes back by itself', async () => {
  const authority = await SpiffeAuthority.create();
  const svid = await authority.issue('/node/n1');
  const server = await serve(answerOf({ svid }));
  const source = follow(server);
  await takes(source, svid);
  server.publish(undefined);
  await vi.waitFor(
    () => expect(source.problem).toMatch(/no identity for this program.*register an entry/),
    SOON,
  );
  expect(source.svid?.certificateChain).toEqual(svid.certificateChain);
  const next = await authority.issue('/node/n1');
  server.publish(answerOf({ next }));
  await takes(source, next);
});

test.each([
  ['without an error', undefined, /it ended the stream/],
  [
    'as unavailable',
    new ConnectError('transport is closing', Code.Unavailable),
    /it went away, or is not ready \(transport is closing\)/,
  ],
  [
    'as an internal error',
    new ConnectError('could not fetch', Code.Internal),
    /does not answer as it should \(could not fetch\)/,
  ],
])('a stream that ends %s is said and asked for again', async (_, error, problem) => {
  const authority = await SpiffeAuthority.create();
  const svid = await authority.issue('/node/n1');
  const server = await serve(answerOf({ svid }));
  const source = follow(server);
  await takes(source, svid);
  const problems: (string | undefined)[] = [];
  server.endStreams(error);
  await vi.waitFor(
    () => {
      problems.push(source.problem);
      expect(problems.join()).toMatch(problem);
    },
    { ...SOON, interval: 1 },
  );
  await takes(source, svid);
  expect(server.streams).toBe(2);
});

test('of several entries for the same identity the SVID that lasts longest is taken, in whatever order', async () => {
  const authority = await SpiffeAuthority.create();
  const [short, long] = [
    await authority.issue('/node/n1', { lastsMs: 600_000 }),
    await authority.issue('/node/n1', { lastsMs: 1_200_000 }),
  ];
  const other = await authority.issue('/ns/default/sa/app');
  const server = await serve(answerOf({ short, other, long }));
  const source = follow(server);
  await takes(source, long);
  server.publish(answerOf({ long, other, short }));
  await takes(source, long);
});

test('a federated domain without CAs, or that is not there any more, holds nothing up', async () => {
  const authority = await SpiffeAuthority.create();
  const partner = await SpiffeAuthority.create('partner.example');
  const svid = await authority.issue('/node/n1');
  const server = await serve(answerOf({ svid }, { [PARTNER]: der(partner) }));
  const source = follow(server);
  let told = 0;
  source.onFederated(() => told++);
  await takes(source, svid);
  const certificatesOf = () =>
    source.federated?.find(({ trustDomain }) => trustDomain === 'partner.example')?.certificates;
  expect([told, certificatesOf()]).toEqual([1, partner.bundle]);
  const renewed = await authority.issue('/node/n1');
  server.publish(answerOf({ renewed }, { [PARTNER]: new Uint8Array(0) }));
  await takes(source, renewed);
  expect([told, certificatesOf()]).toEqual([2, []]);
  server.publish(answerOf({ renewed }));
  await vi.waitFor(() => expect(source.federated).toEqual([]), SOON);
  expect(told).toBe(3);
  // The same again is no news.
  server.publish(answerOf({ svid }));
  await takes(source, svid);
  expect(told).toBe(3);
});
