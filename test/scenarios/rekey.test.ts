// L5: both ends renew their session's keys at the same instant, again and again, under load: no connection is lost, and no
// byte. That sessions are renewed in time, by the protocol's own clock: test/interop/natural-rekey.long.test.ts.

import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import { isLong } from '../lab/long.ts';
import type { Node } from '../lab/node.ts';
import { fromSources } from '../lab/program.ts';
import { Stream } from '../lab/stream.ts';

const PRELOAD = fileURLToPath(new URL('../lab/rekey-at-once.ts', import.meta.url));
const ROUNDS = isLong ? 30 : 2;
/** An initiation is not repeated sooner (REKEY_TIMEOUT and its jitter). */
const APART_MS = 5_500;

test(`both ends rekey at once, ${ROUNDS} times, under four TCP streams`, async () => {
  await using domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  const env = { NODE_OPTIONS: `--import=${PRELOAD}`, VL3_REKEYS: '1' };
  const a1 = await domain.startNode('a1', { networks: ['red'], env, program: fromSources });
  const a2 = await domain.startNode('a2', { networks: ['red'], env, program: fromSources });
  const client = await a1.pod('client', 'red');
  const web = await a2.pod('web', 'red');
  await domain.meet('red');
  const streams = await Promise.all([
    Stream.open(client, web, web.v4('red')),
    Stream.open(client, web, web.v6('red')),
    Stream.open(web, client, client.v4('red')),
    Stream.open(web, client, client.v6('red')),
  ]);
  const handshake = async (of: Node, other: Node): Promise<number> =>
    (await of.peer('red', other))?.lastHandshakeAt ?? 0;
  for (let round = 0; round < ROUNDS; round++) {
    await sleep(APART_MS);
    const before = await Promise.all([handshake(a1, a2), handshake(a2, a1)]);
    for (const { agent } of [a1, a2]) process.kill(agent.pid, 'SIGUSR2');
    await vi.waitFor(async () => {
      const after = await Promise.all([handshake(a1, a2), handshake(a2, a1)]);
      for (const [i, at] of after.entries()) expect(at).toBeGreaterThan(before[i] ?? 0);
    }, SOON);
    const bytes = streams.map(({ progress }) => progress.bytes);
    await vi.waitFor(() => {
      for (const [i, { progress }] of streams.entries())
        expect(progress.bytes).toBeGreaterThan((bytes[i] ?? 0) + 1_000_000);
    }, SOON);
  }
  const silences = streams.map(({ progress }) => progress.longestSilenceMs);
  console.log(`${ROUNDS} simultaneous rekeys: longest silences ${silences.join(', ')} ms, nothing lost`);
  expect(streams.map(({ progress }) => progress.wrong)).toEqual([0, 0, 0, 0]);
}, 600_000);
