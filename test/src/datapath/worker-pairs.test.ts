// Several pairs of workers behind one port: one peer's traffic over all of those that send, each session with one of those that
// receive, and what the kernel brings to another is handed over. Fewer processors than workers change none of that.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Keypair } from '../../../native-free/device/data-plane.ts';
import { MacKey } from '../../../native-free/noise/blake2s.ts';
import { mac1KeyOf } from '../../../native-free/noise/cookie.ts';
import { INITIATION_LENGTH, INITIATION_TYPE } from '../../../native-free/wire/message.ts';
import { type Counts, INGRESS_COUNTERS, type IngressCounter } from '../../../src/datapath/counters.ts';
import { Datapath } from '../../../src/datapath/datapath.ts';
import { inNamespace } from '../../../src/datapath/tun.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { eventually } from '../../lab/eventually.ts';
import type { Host } from '../../lab/host.ts';
import { iperf3 } from '../../lab/iperf3.ts';
import { Lab } from '../../lab/lab.ts';
import { Eve, packet, seal } from './eve.ts';
import { DEVICE, End, join, keypairs, twoHosts } from './tunnel.ts';

const PAIRS = 4;
const LANES = [0, 1, 2, 3] as const;

const lab = Lab.create();
let hostA: Host;
let hostB: Host;
let a: End;
let b: End;

beforeAll(async () => {
  [hostA, hostB] = await twoHosts(lab);
});
afterAll(() => lab.close());

/** Until `condition` holds, or for ten seconds. */
const until = async (condition: () => boolean): Promise<void> => {
  for (let i = 0; i < 1000 && !condition(); i++) await sleep(10);
};

describe('between two ends with several pairs each', () => {
  beforeAll(async () => {
    a = await End.start(hostA, 'tun0', { pairs: PAIRS });
    b = await End.start(hostB, 'tun0', { pairs: 2 });
    await a.up(['10.0.0.1/24', 'fd00::1/64'], []);
    await b.up(['10.0.0.2/24', 'fd00::2/64'], []);
    join(a, b, '192.0.2.1', '192.0.2.2');
    a.allow({ b: ['10.0.0.2/32', 'fd00::2/128'] });
    b.allow({ a: ['10.0.0.1/32', 'fd00::1/128'] });
    await Promise.all([a.datapath.settled(), b.datapath.settled()]);
  });
  afterAll(async () => {
    await a.remove();
    await b.remove();
  });

  const sealedBy = (end: End): number[] =>
    LANES.slice(0, end.datapath.pairs).map((pair) => end.datapath.stats(pair).egress.packets);

  test.each([
    ['10.0.0.2', false],
    ['10.0.0.2', true],
    ['fd00::2', false],
  ])(
    'connections to one peer are sealed by several workers, each counter once: to %s, reverse %s',
    async (address, reverse) => {
      const { bytes } = await iperf3(hostA, hostB, address, { seconds: 1, streams: 16, reverse });
      expect(bytes).toBeGreaterThan(1_000_000);
      for (const end of [a, b]) expect(sealedBy(end).filter((n) => n > 10).length).toBeGreaterThan(1);
      // Every message has a counter of its own, and every counter a message.
      let [used, sealed] = [0, 0];
      const isSame = (): boolean => {
        used = a.datapath.activity(DEVICE, 'b')?.sendCounter ?? 0;
        sealed = a.datapath.stats().egress.packets;
        return used > 0 && used === sealed;
      };
      // Closed connections may go on for a while.
      await until(isSame);
      expect(used).toBe(sealed);
      expect((reverse ? b : a).datapath.stats().egress['super-packets']).toBeGreaterThan(0);
      for (const end of [a, b])
        expect(end.datapath.stats().ingress).toMatchObject({
          'dropped:replayed': 0,
          'dropped:forged': 0,
          'dropped:unknown-index': 0,
        });
    },
  );

  test('what each of them sent counts for the peer', async () => {
    await iperf3(hostA, hostB, '10.0.0.2', { seconds: 1, streams: 16 });
    const activity = a.datapath.activity(DEVICE, 'b');
    const most = Math.max(...sealedBy(a));
    const all = a.datapath.stats().egress.packets;
    expect(most).toBeLessThan(all);
    // Each message takes 32 bytes and what it carries.
    expect(activity?.txBytes).toBeGreaterThan(all * 32);
    expect(activity?.dataSentAt).toBeGreaterThan(0);
  });

  test('the port cannot be shared by another who would take its datagrams', async () => {
    const start = () => Datapath.start({ port: b.datapath.port, pairs: 2 }, nothing);
    await expect(inNamespace(hostB.netns, start)).rejects.toThrow(/is taken/);
  });

  test('all workers move to another port, and give it up', async () => {
    inNamespace(hostB.netns, () => b.datapath.rebind(0));
    a.apply({
      kind: 'set-endpoint',
      peer: 'b',
      endpoint: { address: '192.0.2.2', port: b.datapath.port },
    });
    const { bytes } = await iperf3(hostA, hostB, '10.0.0.2', { seconds: 1, streams: 16 });
    expect(bytes).toBeGreaterThan(1_000_000);
    inNamespace(hostB.netns, () => b.datapath.unbind());
    const start = () => Datapath.start({ port: b.datapath.port, pairs: 2 }, nothing);
    // Once those who slept on the sockets have woken.
    const isFree = async (): Promise<void> => {
      const next = await inNamespace(hostB.netns, start);
      await next[Symbol.asyncDispose]();
    };
    await eventually(isFree, { timeout: 10_000, interval: 20 });
  });
});

const nothing = {
  onEvent: () => {},
  onDatagram: () => {},
  onDeviceLost: () => {},
  onFailure: () => {},
};

