// Traffic drawn from an input: what an inside host sends (sound packets, super-packets, nonsense), and what arrives from
// outside (messages of sessions that are on, over or unknown, in order or not, whole or forged, and what is no message).

import { randomBytes } from 'node:crypto';
import type { Keypair } from '../../../native-free/device/data-plane.ts';
import { TCP_CWR } from '../../../native-free/wire/ip.ts';
import { Transport } from '../../../native-free/wire/message.ts';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import {
  buildPacket,
  buildSegments,
  buildSuperPacket,
  concat,
  type Flow,
  headerLength,
  payload,
} from '../../native-free/wire/packets.ts';
import { packet } from '../../src/datapath/eve.ts';
import { someFlow, somePacket } from '../packets.ts';
import type { Source } from '../source.ts';
import type { Sent, Session } from './twins.ts';

const VNET = 10;
const NOTHING = new Uint8Array(0);
/** Last bytes of addresses: of p0, p0, p1, p2 (twins.ts). */
const HOSTS = [0x101, 0x102, 0x201, 0x301];
/** What UDP carries at most, with what a message adds. */
const LONGEST_PACKET = 65_000;
const COUNTERS_END = 2 ** 53;

const someHosts = (source: Source): Flow => ({
  ...someFlow(source),
  source: source.pick(HOSTS),
  destination: source.pick(HOSTS),
});

const someLength = (source: Source): number =>
  source.pick([0, 1, 16, 100, 1368, 1380, 1400, source.between(0, 1500), source.between(0, 9000)]);

const plain = (bytes: Uint8Array): Sent => ({
  frame: concat(new Uint8Array(VNET), bytes),
  packets: [bytes],
});

/** Of a packet that leaves its checksum to be completed, a sum of zero is written in its other form, as by Linux. */
const completed = (flow: Flow, built: Uint8Array): Uint8Array => {
  const at = headerLength(flow) - (flow.protocol === 'tcp' ? 4 + flow.options.length : 2);
  if (built[at] === 0 && built[at + 1] === 0) built.fill(0xff, at, at + 2);
  return built;
};

const incomplete = (flow: Flow, data: Uint8Array): Sent => ({
  frame: buildSuperPacket(flow, data, 0),
  packets: [completed(flow, buildPacket(flow, data))],
});

/** The TUN does not ask for super-packets with CWR (TUN_F_TSO_ECN), so the kernel cuts them and leaves the checksums to us. */
const isCutByKernel = ({ protocol, flags }: Flow): boolean => protocol === 'tcp' && (flags & TCP_CWR) !== 0;

/** A packet, or one of what packets can be wrong in. */
const someBytes = (source: Source): Uint8Array => {
  switch (source.between(0, 7)) {
    case 0:
      return packet(`10.61.0.${source.between(1, 3)}`, source.pick(['10.60.1.2', '10.62.0.1']));
    case 1:
      return source.mutated(somePacket(source, 300), 4);
    case 2:
      return concat(buildPacket(someHosts(source), payload(source.between(0, 99), 1)), source.some(40));
    case 3:
      return buildPacket(someHosts(source), payload(source.between(0, LONGEST_PACKET - 100), 5));
    default:
      return buildPacket(someHosts(source), payload(someLength(source), source.byte()));
  }
};

/** What an inside host sends. `isPlain`: no super-packet. */
export const someSent = (source: Source, isPlain: boolean): Sent => {
  const kind = source.between(0, 7);
  if (kind < 4 || isPlain) {
    const bytes = someBytes(source);
    return plain(bytes.length === 0 ? Uint8Array.of(0) : bytes);
  }
  const flow = someHosts(source);
  if (kind === 4) return incomplete(flow, payload(someLength(source), 3));
  const gsoSize = source.pick([1, 16, 100, 1000, 1368, 1380, source.between(1, 1400)]);
  // Of UDP the kernel takes 128 at most.
  const count = source.between(2, gsoSize < 16 ? (flow.protocol === 'udp' ? 120 : 200) : 45);
  const room = Math.min(
    gsoSize * count - source.between(0, gsoSize - 1),
    LONGEST_PACKET - headerLength(flow),
  );
  const data = payload(room, source.byte());
  if (data.length <= gsoSize) return incomplete(flow, data);
  const segments = buildSegments(flow, data, gsoSize);
  return {
    frame: buildSuperPacket(flow, data, gsoSize),
    packets: isCutByKernel(flow) ? segments.map((segment) => completed(flow, segment)) : segments,
  };
};

// --- sessions

let indices = 1;

/** A session that begins now, or as long ago as is drawn; `ages`: milliseconds. */
export const someSession = (source: Source, peer: string, ages: readonly number[]): Session => {
  // Different ones may share a place in the table of indices.
  indices += source.pick([1, 1, 1, 32, 4096]);
  const keypair: Keypair = {
    localIndex: (indices * (source.chance(64) ? 0x10001 : 1)) >>> 0,
    remoteIndex: source.u32(),
    sendKey: Uint8Array.from(randomBytes(32)),
    receiveKey: Uint8Array.from(randomBytes(32)),
    isInitiator: source.chance(128),
    createdAt: monotonicNow() - source.pick(ages),
  };
  return { peer, keypair, counter: 0, sent: [] };
};

