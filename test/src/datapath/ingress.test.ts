// What arrives from outside: only what is authentic, fresh and from where it may come reaches the TUN; whatever else
// arrives is dropped under its name, and the next good packet still passes.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Keypair } from '../../../native-free/device/data-plane.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { PROBE, PROBE_ANSWER, writePathProbe } from '../../../native-free/wire/path-probe.ts';
import type { IngressCounter } from '../../../src/datapath/counters.ts';
import { PROBES_A_SECOND } from '../../../src/datapath/probe-budget.ts';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import type { Host } from '../../lab/host.ts';
import { Lab } from '../../lab/lab.ts';
import { Eve, packet, seal } from './eve.ts';
import { DEVICE, End, keypairs, twoHosts } from './tunnel.ts';

const lab = Lab.create();
let hostA: Host;
let hostB: Host;
let eve: Eve;
let b: End;
/** The far side's half of a session with b, under the peer "a". */
let far: Keypair;
let near: Keypair;

const at = (): { address: string; port: number } => ({ address: '192.0.2.2', port: b.datapath.port });
const good = (length = 32): Uint8Array => packet('10.0.0.1', '10.0.0.2', length);

/** Waits until the counter has grown by that much since `before`. */
const counted = async (name: IngressCounter, by: number, before = 0): Promise<void> => {
  for (let i = 0; i < 200; i++) {
    if (b.datapath.stats().ingress[name] >= before + by) break;
    await sleep(5);
  }
  expect({ [name]: b.datapath.stats().ingress[name] }).toEqual({ [name]: before + by });
};

/** Until main has heard of it. */
const heard = async (condition: () => boolean): Promise<void> => {
  for (let i = 0; i < 200 && !condition(); i++) await sleep(5);
  expect(condition()).toBe(true);
};

beforeAll(async () => {
  [hostA, hostB] = await twoHosts(lab);
  // Room for datagrams of any size.
  for (const host of [hostA, hostB]) await host.ip('link set eth0 mtu 65535');
  eve = new Eve(hostA);
});
afterAll(async () => {
  eve.close();
  await lab.close();
});

beforeEach(async () => {
  b = await End.start(hostB, 'tun0', { pairs: 1 });
  await b.up(['10.0.0.2/24'], []);
  b.datapath.addPeer(DEVICE, 'a');
  b.datapath.addPeer(DEVICE, 'c');
  b.allow({ a: ['10.0.0.0/24'], c: ['10.0.0.128/25'] });
  [far, near] = keypairs();
  b.apply(
    { kind: 'set-endpoint', peer: 'a', endpoint: { address: '192.0.2.1', port: eve.port } },
    { kind: 'install-keypair', peer: 'a', keypair: near },
    { kind: 'use-keypair', peer: 'a', localIndex: near.localIndex },
  );
  await b.datapath.settled();
});
afterEach(async () => await b.remove());

