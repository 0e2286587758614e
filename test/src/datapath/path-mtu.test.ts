// What the datapath does about paths that carry less: probes and their answers, packets that are too big for a path that is
// known, and what routers, or forgers, say about it.

import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { PathEvent } from '../../../native-free/device/path-mtus.ts';
import { encodeSockaddr } from '../../../src/datapath/sockaddr.ts';
import { inNamespace } from '../../../src/datapath/tun.ts';
import { bind, close, errno, sendto, setsockopt, socket } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { Capture } from '../../lab/capture.ts';
import { eventually } from '../../lab/eventually.ts';
import type { Host } from '../../lab/host.ts';
import { iperf3 } from '../../lab/iperf3.ts';
import { Lab } from '../../lab/lab.ts';
import { ping } from '../../lab/ping.ts';
import { be16, be32, concat, slowSum } from '../../native-free/wire/packets.ts';
import { DEVICE, End, join, keypairs, twoHosts } from './tunnel.ts';

const SOON = { timeout: 20_000, interval: 20 };
const UNDERLAYS = [
  ['IPv4', '192.0.2.1', '192.0.2.2'],
  ['IPv6', '2001:db8::1', '2001:db8::2'],
] as const;

let lab: Lab;
let hostA: Host;
let hostB: Host;
let a: End;
let b: End;

beforeAll(async () => {
  lab = Lab.create();
  [hostA, hostB] = await twoHosts(lab);
});
afterAll(async () => await lab.close());

beforeEach(async () => {
  [a, b] = await Promise.all([End.start(hostA, 'tun0'), End.start(hostB, 'tun0')]);
  a.allow({ b: ['10.0.0.2/32', 'fd00::2/128'] });
  await a.up(['10.0.0.1/24', 'fd00::1/64'], []);
  await b.up(['10.0.0.2/24', 'fd00::2/64'], []);
});
afterEach(async () => {
  await a.remove();
  await b.remove();
});

const meet = async (ofA: string, ofB: string): Promise<void> => {
  join(a, b, ofA, ofB);
  a.allow({ b: ['10.0.0.2/32', 'fd00::2/128'] });
  b.allow({ a: ['10.0.0.1/32', 'fd00::1/128'] });
  await a.datapath.settled();
  await b.datapath.settled();
};

const limit = (length: number | undefined): void =>
  a.datapath.applyToPaths(DEVICE, [{ kind: 'set-limit', peer: 'b', length }]);

const heard = async (end: End, event: PathEvent): Promise<void> =>
  await eventually(async () => expect(end.pathEvents).toContainEqual(event), SOON);

/** So many packets, or more, were too big. */
const dropped = async (count: number): Promise<void> =>
  await eventually(
    async () => expect(a.datapath.stats().egress['dropped:too-big']).toBeGreaterThanOrEqual(count),
    SOON,
  );

/** What ping says, with packets that may not be cut. */
const pingUncut = async (address: string, size: number): Promise<string> => {
  const command = ['ping', '-c', '1', '-W', '5', '-M', 'do', '-s', `${size}`, address];
  return (await hostA.tryRun(command)).stdout;
};

test.each(UNDERLAYS)(
  'over %s a probe that fits is heard and answered, one that does not is lost',
  async (...on) => {
    const [, ofA, ofB] = on;
    await meet(ofA, ofB);
    const probe = (sequence: number, length: number): void =>
      a.datapath.applyToPaths(DEVICE, [{ kind: 'send-probe', peer: 'b', sequence, length }]);
    await hostA.ip('link set eth0 mtu 1400');
    try {
      probe(1, 1420);
      probe(2, 1300);
      await heard(b, { kind: 'probe', peer: 'a', sequence: 2 });
      expect(b.pathEvents).toHaveLength(1);
      b.datapath.applyToPaths(DEVICE, [{ kind: 'answer-probe', peer: 'a', sequence: 2 }]);
      await heard(a, { kind: 'probe-answered', peer: 'b', sequence: 2 });
    } finally {
      await hostA.ip('link set eth0 mtu 1500');
    }
    // Neither is data: nobody owes anybody a word for it, and none was lost.
    expect(a.datapath.activity(DEVICE, 'b')).toMatchObject({ dataSentAt: 0, sendCounter: 2 });
    expect(a.datapath.stats().egress).toMatchObject({ 'dropped:too-big': 0, 'dropped:send-failed': 0 });
    expect(b.datapath.stats().ingress['dropped:bad-inside']).toBe(0);
  },
);

