// What a peer has shown counts at once, before the main thread has heard of it: here it is never told. The answer to the
// first packet under a new keypair goes under that keypair, and the answer to a packet from elsewhere goes there.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Keypair } from '../../../native-free/device/data-plane.ts';
import { Transport } from '../../../native-free/wire/message.ts';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import type { Host } from '../../lab/host.ts';
import { Lab } from '../../lab/lab.ts';
import { Eve, packet, seal } from './eve.ts';
import { DEVICE, End, keypairs, twoHosts } from './tunnel.ts';

const lab = Lab.create();
let hostA: Host;
let hostB: Host;
let here: Eve;
let elsewhere: Eve;
let b: End;
let far: Keypair;
let near: Keypair;

/** An ICMP echo request from 10.0.0.1 to 10.0.0.2. */
const echo = (): Uint8Array => {
  const bytes = packet('10.0.0.1', '10.0.0.2', 28);
  const view = new DataView(bytes.buffer);
  view.setUint8(9, 1);
  // The header's checksum, for another protocol than it was made for; and that of an echo request of nothing.
  view.setUint16(10, view.getUint16(10) + 253 - 1);
  view.setUint16(20, 0x0800);
  view.setUint16(22, 0xf7ff);
  return bytes;
};

const ask = (from: Eve, keypair: Keypair, counter: number): void =>
  from.send(seal(keypair, counter, echo()), { address: '192.0.2.2', port: b.datapath.port });

/** Whether what `at` receives is an answer under the keypair. */
const isAnswered = async (at: Eve, keypair: Keypair): Promise<boolean> => {
  const message = Transport.parse((await at.receive()) ?? new Uint8Array(0));
  if (message === undefined) return false;
  expect(message.receiver).toBe(keypair.localIndex);
  const { sealedPacket, counterLow } = message;
  const inside = opensslPrimitives.open(
    keypair.receiveKey,
    BigInt(counterLow),
    sealedPacket,
    new Uint8Array(0),
  );
  expect(inside?.[20]).toBe(0);
  return true;
};

beforeAll(async () => {
  [hostA, hostB] = await twoHosts(lab);
  here = new Eve(hostA);
  elsewhere = new Eve(hostA);
});
afterAll(async () => {
  here.close();
  elsewhere.close();
  await lab.close();
});
beforeEach(async () => {
  b = await End.start(hostB, 'tun0', { pairs: 1 });
  await b.up(['10.0.0.2/24'], []);
  b.datapath.addPeer(DEVICE, 'a');
  b.allow({ a: ['10.0.0.1/32'] });
  [far, near] = keypairs(monotonicNow() - 1000);
  b.apply(
    { kind: 'set-endpoint', peer: 'a', endpoint: { address: '192.0.2.1', port: here.port } },
    { kind: 'install-keypair', peer: 'a', keypair: near },
    { kind: 'use-keypair', peer: 'a', localIndex: near.localIndex },
  );
  await b.datapath.settled();
});
afterEach(async () => await b.remove());

test('the first packet under a newer keypair is answered under it', async () => {
  ask(here, far, 0);
  expect(await isAnswered(here, far)).toBe(true);
  const [newFar, newNear] = keypairs();
  b.apply({ kind: 'install-keypair', peer: 'a', keypair: newNear });
  ask(here, newFar, 0);
  expect(await isAnswered(here, newFar)).toBe(true);
  // Late packets under the one before change nothing.
  ask(here, far, 1);
  expect(await isAnswered(here, newFar)).toBe(true);
});

test('the first packet of a session is answered under it, when there was none', async () => {
  b.apply({ kind: 'use-keypair', peer: 'a', localIndex: undefined });
  ask(here, far, 0);
  expect(await isAnswered(here, far)).toBe(true);
});

test('an older keypair is not taken up again', async () => {
  const [oldFar, oldNear] = keypairs(monotonicNow() - 100_000);
  b.apply({ kind: 'install-keypair', peer: 'a', keypair: oldNear });
  ask(here, oldFar, 0);
  expect(await isAnswered(here, far)).toBe(true);
});

test('a confirmed keypair that main removes is not used any more', async () => {
  const [newFar, newNear] = keypairs();
  b.apply({ kind: 'install-keypair', peer: 'a', keypair: newNear });
  ask(here, newFar, 0);
  expect(await isAnswered(here, newFar)).toBe(true);
  b.apply({ kind: 'remove-keypair', localIndex: newNear.localIndex });
  ask(here, far, 0);
  expect(await isAnswered(here, far)).toBe(true);
});

test('a packet from elsewhere is answered there, and one from the place of before there again', async () => {
  ask(elsewhere, far, 0);
  expect(await isAnswered(elsewhere, far)).toBe(true);
  ask(here, far, 1);
  expect(await isAnswered(here, far)).toBe(true);
});

test('what main decides after that holds', async () => {
  ask(elsewhere, far, 0);
  expect(await isAnswered(elsewhere, far)).toBe(true);
  const endpoint = { address: '192.0.2.1', port: here.port };
  b.apply({ kind: 'set-endpoint', peer: 'a', endpoint }, { kind: 'send-keepalive', peer: 'a' });
  expect((await here.receive())?.length).toBe(32);
});

test('neither a forgery nor a replay moves anything', async () => {
  ask(here, far, 0);
  expect(await isAnswered(here, far)).toBe(true);
  const forged = seal(far, 1, echo());
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
  elsewhere.send(forged, { address: '192.0.2.2', port: b.datapath.port });
  ask(elsewhere, far, 0);
  ask(here, far, 2);
  expect(await isAnswered(here, far)).toBe(true);
  expect(b.datapath.stats().ingress).toMatchObject({ 'dropped:forged': 1, 'dropped:replayed': 1 });
});