describe('transport data', () => {
  test('that is good reaches the TUN, and counts as activity', async () => {
    eve.send(seal(far, 0, good()), at());
    await counted('writes', 1);
    const activity = b.datapath.activity(DEVICE, 'a');
    expect(activity).toMatchObject({ rxBytes: 64 });
    expect(monotonicNow() - (activity?.dataReceivedAt ?? 0)).toBeLessThan(2000);
    expect(b.events).toEqual([]);
  });

  test('that is a keepalive counts as received, not as data', async () => {
    eve.send(seal(far, 0, new Uint8Array(0)), at());
    await counted('packets', 1);
    expect(b.datapath.stats().ingress.writes).toBe(0);
    const activity = b.datapath.activity(DEVICE, 'a');
    expect(activity?.dataReceivedAt).toBe(0);
    expect(activity?.receivedAt).toBeGreaterThan(0);
    expect(activity?.rxBytes).toBe(32);
  });

  test('is dropped when its counter is replayed, and passes out of order', async () => {
    for (const counter of [5, 3, 5, 3, 4]) eve.send(seal(far, counter, good()), at());
    await counted('writes', 3);
    await counted('dropped:replayed', 2);
  });

  test('is dropped when one bit of it is changed, and moves nothing', async () => {
    const stranger = new Eve(hostA);
    const message = seal(far, 9, good());
    for (const i of [8, 16, 30, message.length - 1]) {
      const forged = message.slice();
      forged[i] = (forged[i] ?? 0) ^ 1;
      stranger.send(forged, at());
    }
    await counted('dropped:forged', 4);
    stranger.close();
    eve.send(message, at());
    await counted('writes', 1);
    expect(b.events).toEqual([]);
  });

  test('is dropped when the inside source is not this peer’s, also inside its less specific prefix', async () => {
    eve.send(seal(far, 0, packet('10.0.0.200', '10.0.0.2')), at());
    eve.send(seal(far, 1, packet('10.9.9.9', '10.0.0.2')), at());
    eve.send(seal(far, 2, packet('127.0.0.1', '10.0.0.2')), at());
    await counted('dropped:wrong-source', 3);
    expect(b.datapath.stats().ingress.writes).toBe(0);
    eve.send(seal(far, 3, good()), at());
    await counted('writes', 1);
  });

  test('is passed on so often a second when it is a probe of the way, and the rest goes on', async () => {
    const memory = new PacketMemory(new ArrayBuffer(64));
    const started = performance.now();
    for (let n = 0; n < 1000; n++) {
      writePathProbe(memory, 0, 16, n % 2 === 0 ? PROBE : PROBE_ANSWER, n);
      eve.send(seal(far, n, memory.bytes.slice(0, 16)), at());
    }
    eve.send(seal(far, 1000, good()), at());
    await counted('writes', 1);
    await heard(() => b.pathEvents.length >= PROBES_A_SECOND);
    const seconds = (performance.now() - started) / 1000;
    expect(b.pathEvents.length).toBeLessThanOrEqual(PROBES_A_SECOND * (1 + seconds));
    expect(b.pathEvents.length + b.datapath.stats().ingress['dropped:bad-inside']).toBe(1000);
  });

  test('is cut to its IP length, and dropped when that is longer than the message', async () => {
    const padded = new Uint8Array(48);
    padded.set(good(32));
    eve.send(seal(far, 0, padded), at());
    await counted('writes', 1);
    eve.send(seal(far, 1, good(64).slice(0, 40)), at());
    eve.send(seal(far, 2, new Uint8Array(64).fill(0xff)), at());
    eve.send(seal(far, 3, new Uint8Array(16)), at());
    await counted('dropped:bad-inside', 3);
    const { stdout } = await hostB.tryRun(['ip', '-json', '-stats', 'link', 'show', 'tun0']);
    expect(JSON.parse(stdout)[0].stats64.rx).toMatchObject({ packets: 1, bytes: 32 });
  });

  test('for an index nobody has is dropped', async () => {
    eve.send(seal({ ...far, remoteIndex: (far.remoteIndex ^ 1) >>> 0 }, 0, good()), at());
    await counted('dropped:unknown-index', 1);
  });

  test('under a removed keypair is dropped', async () => {
    b.apply({ kind: 'remove-keypair', localIndex: near.localIndex });
    eve.send(seal(far, 0, good()), at());
    await counted('dropped:unknown-index', 1);
  });

  test('under a keypair of 180 s is dropped', async () => {
    const [oldFar, oldNear] = keypairs(monotonicNow() - 180_000);
    b.apply({ kind: 'install-keypair', peer: 'a', keypair: oldNear });
    eve.send(seal(oldFar, 0, good()), at());
    await counted('dropped:expired', 1);
  });

  test('with a counter past the limit is dropped', async () => {
    eve.send(seal(far, 2n ** 64n - 1n, good()), at());
    eve.send(seal(far, 2n ** 53n, good()), at());
    await counted('dropped:expired', 2);
    eve.send(seal(far, 2 ** 53 - 1, good()), at());
    await counted('writes', 1);
  });

  test('of a removed peer is dropped, and its successor does not inherit anything', async () => {
    b.datapath.removePeer(DEVICE, 'a');
    eve.send(seal(far, 0, good()), at());
    await counted('dropped:unknown-index', 1);
    b.datapath.addPeer(DEVICE, 'a');
    expect(b.datapath.activity(DEVICE, 'a')).toMatchObject({ rxBytes: 0, sendCounter: 0 });
  });
});

