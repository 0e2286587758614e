// L1 at length: an agent killed and started again fifty times under four TCP streams.

import { expect, test } from 'vitest';
import { Domain } from '../lab/domain.ts';
import { describeKills, killUnderStreams } from '../lab/kills.ts';
import { Stream } from '../lab/stream.ts';

const ROUNDS = 50;

test(`${ROUNDS} kills under four TCP streams lose no connection and no byte`, async () => {
  await using domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  const here = await domain.startNode('a1', { networks: ['red'] });
  const there = await domain.startNode('a2', { networks: ['red'] });
  const client = await here.pod('client', 'red');
  const web = await there.pod('web', 'red');
  await domain.meet('red');
  const streams = await Promise.all([
    Stream.open(client, web, web.v4('red')),
    Stream.open(client, web, web.v6('red')),
    Stream.open(web, client, client.v4('red')),
    Stream.open(web, client, client.v6('red')),
  ]);
  const kills = await killUnderStreams(streams, [here], ROUNDS);
  console.log(`four TCP streams, ${describeKills(kills)}`);
  expect(kills).toMatchObject({ lost: [], wrong: 0 });
  expect(kills.gaps).toHaveLength(4 * ROUNDS);
}, 1_200_000);
