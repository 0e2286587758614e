// How a session between vl3 and Debian's wireguard-go lives: kept alive, moved to another port and address, and begun
// anew when either side has forgotten it.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { Lab } from '../lab/lab.ts';
import { ping } from '../lab/ping.ts';
import { type Hosts, INSIDE, makeHosts, OUTSIDE, Pair, PORTS, until } from './scene.ts';

const lab = Lab.create();
let hosts: Hosts;

beforeAll(async () => {
  hosts = await makeHosts(lab);
});
afterAll(async () => await lab.close());

const fromVl3 = (count = 1) => ping(hosts.vl3, INSIDE.stock.v4, { count, wait: 5 });
const fromStock = (count = 1) => ping(hosts.stock, INSIDE.vl3.v4, { count, wait: 5 });

/** WireGuard bytes of an empty message. */
const KEEPALIVE = 32;

test('a persistent keepalive of the stock peer is heard and is not taken for data', async () => {
  await using pair = await Pair.start(lab, hosts, { keepaliveSeconds: { stock: 1 } });
  const first = await until(
    () => pair.seenByVl3(),
    ({ rxBytes }) => rxBytes >= KEEPALIVE,
  );
  expect(first.keypair).toMatchObject({ isInitiator: false });
  const later = await until(
    () => pair.seenByVl3(),
    ({ rxBytes }) => rxBytes >= first.rxBytes + 2 * KEEPALIVE,
  );
  expect(later.receivedAt).toBeGreaterThan(first.receivedAt);
  // Nothing but keepalives, and none of them answered by one.
  expect(later).toMatchObject({ dataReceivedAt: 0, dataSentAt: 0, txBytes: 0 });
  expect(later.rxBytes % KEEPALIVE).toBe(0);
});

test('a persistent keepalive of vl3 opens the session and is heard by the stock peer', async () => {
  await using pair = await Pair.start(lab, hosts, { keepaliveSeconds: { vl3: 1 } });
  const sent = await until(
    () => pair.seenByVl3(),
    ({ txBytes }) => txBytes >= 4 * KEEPALIVE,
  );
  expect(sent).toMatchObject({ dataSentAt: 0, dataReceivedAt: 0 });
  expect(sent.keypair).toMatchObject({ isInitiator: true });
  // The stock device counts the initiation, too: 148 bytes.
  expect((await pair.seenByStock()).rxBytes).toBeGreaterThanOrEqual(148 + 4 * KEEPALIVE);
});

test('vl3 follows the stock peer to another port, another address and the other family', async () => {
  await using pair = await Pair.start(lab, hosts, { initiators: ['vl3'] });
  expect(await fromVl3()).toMatchObject({ received: 1 });
  const isFollowed = async (endpoint: { address: string; port: number }): Promise<void> => {
    expect(await fromStock()).toMatchObject({ received: 1 });
    const { endpoint: followed } = await until(
      () => pair.seenByVl3(),
      ({ learnedEndpoint }) =>
        learnedEndpoint?.port === endpoint.port && learnedEndpoint.address === endpoint.address,
    );
    expect(followed).toMatchObject(endpoint);
    expect(await fromVl3()).toMatchObject({ received: 1 });
  };

  const set = (...args: string[]) => lab.run(['wg', 'set', pair.stock.interface, ...args]);
  const aimAt = (endpoint: string) => set('peer', pair.keys.vl3.publicKey, 'endpoint', endpoint);

  await set('listen-port', '40404');
  await isFollowed({ address: OUTSIDE.stock.v4, port: 40404 });

  await hosts.stock.ip(`address del ${OUTSIDE.stock.v4}/24 dev eth0`, 'address add 192.0.2.77/24 dev eth0');
  try {
    // Else it goes on sending from the address it has lost, in vain, until its handshake timer clears that.
    await aimAt(`${OUTSIDE.vl3.v4}:${PORTS.vl3}`);
    await isFollowed({ address: '192.0.2.77', port: 40404 });
  } finally {
    await hosts.stock.ip('address del 192.0.2.77/24 dev eth0', `address add ${OUTSIDE.stock.v4}/24 dev eth0`);
  }

  const vl3 = `[${OUTSIDE.vl3.v6}]:${PORTS.vl3}`;
  await aimAt(vl3);
  await isFollowed({ address: OUTSIDE.stock.v6, port: 40404 });
  expect((await pair.seenByStock()).endpoint).toBe(vl3);
});

test('the stock peer, begun anew, opens a new session while vl3 still has the old one', async () => {
  await using pair = await Pair.start(lab, hosts);
  expect(await fromVl3(2)).toMatchObject({ received: 2 });
  const before = await pair.seenByVl3();
  await pair.stock.stop();
  await pair.startStock();
  // The very first ping is answered, under the new session.
  expect(await fromStock(2)).toMatchObject({ received: 2 });
  const after = await pair.seenByVl3();
  expect(after.keypair?.createdAt).toBeGreaterThan(before.keypair?.createdAt ?? 0);
  expect(after.keypair).toMatchObject({ isInitiator: false });
  expect(await fromVl3(2)).toMatchObject({ received: 2 });
});

test.each(['SIGTERM', 'SIGKILL'] as const)(
  'vl3, ended by %s and begun anew, opens a new session while the stock peer still has the old one',
  async (signal) => {
    await using pair = await Pair.start(lab, hosts);
    expect(await fromStock(2)).toMatchObject({ received: 2 });
    await pair.vl3.stop(signal);
    await pair.vl3.start();
    expect(await fromVl3(2)).toMatchObject({ received: 2 });
    expect((await pair.seenByVl3()).keypair).toMatchObject({ isInitiator: true });
    expect(await fromStock(2)).toMatchObject({ received: 2 });
  },
);

test('a peer that vl3 is told to forget is not spoken to any more, and can come back', async () => {
  await using pair = await Pair.start(lab, hosts);
  expect(await fromStock()).toMatchObject({ received: 1 });
  await pair.vl3.removePeer(pair.keys.stock.publicKey);
  expect(await ping(hosts.stock, INSIDE.vl3.v4, { count: 3, interval: 0.01, wait: 1 })).toMatchObject({
    received: 0,
  });
  const { peers, counts } = await pair.vl3.status();
  expect(peers).toEqual([]);
  expect(counts['ingress dropped:unknown-index']).toBe(3);
  await pair.changeVl3Peer({});
  expect(await fromVl3(2)).toMatchObject({ received: 2 });
  expect(await fromStock()).toMatchObject({ received: 1 });
});