describe('main is told', () => {
  test('of a keypair that is not in use, once', async () => {
    const [nextFar, nextNear] = keypairs();
    b.apply({ kind: 'install-keypair', peer: 'a', keypair: nextNear });
    for (let counter = 0; counter < 5; counter++) eve.send(seal(nextFar, counter, good()), at());
    await counted('writes', 5);
    await heard(() => b.events.length > 0);
    expect(b.events).toEqual([{ kind: 'keypair-confirmed', peer: 'a', localIndex: nextNear.localIndex }]);
  });

  test('of an endpoint that moved, and what it spoke to, by an authentic packet only', async () => {
    const elsewhere = new Eve(hostA);
    elsewhere.send(seal(far, 0, good()), at());
    await heard(() => b.events.length > 0);
    const endpoint = { address: '192.0.2.1', port: elsewhere.port, local: '192.0.2.2' };
    expect(b.events[0]).toEqual({ kind: 'endpoint-moved', peer: 'a', endpoint });
    const before = b.events.length;
    elsewhere.send(seal(far, 0, good()), at());
    await counted('dropped:replayed', 1);
    await sleep(30);
    expect(b.events).toHaveLength(before);
    elsewhere.close();
  });

  test('of an endpoint that moved to the other family', async () => {
    eve.send(seal(far, 0, good()), { address: '2001:db8::2', port: b.datapath.port });
    await heard(() => b.events.length > 0);
    const endpoint = { address: '2001:db8::1', port: eve.port, local: '2001:db8::2' };
    expect(b.events[0]).toEqual({ kind: 'endpoint-moved', peer: 'a', endpoint });
  });

  test('of handshake messages, with their source, if their length is right', async () => {
    for (const [type, right] of [
      [1, 148],
      [2, 92],
      [3, 64],
    ] as const) {
      for (const length of [right - 1, right, right + 1]) {
        const message = new Uint8Array(length).fill(type * 16);
        new DataView(message.buffer).setUint32(0, type, true);
        eve.send(message, at());
      }
    }
    await counted('dropped:malformed', 6);
    await heard(() => b.datagrams.length === 3);
    expect(b.datagrams.map(({ datagram }) => datagram.length)).toEqual([148, 92, 64]);
    expect(b.datagrams[0]?.source).toEqual({
      address: '192.0.2.1',
      port: eve.port,
      local: '192.0.2.2',
    });
    expect(b.datagrams[0]?.datagram.subarray(4)).toEqual(new Uint8Array(144).fill(16));
  });

  test('of no more handshake messages than it can take: the rest is dropped and counted', async () => {
    const message = new Uint8Array(148);
    message[0] = 1;
    // This thread is main: while it sends, it takes nothing out of the queue.
    for (let i = 0; i < 3000; i++) eve.send(message, at());
    const { ingress } = b.datapath.stats();
    const dropped = ingress['dropped:queue-full'] + ingress['dropped:flooded'];
    expect(ingress.handshakes + dropped).toBeGreaterThan(1024);
    expect(dropped).toBeGreaterThan(0);
    await heard(() => b.datagrams.length >= 512);
    eve.send(seal(far, 0, good()), at());
    await counted('writes', 1);
  });
});

test('nothing that can be sent stops the loop', async () => {
  const random = new Uint8Array(65507);
  for (let i = 0; i < random.length; i++) random[i] = (i * 31 + (i >> 8) * 17) & 0xff;
  const view = new DataView(random.buffer);
  for (const type of [0, 1, 2, 3, 4, 5, 0x0100_0004, 0xffff_ffff]) {
    view.setUint32(0, type, true);
    view.setUint32(4, near.localIndex, true);
    for (const length of [0, 1, 3, 4, 15, 16, 31, 32, 33, 47, 63, 65, 1500, 9000, 65507])
      eve.send(random.subarray(0, length), at());
  }
  eve.send(seal(far, 0, good()), at());
  await counted('writes', 1);
});

test('an IPv6 packet with a source of another family’s peer is dropped', async () => {
  const six = new Uint8Array(48);
  six[0] = 0x60;
  six[5] = 8;
  eve.send(seal(far, 0, six), at());
  await counted('dropped:wrong-source', 1);
});