describe('what comes to a worker', () => {
  let eve: Eve;
  /** Eve's halves of sessions with b, by lane: their receiver indices end in it. */
  let sessions: Keypair[];
  const MAC1_KEY = mac1KeyOf(opensslPrimitives, new Uint8Array(32).fill(7));
  const counters = [0, 0, 0, 0];
  let before: {
    readonly all: Counts<IngressCounter>;
    readonly byPair: readonly Counts<IngressCounter>[];
    readonly sealed: readonly number[];
    readonly arrived: number;
  };

  beforeAll(async () => {
    eve = new Eve(hostA);
    b = await End.start(hostB, 'tun0', { pairs: PAIRS });
    await b.up(['10.0.0.200/24'], []);
    sessions = LANES.map((lane) => {
      const [far, near] = keypairs();
      const index = ((near.localIndex & ~(PAIRS - 1)) | lane) >>> 0;
      b.datapath.addPeer(DEVICE, `peer${lane}`);
      b.apply({ kind: 'install-keypair', peer: `peer${lane}`, keypair: { ...near, localIndex: index } });
      return { ...far, remoteIndex: index };
    });
    b.allow(Object.fromEntries(LANES.map((lane) => [`peer${lane}`, [`10.0.0.${lane + 1}/32`]])));
    b.datapath.setMac1Key(DEVICE, MAC1_KEY);
    await b.datapath.settled();
  });
  afterAll(async () => {
    eve.close();
    await b.remove();
  });

  const at = () => ({ address: '192.0.2.2', port: b.datapath.port });
  const message = (lane: number): Uint8Array => {
    const keypair = sessions[lane];
    if (keypair === undefined) throw new Error(`there is no session ${lane}`);
    const counter = counters[lane] ?? 0;
    counters[lane] = counter + 1;
    return seal(keypair, counter, packet(`10.0.0.${lane + 1}`, '10.0.0.200', 160));
  };
  const all = (pair?: number) => b.datapath.stats(pair).ingress;
  /** Packets that the TUN has brought into the host. */
  const arrived = async (): Promise<number> => {
    const [link] = JSON.parse(await hostB.run(['ip', '-s', '-j', 'link', 'show', 'tun0']));
    return link.stats64.rx.packets;
  };
  beforeEach(async () => {
    before = { all: all(), byPair: LANES.map(all), sealed: [...counters], arrived: await arrived() };
  });
  // Since then.
  const counted = (name: IngressCounter): number => all()[name] - before.all[name];
  const openedBy = (): number[] =>
    LANES.map((pair) => all(pair).packets - (before.byPair[pair]?.packets ?? 0));
  const sealed = (): number[] => counters.map((counter, lane) => counter - (before.sealed[lane] ?? 0));
  const dropped = (): [IngressCounter, number][] =>
    INGRESS_COUNTERS.filter((name) => name.startsWith('dropped') && counted(name) > 0).map((name) => [
      name,
      counted(name),
    ]);

  test('alone, is what belongs to it: nothing is handed over', async () => {
    for (const lane of LANES) for (let i = 0; i <= lane; i++) eve.send(message(lane), at());
    await until(() => counted('packets') === 10);
    expect(openedBy()).toEqual([1, 2, 3, 4]);
    expect(counted('handed-over')).toBe(0);
    expect(dropped()).toEqual([]);
  });

  test("joined with what is others', is handed over, and none of it is lost", async () => {
    const batches = 200;
    const of = 60;
    let foreign = 0;
    for (let batch = 0; batch < batches; batch++) {
      const lanes = Array.from({ length: of }, (_, i) => (batch * 7 + i * i) % PAIRS);
      foreign += lanes.filter((lane) => lane !== lanes[0]).length;
      eve.sendJoined(lanes.map(message), at());
      if (batch % 20 === 19) await until(() => counted('packets') === (batch + 1) * of);
    }
    expect(counted('packets')).toBe(batches * of);
    expect(dropped()).toEqual([]);
    expect(openedBy()).toEqual(sealed());
    expect(counted('handed-over')).toBe(foreign);
    expect((await arrived()) - before.arrived).toBe(batches * of);
  });

  test('joined with a handshake, leaves that to the first worker', async () => {
    const initiation = new Uint8Array(INITIATION_LENGTH);
    initiation[0] = INITIATION_TYPE;
    initiation.set(new MacKey(MAC1_KEY).mac(initiation.subarray(0, 116)), 116);
    eve.sendJoined([message(3), message(3), initiation], at());
    await until(() => b.datagrams.length === 1);
    expect(b.datagrams.map(({ datagram, source }) => [[...datagram], source.address])).toEqual([
      [[...initiation], '192.0.2.1'],
    ]);
    expect(all(0).handshakes).toBe(1);
    expect(counted('packets')).toBe(2);
  });

  test('handed over twice, is taken for a replay once', async () => {
    const again = message(2);
    eve.sendJoined([message(1), again, again], at());
    await until(() => counted('packets') === 2 && dropped().length > 0);
    expect(openedBy()).toEqual([0, 1, 1, 0]);
    expect(dropped()).toEqual([['dropped:replayed', 1]]);
  });

  test('handed over, tells where its peer is now', async () => {
    eve.sendJoined([message(0), message(3)], at());
    await until(() => b.events.some((event) => event.kind === 'endpoint-moved' && event.peer === 'peer3'));
    expect(b.events).toContainEqual({
      kind: 'endpoint-moved',
      peer: 'peer3',
      endpoint: { address: '192.0.2.1', port: eve.port, local: '192.0.2.2' },
    });
  });
});

test('a number of pairs that is no power of two is refused', async () => {
  await expect(Datapath.start({ port: 0, pairs: 3 }, nothing)).rejects.toThrow(/choose 0.5, 1, 2, 4 or 8/);
});