test('a packet too big for the path is answered with what fits, and one that fits passes', async () => {
  await meet('192.0.2.1', '192.0.2.2');
  limit(1328);
  expect(await pingUncut('10.0.0.2', 1301)).toMatch(/From 10\.0\.0\.2 .* \(mtu = 1328\)/);
  expect(await pingUncut('fd00::2', 1281)).toMatch(/From fd00::2 .* mtu=1328/);
  // Counted after they were sent.
  await eventually(
    async () => expect(a.datapath.stats().egress).toMatchObject({ 'too-bigs': 2, 'dropped:too-big': 2 }),
    SOON,
  );
  // The kernel has learned it, and cuts: what fits is carried.
  for (const address of ['10.0.0.2', 'fd00::2'])
    expect(await ping(hostA, address, { size: 3000 })).toMatchObject({ received: 1 });
  limit(undefined);
  await hostA.run(['ip', 'route', 'flush', 'cache']);
  expect(await pingUncut('10.0.0.2', 1392)).toContain('1 received');
});

test('no limit makes an IPv6 packet of 1280 bytes too big, nor an IPv4 packet that may be cut', async () => {
  await meet('192.0.2.1', '192.0.2.2');
  limit(1200);
  expect(await pingUncut('fd00::2', 1232)).toContain('1 received');
  expect(await ping(hostA, '10.0.0.2', { size: 8000 })).toMatchObject({ received: 1 });
  expect(await pingUncut('fd00::2', 1233)).toContain('mtu=1280');
});

test('what is carried all the same over IPv6 leaves in fragments', async () => {
  await meet('2001:db8::1', '2001:db8::2');
  limit(1200);
  const capture = await Capture.start(hostB, 'eth0', ['ip6']);
  expect(await ping(hostA, 'fd00::2', { size: 1232 })).toMatchObject({ received: 1 });
  expect(await ping(hostA, '10.0.0.2', { size: 30_000 })).toMatchObject({ received: 1 });
  const packets = await capture.stop();
  expect(packets.filter(({ protocol }) => protocol === 44).length).toBeGreaterThan(40);
  expect(a.datapath.stats().egress['dropped:too-big']).toBe(0);
});

test('a TCP stream finds the segments that fit by itself', async () => {
  await meet('192.0.2.1', '192.0.2.2');
  limit(1328);
  for (const address of ['10.0.0.2', 'fd00::2'])
    expect((await iperf3(hostA, hostB, address, { seconds: 1 })).bytes).toBeGreaterThan(1 << 20);
  expect(a.datapath.stats().egress['too-bigs']).toBeGreaterThan(1);
});

test('a flood of packets too big is answered a bounded number of times', async () => {
  await meet('192.0.2.1', '192.0.2.2');
  limit(1200);
  const started = performance.now();
  flood(hostA, '10.0.0.2', 1000);
  await dropped(201);
  const earned = ((performance.now() - started) / 1000) * 100;
  const { egress } = a.datapath.stats();
  expect(egress['too-bigs']).toBeGreaterThan(9);
  expect(egress['too-bigs']).toBeLessThanOrEqual(51 + earned);
});

test('who floods the way with packets too big leaves others their answers', async () => {
  await a.up(['10.0.0.3/32'], []);
  await meet('192.0.2.1', '192.0.2.2');
  limit(1200);
  // No more than the TUN's queue takes.
  flood(hostA, '10.0.0.2', 300);
  await dropped(300);
  const before = a.datapath.stats().egress['too-bigs'];
  flood(hostA, '10.0.0.2', 20, '10.0.0.3');
  await dropped(320);
  expect(a.datapath.stats().egress['too-bigs'] - before).toBeGreaterThanOrEqual(20);
});

