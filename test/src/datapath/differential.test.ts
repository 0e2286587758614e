// The fast path against its readable twin and against the kernel: packets written to a TUN on one side are routed into
// the tunnel, sealed, sent, opened, coalesced and written; the kernel of the other side takes the super-packets apart
// again for a TUN that wants none. What arrives there is what the reference data plane delivers, byte for byte.

import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { AllowedIps } from '../../../native-free/device/allowed-ips.ts';
import { receiveTransport } from '../../../native-free/device/inbound.ts';
import { sendPacket } from '../../../native-free/device/outbound.ts';
import { ReferenceDataPlane } from '../../../native-free/device/reference-data-plane.ts';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { openTun, removeTun, type Tun } from '../../../src/datapath/tun.ts';
import { HALF_A_PAIR } from '../../../src/datapath/worker-pairs.ts';
import { errno, errnoName, read, write } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import type { Host } from '../../lab/host.ts';
import { Lab } from '../../lab/lab.ts';
import {
  be16,
  buildPacket,
  buildSegments,
  buildSuperPacket,
  concat,
  type Flow,
  flowArbitrary,
  headerLength,
  payload,
  slowSum,
} from '../../native-free/wire/packets.ts';
import { packet } from './eve.ts';
import { End, join, keypairs, MTU } from './tunnel.ts';

const PREFIXES = { a: ['10.60.1.0/24', 'fd00:60::100/120'], b: ['10.60.2.0/24', 'fd00:60::200/120'] };
const VNET_HEADER = 10;
const PLAIN = new Uint8Array(VNET_HEADER);
const ACK = 0x10;
const PSH = 0x08;

/** A TUN behind a router, at which the test plays the pods. */
class Gate {
  readonly #tun: Tun;
  readonly #arena = new Arena(1 << 17);

  private constructor(tun: Tun) {
    this.#tun = tun;
  }

  static async open(host: Host, prefixes: string[], allowOffloads: boolean): Promise<Gate> {
    const tun = openTun({ name: 'pods', netns: host.netns, allowOffloads });
    await host.ip(
      `link set pods mtu ${MTU} txqueuelen 10000 up`,
      ...prefixes.map((prefix) => `route replace ${prefix} dev pods`),
    );
    return new Gate(tun);
  }

