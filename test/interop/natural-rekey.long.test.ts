// What takes minutes with Debian's wireguard-go: a session that is renewed after its 120 s while pings go through it,
// whoever began it, and a peer that has forgotten the session and is silent until the other side gives it up.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { Lab } from '../lab/lab.ts';
import { ping } from '../lab/ping.ts';
import { INSIDE, makeHosts, other, Pair, until } from './scene.ts';

const lab = Lab.create();
afterAll(async () => await lab.close());

const SIDES = ['vl3', 'stock'] as const;
const REKEY_AFTER_MS = 120_000;
const SPARE_MS = 15_000;
const PINGS_A_SECOND = 10;

test.concurrent.each(SIDES)(
  'a session that %s began is renewed after 120 s and no ping is lost',
  { timeout: 300_000 },
  async (initiator) => {
    const hosts = await makeHosts(lab, `rekey-${initiator}-`);
    await using pair = await Pair.start(lab, hosts, { initiators: [initiator] });
    expect(await ping(hosts[initiator], INSIDE[other(initiator)].v4, { wait: 5 })).toMatchObject({
      received: 1,
    });
    const before = await pair.seenByVl3();
    expect(before.keypair).toMatchObject({ isInitiator: initiator === 'vl3' });
    const began = (await pair.seenByStock()).lastHandshake;

    const count = ((REKEY_AFTER_MS + SPARE_MS) / 1000) * PINGS_A_SECOND;
    const options = { count, interval: 1 / PINGS_A_SECOND, wait: 5 };
    const pings = await Promise.all([
      ping(hosts.vl3, INSIDE.stock.v4, options),
      ping(hosts.stock, INSIDE.vl3.v6, options),
    ]);
    expect(pings).toMatchObject([
      { sent: count, received: count },
      { sent: count, received: count },
    ]);

    const after = await pair.seenByVl3();
    // Renewed once, by its initiator, and when it was time.
    expect(after.keypair).toMatchObject({ isInitiator: initiator === 'vl3' });
    const age = (after.keypair?.createdAt ?? 0) - (before.keypair?.createdAt ?? 0);
    expect(age).toBeGreaterThanOrEqual(REKEY_AFTER_MS);
    expect((await pair.seenByStock()).lastHandshake).toBeGreaterThan(began);
    const lost = Object.entries(after.counts).filter(
      ([name, n]) => name.includes('dropped') && name !== 'egress dropped:no-peer' && n > 0,
    );
    expect(lost).toEqual([]);
  },
);

test.concurrent.each(SIDES)(
  'when the other side has forgotten the session and cannot begin one, %s does once nothing was answered for 15 s',
  { timeout: 120_000 },
  async (side) => {
    const hosts = await makeHosts(lab, `silent-${side}-`);
    await using pair = await Pair.start(lab, hosts, { initiators: [side] });
    const ask = () => ping(hosts[side], INSIDE[other(side)].v4, { wait: 1 });
    await until(ask, ({ received }) => received === 1, 5);
    if (side === 'vl3') {
      await pair.stock.stop();
      await pair.startStock();
    } else {
      await pair.vl3.stop('SIGKILL');
      await pair.vl3.start();
    }
    await until(ask, ({ received }) => received === 1, 40);
    await sleep(100);
    expect(await ask()).toMatchObject({ received: 1 });
  },
);