/** A message that the other end of the session makes. */
const seal = ({ keypair }: Session, counter: number, inner: Uint8Array): Uint8Array => {
  const message = Transport.create(keypair.localIndex, counter, inner.length + 16);
  message.sealedPacket.set(opensslPrimitives.seal(keypair.receiveKey, BigInt(counter), inner, NOTHING));
  return message.bytes;
};

const someCounter = (source: Source, session: Session): number => {
  const kind = source.between(0, 15);
  if (kind === 0) session.counter += source.pick([1, 2, 31, 32, 63, 8159, 8160, 8161, 2 ** 32]);
  else if (kind === 1)
    return Math.max(0, session.counter - source.pick([1, 2, 32, 8159, 8160, 8161, 8192, 9000]));
  else if (kind === 2 && source.chance(40)) return COUNTERS_END + source.pick([0, 1, 2 ** 20, -1]);
  session.counter += 1;
  return session.counter - 1;
};

/** What is inside of the next messages: a stream cut up, a keepalive, or a packet and what can be wrong in it. */
const someInner = (source: Source): Uint8Array[] => {
  const kind = source.between(0, 7);
  if (kind === 0) return [NOTHING];
  if (kind > 4) return [someBytes(source)];
  const flow = someHosts(source);
  const size = source.pick([1, 100, 1000, 1368]);
  const stream = buildSegments(flow, payload(size * source.between(1, 24), source.byte()), size);
  if (kind === 4) {
    const at = source.between(0, stream.length - 1);
    stream[at] = source.mutated(stream[at] ?? NOTHING, 1);
  }
  return stream;
};

/** Mostly to a multiple of 16, as WireGuard has it; less and more are to be taken, too. */
const padded = (source: Source, inner: Uint8Array): Uint8Array => {
  const kind = source.between(0, 15);
  const whole = inner.length === 0 ? 0 : Math.ceil(inner.length / 16) * 16;
  const out = new Uint8Array(kind === 0 ? inner.length : kind === 1 ? whole + source.between(0, 64) : whole);
  out.set(inner);
  return out;
};

const corrupt = (source: Source, message: Uint8Array): Uint8Array => {
  switch (source.between(0, 5)) {
    case 0: {
      const out = message.slice();
      out[out.length - 1] = (out.at(-1) ?? 0) ^ 1;
      return out;
    }
    case 1:
      return message.slice(0, source.between(1, message.length));
    case 2:
      return concat(message, source.some(20));
    case 3: {
      const out = message.slice();
      out.set(source.take(4), 4);
      return out;
    }
    default:
      return source.mutated(message, 3);
  }
};

const noMessage = (source: Source): Uint8Array => {
  const length = source.pick([1, 31, 32, 63, 64, 65, 92, 148, 149, source.between(1, 200)]);
  const bytes = source.take(length);
  bytes.set(Uint8Array.of(source.between(0, 5), 0, 0, source.pick([0, 0, 0, 1])).subarray(0, length));
  return bytes;
};

/** Datagrams as they arrive one after another, at most some forty. */
export const someDatagrams = (source: Source, sessions: readonly Session[]): Uint8Array[] => {
  const datagrams: Uint8Array[] = [];
  for (let n = source.between(1, 5); n > 0 && datagrams.length < 40; n--) {
    // The newest are the likeliest to be on.
    const session = source.chance(200) ? sessions.at(-1 - source.between(0, 2)) : pickOne(source, sessions);
    const kind = source.between(0, 15);
    if (session === undefined || kind === 0) datagrams.push(noMessage(source));
    else if (kind === 1 && session.sent.length > 0) datagrams.push(source.pick(session.sent));
    else {
      for (const inner of someInner(source)) {
        const message = seal(session, someCounter(source, session), padded(source, inner));
        session.sent.push(message);
        datagrams.push(source.chance(20) ? corrupt(source, message) : message);
      }
      if (source.chance(30)) swap(source, datagrams);
    }
  }
  return datagrams.filter(({ length }) => length > 0 && length <= LONGEST_PACKET + 100);
};

const pickOne = (source: Source, sessions: readonly Session[]): Session | undefined =>
  sessions.length === 0 ? undefined : source.pick(sessions);

const swap = (source: Source, datagrams: Uint8Array[]): void => {
  const [one, other] = [source.between(0, datagrams.length - 1), source.between(0, datagrams.length - 1)];
  const [a, b] = [datagrams[one], datagrams[other]];
  if (a === undefined || b === undefined) return;
  datagrams[one] = b;
  datagrams[other] = a;
};

/** As runs that the kernel can keep together: of one size, but for the last. */
export const inRuns = (datagrams: readonly Uint8Array[]): Uint8Array[][] => {
  const runs: Uint8Array[][] = [];
  let bytes = 0;
  for (const datagram of datagrams) {
    const run = runs.at(-1);
    const size = run?.[0]?.length ?? 0;
    const isOpen = run !== undefined && run.at(-1)?.length === size && run.length < 60;
    bytes += datagram.length;
    if (isOpen && datagram.length <= size && bytes <= 60_000) run.push(datagram);
    else {
      runs.push([datagram]);
      bytes = datagram.length;
    }
  }
  return runs;
};