  /** Borrows `frame`: virtio_net_hdr and packet. */
  write(frame: Uint8Array): void {
    this.#arena.bytes.set(frame);
    const written = write(this.#tun.fd, this.#arena.address, frame.length);
    if (written !== frame.length) throw new Error(`${frame.length} B were not taken: ${errnoName(errno())}`);
  }

  /** One packet, or nothing when there is none. */
  read(): Uint8Array | undefined {
    const length = read(this.#tun.fd, this.#arena.address, 1 << 17);
    return length <= 0 ? undefined : this.#arena.bytes.slice(VNET_HEADER, length);
  }

  close(): void {
    removeTun(this.#tun);
    this.#arena.unmap();
  }
}

/** What goes in: as a frame for a TUN, and as the packets that it stands for. */
interface Sent {
  readonly frame: Uint8Array;
  readonly packets: readonly Uint8Array[];
}

const plain = (bytes: Uint8Array): Sent => ({ frame: concat(PLAIN, bytes), packets: [bytes] });
/** One segment alone is no super-packet: only its checksum is left to complete. */
const superPacket = (flow: Flow, bytes: Uint8Array, gsoSize: number): Sent => ({
  frame: buildSuperPacket(flow, bytes, bytes.length > gsoSize ? gsoSize : 0),
  packets: buildSegments(flow, bytes, gsoSize),
});

const lab = Lab.create();
let a: End;
let b: End;
let near: Gate;
let far: Gate;

beforeAll(async () => {
  const hostA = await lab.host('a', { forward: true });
  const hostB = await lab.host('b', { forward: true });
  await lab.cable(
    { host: hostA, interface: 'eth0', addresses: ['192.0.2.1/24'] },
    { host: hostB, interface: 'eth0', addresses: ['192.0.2.2/24'] },
  );
  // On a busy machine what is sparse may come before what its flow sent long ago; here order counts.
  const options = { sparseFirst: false };
  // One thread for both directions here, a thread for each there.
  [a, b] = await Promise.all([
    End.start(hostA, 'tun0', { ...options, pairs: HALF_A_PAIR }),
    End.start(hostB, 'tun0', { ...options, pairs: 1 }),
  ]);
  join(a, b, '192.0.2.1', '192.0.2.2');
  a.allow({ b: PREFIXES.b });
  b.allow({ a: PREFIXES.a });
  await a.up([], PREFIXES.b);
  await b.up([], PREFIXES.a);
  for (const host of [hostA, hostB]) await host.ip('link set tun0 txqueuelen 10000');
  near = await Gate.open(hostA, PREFIXES.a, true);
  far = await Gate.open(hostB, PREFIXES.b, false);
  await a.datapath.settled();
  await b.datapath.settled();
});
afterAll(async () => {
  await a.remove();
  await b.remove();
  near.close();
  far.close();
  await lab.close();
});
beforeEach(() => {
  while (far.read() !== undefined);
});

const isOurs = (bytes: Uint8Array): boolean =>
  hexOf(bytes, 'destination').startsWith('0a3c02') || isOursV6(bytes);
const isOursV6 = (bytes: Uint8Array): boolean =>
  (bytes[0] ?? 0) >>> 4 === 6 && hexOf(bytes, 'destination').startsWith('fd000060');

const hexOf = (bytes: Uint8Array, which: 'source' | 'destination'): string => {
  const isV4 = (bytes[0] ?? 0) >>> 4 === 4;
  const [at, length] = isV4 ? [12, 4] : [8, 16];
  const from = which === 'source' ? at : at + length;
  return Buffer.from(bytes.subarray(from, from + length)).toString('hex');
};

/** Sends it all and collects what arrives, in order, until as many packets are there as were sent. */
const carried = async (sent: readonly Sent[]): Promise<Uint8Array[]> => {
  const arrived: Uint8Array[] = [];
  let expected = 0;
  const collect = async (missing: number): Promise<void> => {
    for (let idle = 0; expected - arrived.length > missing && idle < 300; ) {
      const bytes = far.read();
      if (bytes === undefined) {
        idle += 1;
        await sleep(5);
      } else if (isOurs(bytes)) arrived.push(bytes);
    }
  };
  for (const { frame, packets } of sent) {
    near.write(frame);
    expected += packets.length;
    await collect(2000);
  }
  await collect(0);
  // Whatever comes too often would come now.
  await sleep(50);
  for (let bytes = far.read(); bytes !== undefined; bytes = far.read())
    if (isOurs(bytes)) arrived.push(bytes);
  return arrived;
};

/** What the reference data plane makes of the same packets. */
const delivered = (sent: readonly Sent[]): Uint8Array[] => {
  const out: Uint8Array[] = [];
  const [ofA, ofB] = keypairs(0);
  const plane = (peer: string, prefixes: string[], send: (datagram: Uint8Array) => void) => {
    const allowedIps = new AllowedIps<string>();
    for (const prefix of prefixes) allowedIps.insert(parsePrefix(prefix), peer);
    return new ReferenceDataPlane(MTU, {
      primitives: opensslPrimitives,
      allowedIps,
      inside: { deliver: (bytes) => out.push(bytes.slice()) },
      outside: { send },
      report: () => {},
    });
  };
  const endpoint = { address: '192.0.2.1', port: 1 };
  const planeB = plane('a', PREFIXES.a, () => {});
  const planeA = plane('b', PREFIXES.b, (datagram) => {
    receiveTransport(planeB, datagram, endpoint, 1);
  });
  planeA.carryOut({ kind: 'set-endpoint', peer: 'b', endpoint }, 0);
  planeA.carryOut({ kind: 'install-keypair', peer: 'b', keypair: ofA }, 0);
  planeA.carryOut({ kind: 'use-keypair', peer: 'b', localIndex: ofA.localIndex }, 0);
  planeB.carryOut({ kind: 'install-keypair', peer: 'a', keypair: ofB }, 0);
  for (const { packets } of sent) for (const bytes of packets) sendPacket(planeA, bytes.slice(), 1);
  return out;
};

/**
 * Without what routers change: TTL and its checksum; and, where fragmenting is forbidden, the identification, which then
 * means nothing (RFC 6864) and which the kernel counts up as it cuts. The two zeros of a TCP checksum are one. A wrong
 * IPv4 header checksum is said to be so.
 */
const comparable = (bytes: Uint8Array): string => {
  const copy = bytes.slice();
  const isV4 = (copy[0] ?? 0) >>> 4 === 4;
  const isRight = !isV4 || slowSum(copy.subarray(0, 20)) === 0xffff;
  if (isV4) {
    copy.fill(0, 8, 9);
    copy.fill(0, 10, 12);
    if (((copy[6] ?? 0) & 0x40) !== 0) copy.fill(0, 4, 6);
  } else copy.fill(0, 7, 8);
  const tcpChecksum = (isV4 ? 20 : 40) + 16;
  const isTcp = copy[isV4 ? 9 : 6] === 6 && copy.length > tcpChecksum + 1;
  if (isTcp && copy[tcpChecksum] === 0xff && copy[tcpChecksum + 1] === 0xff)
    copy.fill(0, tcpChecksum, tcpChecksum + 2);
  return `${isRight ? '' : 'wrong checksum '}${Buffer.from(copy).toString('hex')}`;
};

/**
 * The packets of each flow in their order: flows that arrive together may overtake each other. Fragments but the first
 * show no ports and are a flow of their own.
 */
const byFlow = (packets: readonly Uint8Array[]): Map<string, string[]> => {
  const flows = new Map<string, string[]>();
  for (const bytes of packets) {
    const name = `${hexOf(bytes, 'source')} ${hexOf(bytes, 'destination')} ${transportOf(bytes)}`;
    flows.set(name, [...(flows.get(name) ?? []), comparable(bytes)]);
  }
  return flows;
};

const transportOf = (bytes: Uint8Array): string => {
  const isV4 = (bytes[0] ?? 0) >>> 4 === 4;
  const protocol = bytes[isV4 ? 9 : 6] ?? 0;
  if (isV4 && (((bytes[6] ?? 0) & 0x1f) !== 0 || bytes[7] !== 0)) return `later fragments of ${protocol}`;
  const at = isV4 ? 20 : 40;
  return `${protocol} ${protocol === 253 ? '' : Buffer.from(bytes.subarray(at, at + 4)).toString('hex')}`;
};

const noDrops = (): void => {
  // The kernel's own multicasts are for no peer.
  for (const [name, count] of [
    ...Object.entries(a.datapath.stats().egress),
    ...Object.entries(b.datapath.stats().ingress),
  ])
    if (name.startsWith('dropped') && name !== 'dropped:no-peer') expect([name, count]).toEqual([name, 0]);
};

const BASE: Flow = {
  version: 4,
  protocol: 'tcp',
  source: 0x101,
  destination: 0x201,
  sourcePort: 1111,
  destinationPort: 2222,
  trafficClass: 0,
  ttl: 64,
  identification: 7,
  sequence: 0xffff_f000,
  acknowledgment: 5,
  flags: ACK,
  window: 500,
  options: new Uint8Array(12).fill(1),
};

test.each(
  (['tcp', 'udp'] as const).flatMap((protocol) =>
    ([4, 6] as const).flatMap((version) =>
      [1, 1000, 1333].map((gsoSize) => [protocol, version, gsoSize] as const),
    ),
  ),
)('the kernel takes %s over IPv%i in segments of %i B as one write and cuts it right', async (...args) => {
  const [protocol, version, gsoSize] = args;
  const flow = { ...BASE, protocol, version };
  const before = b.datapath.stats().ingress;
  // The last segment is short, where it can be.
  const sent = [superPacket(flow, payload(gsoSize * 30 - (gsoSize >> 1), 1), gsoSize)];
  const arrived = await carried(sent);
  const after = b.datapath.stats().ingress;
  expect(arrived.map(comparable)).toEqual(delivered(sent).map(comparable));
  expect(arrived).toHaveLength(30);
  expect(after['super-packets'] - before['super-packets']).toBe(1);
  noDrops();
});

/** Random traffic of random flows: bursts, single packets, broken checksums, fragments and what is neither. */
const traffic = (seed: number, bursts: number): Sent[] => {
  const random = fc.sample(fc.nat(), { seed, numRuns: bursts * 8 });
  const next = (limit: number): number => (random.pop() ?? 0) % limit;
  const flows = fc.sample(flowArbitrary, { seed, numRuns: 12 }).map((flow) => ({
    ...flow,
    source: 0x101 + (flow.source % 250),
    destination: 0x201 + (flow.destination % 250),
    // Two routers stand between.
    ttl: Math.max(flow.ttl, 3),
    // Half of them are ordinary streams.
    flags: flow.flags % 2 === 0 ? ACK : flow.flags,
  }));
  const advance = (which: number, by: Partial<Flow>): void => {
    const flow = flows[which];
    if (flow !== undefined) flows[which] = { ...flow, ...by };
  };
  const sent: Sent[] = [];
  for (let i = 0; i < bursts; i++) {
    const which = next(flows.length);
    const flow = flows[which] ?? BASE;
    const room = MTU - headerLength(flow);
    const kind = next(8);
    if (kind < 4) {
      const gsoSize = 1 + next(room);
      const bytes = payload(1 + next(Math.min(60 * gsoSize, 60_000)), i);
      const flags = flow.flags === ACK && next(2) === 0 ? ACK | PSH : flow.flags;
      const one = superPacket({ ...flow, flags }, bytes, gsoSize);
      sent.push(one);
      advance(which, {
        sequence: (flow.sequence + bytes.length) >>> 0,
        identification: (flow.identification + one.packets.length) & 0xffff,
      });
    } else if (kind < 6) {
      const bytes = payload(next(room), i);
      sent.push(plain(buildPacket(flow, bytes)));
      advance(which, {
        sequence: (flow.sequence + bytes.length) >>> 0,
        identification: (flow.identification + 1) & 0xffff,
      });
    } else if (kind === 6) {
      const broken = buildPacket(flow, payload(1 + next(room), i));
      broken[broken.length - 1] = (broken.at(-1) ?? 0) ^ 0x55;
      sent.push(plain(broken));
    } else if (flow.version === 4) {
      const fragment = buildPacket(flow, payload(8 * (1 + next(100)), i));
      fragment.set(be16(0x2000 | (next(2) * 50)), 6);
      fragment.set(be16(0), 10);
      fragment.set(be16(~slowSum(fragment.subarray(0, 20)) & 0xffff), 10);
      sent.push(plain(fragment));
    } else {
      sent.push(plain(packet('10.60.1.1', '10.60.2.2', 20 + next(1400))));
    }
  }
  return sent;
};

test('random traffic arrives as the reference data plane delivers it, flow by flow in order', async () => {
  const seed = Number(process.env['VL3_SEED'] ?? Date.now() % 1_000_000);
  const sent = traffic(seed, 400);
  const wanted = byFlow(delivered(sent));
  const arrived = byFlow(await carried(sent));
  expect([...arrived.keys()].sort(), `VL3_SEED=${seed}`).toEqual([...wanted.keys()].sort());
  for (const [name, packets] of wanted)
    expect(arrived.get(name), `VL3_SEED=${seed} ${name}`).toEqual(packets);
  noDrops();
  expect(b.datapath.stats().ingress['super-packets']).toBeGreaterThan(20);
});