test.each(UNDERLAYS)('over %s a router is heard about a message of ours, a forger is not', async (...on) => {
  const [, ofA, ofB] = on;
  const isV4 = ofA.includes('.');
  await meet(ofA, ofB);
  const [ofANow] = keypairs();
  a.apply(
    { kind: 'install-keypair', peer: 'b', keypair: ofANow },
    { kind: 'use-keypair', peer: 'b', localIndex: ofANow.localIndex },
  );
  const said = (receiver: number, port: number, mtu: number): Uint8Array => {
    const udp = concat(be16(port), be16(b.datapath.port), be16(1440), be16(0));
    const message = concat(Uint8Array.of(4, 0, 0, 0), be32(receiver).reverse(), randomBytes(8));
    const addresses = concat(
      encodeSockaddr({ address: ofA, port: 0 }).subarray(isV4 ? 4 : 8, isV4 ? 8 : 24),
      encodeSockaddr({ address: ofB, port: 0 }).subarray(isV4 ? 4 : 8, isV4 ? 8 : 24),
    );
    const quoted = isV4
      ? concat(
          Uint8Array.of(0x45, 0),
          be16(1460),
          be32(0),
          Uint8Array.of(64, 17),
          be16(0),
          addresses,
          udp,
          message,
        )
      : concat(be32(0x6000_0000), be16(1440), Uint8Array.of(17, 64), addresses, udp, message);
    // The kernel fills in ICMPv6 checksums.
    const icmp = concat(isV4 ? Uint8Array.of(3, 4) : Uint8Array.of(2, 0), be16(0), be32(mtu), quoted);
    if (isV4) icmp.set(be16(~slowSum(icmp) & 0xffff), 2);
    return icmp;
  };
  const send = (icmp: Uint8Array): void => sendRaw(hostB, ofA, isV4 ? 1 : 58, icmp);
  const { port } = a.datapath;
  for (let i = 0; i < 30; i++) send(said((ofANow.remoteIndex + 1 + i) >>> 0, port, 1300));
  send(said(ofANow.remoteIndex, port + 1, 1300));
  send(said(ofANow.remoteIndex, port, 1333));
  await heard(a, { kind: 'too-big', peer: 'b', size: 1333 });
  expect(a.pathEvents).toHaveLength(1);
});

/** UDP from somebody who sends on whatever it is told of the path (IP_PMTUDISC_PROBE). */
const flood = (host: Host, address: string, count: number, from = '0.0.0.0'): void =>
  inNamespace(host.netns, () => {
    const fd = socket(2, 2, 0);
    const arena = new Arena(4096);
    arena.view.setInt32(0, 3, true);
    setsockopt(fd, 0, 10, arena.address, 4);
    arena.bytes.set(encodeSockaddr({ address: from, port: 0 }), 0);
    bind(fd, arena.address, 16);
    arena.bytes.set(encodeSockaddr({ address, port: 9 }), 0);
    for (let i = 0; i < count; i++) sendto(fd, arena.address + 64, 1380, 0, arena.address, 16);
    close(fd);
    arena.unmap();
  });

/** By a raw socket in a host. */
const sendRaw = (host: Host, address: string, protocol: number, bytes: Uint8Array): void =>
  inNamespace(host.netns, () => {
    const isV4 = address.includes('.');
    const fd = socket(isV4 ? 2 : 10, 3, protocol);
    const arena = new Arena(4096);
    arena.bytes.set(encodeSockaddr({ address, port: 0 }), 0);
    arena.bytes.set(bytes, 64);
    const sent = sendto(fd, arena.address + 64, bytes.length, 0, arena.address, isV4 ? 16 : 28);
    const code = errno();
    close(fd);
    arena.unmap();
    if (sent < 0) throw new Error(`cannot send: ${code}`);
  });
