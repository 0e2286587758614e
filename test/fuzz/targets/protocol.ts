// The protocol: two hosts and an attacker who sees, changes, delays and replays all that is on the wire; and the
// reference's packet path with messages that are authentic but odd.

import { AllowedIps } from '../../../native-free/device/allowed-ips.ts';
import type { Endpoint } from '../../../native-free/device/data-plane.ts';
import { receiveTransport } from '../../../native-free/device/inbound.ts';
import { paddedLength, sendPacket } from '../../../native-free/device/outbound.ts';
import { ReferenceDataPlane } from '../../../native-free/device/reference-data-plane.ts';
import { addressFromBytes, parsePrefix, prefixContains } from '../../../native-free/ipam/prefix.ts';
import { COOKIE_REPLY_TYPE, messageType, Transport } from '../../../native-free/wire/message.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { ALICE, BOB, EVE, type Host, Lab } from '../../native-free/device/lab.ts';
import { somePacket } from '../packets.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, pure } from '../target.ts';

const UNDER_LOAD = 600;
const MOST_INDICES_A_PEER = 5;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What of a message its receiver can authenticate: mac2 ends handshake messages and means something under load only. */
const authenticPart = (datagram: Uint8Array): string => {
  const type = messageType(datagram);
  return hex(type === 1 || type === 2 ? datagram.subarray(0, datagram.length - 16) : datagram);
};

/** Two hosts that know each other, and what each was really sent. */
class Scene {
  readonly lab: Lab;
  readonly alice: Host;
  readonly bob: Host;
  readonly eve: Host;
  /** Whether the two can have a session at all. */
  readonly isPossible: boolean;
  readonly #sent = new Map<Host, Set<string>>();
  #texts = 0;

  constructor(source: Source) {
    this.lab = new Lab(source.byte());
    this.alice = this.lab.host(ALICE);
    this.bob = this.lab.host(BOB);
    this.eve = this.lab.host(EVE);
    const kind = source.between(0, 15);
    this.isPossible = kind !== 0;
    const psk = kind < 3 ? { presharedKey: source.take(32) } : {};
    this.alice.knows(this.bob, psk);
    this.bob.knows(this.alice, kind === 0 ? { presharedKey: new Uint8Array(32).fill(0xa5) } : psk);
    // Eve knows both; neither knows her.
    this.eve.knows(this.alice);
    this.eve.knows(this.bob);
    this.#sent.set(this.alice, new Set());
    this.#sent.set(this.bob, new Set());
  }

  other(host: Host): Host {
    return host === this.alice ? this.bob : this.alice;
  }

  send(from: Host): void {
    const to = this.other(from);
    const text = `${from.inside} says ${this.#texts++}`;
    this.#sent.get(to)?.add(text);
    from.send(to, text);
  }

  /** Each text comes out at most once, and none that was not sent. True when one came to each. */
  check(): { alice: number; bob: number } {
    const count = (host: Host): number => {
      const texts = host.received();
      for (const text of texts)
        must(this.#sent.get(host)?.delete(text) === true, () => `${host.inside} got "${text}"`);
      return texts.length;
    };
    mustEqual(this.eve.received(), [], 'what eve got');
    for (const host of [this.alice, this.bob]) {
      mustEqual(host.tunnel.device.peerIds.length, 1, 'how many peers');
      must(host.port.indices.size <= MOST_INDICES_A_PEER, () => `${host.port.indices.size} indices are held`);
    }
    if (!this.isPossible)
      for (const host of [this.alice, this.bob])
        must(host.statusOf(this.other(host)).keypair === undefined, 'a session with another preshared key');
    return { alice: count(this.alice), bob: count(this.bob) };
  }

  endpoints(): string {
    return [this.alice, this.bob]
      .map((host) => JSON.stringify(host.statusOf(this.other(host)).endpoint))
      .join();
  }
}

/** Hands `host` a datagram that may never have been sent; what is not authentic moves no endpoint. */
const inject = (scene: Scene, source: Source, host: Host): void => {
  const { lab } = scene;
  const known = lab.wire.length > 0 && source.chance(230) ? source.pick(lab.wire).bytes : source.some(160);
  const datagram = source.mutated(known, 3);
  const from = source.pick<Endpoint>([
    EVE.endpoint,
    scene.other(host).endpoint,
    { address: '2001:db8::1', port: source.u16() },
  ]);
  const genuine = lab.wire.some(
    (one) => one.source !== EVE.endpoint && authenticPart(one.bytes) === authenticPart(datagram),
  );
  const before = scene.endpoints();
  const session = host.statusOf(scene.other(host)).keypair?.createdAt;
  host.tunnel.fromOutside(datagram, from, host.time, source.pick([0, 0, 0, UNDER_LOAD]));
  if (genuine && messageType(datagram) !== COOKIE_REPLY_TYPE) return;
  mustEqual(scene.endpoints(), before, 'the endpoints after what nobody sent');
  mustEqual(
    host.statusOf(scene.other(host)).keypair?.createdAt,
    session,
    'the session after what nobody sent',
  );
};

const fuzzHandshakes = (source: Source): void => {
  const scene = new Scene(source);
  const { lab, alice, bob, eve } = scene;
  for (let n = 0; n < 60 && !source.isEmpty; n++) {
    const host = source.pick([alice, bob]);
    const action = source.between(0, 15);
    if (action < 3) scene.send(host);
    else if (action < 6) lab.run(source.pick([5, 20, 50, 300, 1000, 5100]));
    else if (action < 11) inject(scene, source, host);
    else if (action === 11) {
      const lost = source.byte();
      lab.passes = (one) => ((one.bytes[4] ?? 0) ^ one.bytes.length ^ lab.wire.length) % 256 >= lost;
    } else if (action === 12) lab.passes = () => true;
    else if (action === 13) eve.send(host, 'let me in');
    else if (action === 14) host.clockOffset += (source.u16() - 0x8000) * 1000;
    else lab.run(source.pick([11_000, 16_000, 61_000, 121_000, 181_000]));
    scene.check();
  }
  if (!scene.isPossible) return;
  // Whatever happened: once the wire is whole again, traffic flows within the time that a handshake is tried for.
  lab.passes = () => true;
  const heard = { alice: 0, bob: 0 };
  for (let n = 0; n < 40 && (heard.alice === 0 || heard.bob === 0); n++) {
    scene.send(alice);
    scene.send(bob);
    lab.run(5000);
    const { alice: toAlice, bob: toBob } = scene.check();
    heard.alice += toAlice;
    heard.bob += toBob;
  }
  must(heard.alice > 0 && heard.bob > 0, 'no traffic after 200 s on a wire that is whole');
};

const PEERS = { a: '10.0.0.0/8', b: '10.60.0.0/16', c: 'fd00::/8' } as const;
const HOME: Endpoint = { address: '192.0.2.1', port: 1 };

const fuzzDataPlane = (source: Source): void => {
  const allowedIps = new AllowedIps<string>();
  for (const [peer, prefix] of Object.entries(PEERS)) allowedIps.insert(parsePrefix(prefix), peer);
  const delivered: Uint8Array[] = [];
  const sent: Uint8Array[] = [];
  const mtu = source.pick([1280, 1420, 9000]);
  const plane = new ReferenceDataPlane(mtu, {
    primitives: opensslPrimitives,
    allowedIps,
    inside: { deliver: (packet) => delivered.push(packet) },
    outside: { send: (datagram) => sent.push(datagram) },
    report: () => undefined,
  });
  const key = new Uint8Array(32).fill(7);
  for (const [i, peer] of Object.keys(PEERS).entries()) {
    const keypair = {
      localIndex: i,
      remoteIndex: 0xfffffff0 + i,
      sendKey: key,
      receiveKey: key,
      isInitiator: true,
      createdAt: 0,
    };
    plane.carryOut({ kind: 'set-endpoint', peer, endpoint: HOME }, 0);
    plane.carryOut({ kind: 'install-keypair', peer, keypair }, 0);
    plane.carryOut({ kind: 'use-keypair', peer, localIndex: i }, 0);
  }
  const longest = (address: Uint8Array): string | undefined =>
    Object.entries(PEERS)
      .map(([peer, prefix]) => ({ peer, prefix: parsePrefix(prefix) }))
      .filter(({ prefix }) => prefixContains(prefix, addressFromBytes(address)))
      .sort((one, other) => other.prefix.length - one.prefix.length)[0]?.peer;
  const counters = new Set<string>();
  const next: Record<string, number> = { a: 0, b: 0, c: 0 };
  while (!source.isEmpty) {
    const packet = source.mutated(somePacket(source, 1500), 4);
    const version = (packet[0] ?? 0) >> 4;
    const addressLength = version === 4 ? 4 : 16;
    const at = version === 4 ? 12 : 8;
    const total =
      version === 4
        ? ((packet[2] ?? 0) << 8) | (packet[3] ?? 0)
        : 40 + (((packet[4] ?? 0) << 8) | (packet[5] ?? 0));
    const headerLength = version === 4 ? ((packet[0] ?? 0) & 15) * 4 : 40;
    const isSound =
      (version === 4 || version === 6) &&
      packet.length >= 20 &&
      headerLength >= 20 &&
      total >= headerLength &&
      total <= packet.length;
    if (source.chance(128)) {
      const reason = sendPacket(plane, packet, 0);
      const peer = isSound ? longest(packet.subarray(at + addressLength, at + 2 * addressLength)) : undefined;
      mustEqual(
        reason,
        isSound ? (peer === undefined ? 'no-peer' : undefined) : 'malformed-packet',
        'why it was not sent',
      );
      mustEqual(sent.length, peer === undefined ? 0 : 1, 'how many were sent');
      const message = sent.pop();
      if (message === undefined || peer === undefined) continue;
      const transport = Transport.parse(message);
      must(transport !== undefined, 'it sends what is no transport data');
      const counter = next[peer] ?? 0;
      next[peer] = counter + 1;
      mustEqual([transport.counterHigh, transport.counterLow], [0, counter], 'the counter');
      const opened = opensslPrimitives.open(key, BigInt(counter), transport.sealedPacket, new Uint8Array(0));
      must(opened !== undefined, 'it sends what does not open');
      mustEqual(opened.subarray(0, total), packet.subarray(0, total), 'what was sealed');
      mustEqual(opened.length, paddedLength(total, mtu), 'the padded length');
      must(
        opened.subarray(total).every((byte) => byte === 0),
        'padding that is not zero',
      );
      continue;
    }
    const index = source.between(0, 3);
    const counter = source.pick([0, 1, 2, 8160, 8161, 2 ** 32, 2 ** 53 - 1, source.u16()]);
    const message = Transport.create(index, counter, packet.length + 16);
    message.sealedPacket.set(opensslPrimitives.seal(key, BigInt(counter), packet, new Uint8Array(0)));
    const isForged = source.chance(60);
    const datagram = isForged ? source.mutated(message.bytes, 2) : message.bytes;
    const isIntact = hex(datagram) === hex(message.bytes);
    const reason = receiveTransport(plane, datagram, HOME, 0, source.between(0, 3));
    const peer = (['a', 'b', 'c'] as const)[index];
    if (!isIntact) {
      must(reason !== undefined, 'a forged message was taken');
      mustEqual(delivered.length, 0, 'what was delivered of a forgery');
      continue;
    }
    if (peer === undefined) mustEqual(reason, 'unknown-index', 'the reason');
    else if (reason !== 'replayed-counter') {
      const name = `${index} ${counter}`;
      must(!counters.has(name), 'a counter was taken twice');
      counters.add(name);
      if (packet.length === 0) mustEqual(reason, undefined, 'a keepalive');
      else if (!isSound) mustEqual(reason, 'malformed-packet', 'the reason');
      else if (longest(packet.subarray(at, at + addressLength)) !== peer)
        mustEqual(reason, 'wrong-source', 'the reason');
      else must(reason === undefined || reason === 'congested', () => `dropped: ${reason}`);
    }
    const isDelivered = reason === undefined && packet.length > 0;
    mustEqual(delivered.length, isDelivered ? 1 : 0, 'how many were delivered');
    const inner = delivered.pop();
    if (inner !== undefined) mustEqual(inner.subarray(12), packet.subarray(12, total), 'what was delivered');
  }
};

export const protocolTargets = [
  pure(
    'handshake',
    'no datagram breaks a device, takes a session over, moves an endpoint or stops traffic for good',
    500,
    fuzzHandshakes,
  ),
  pure(
    'data-plane',
    'the reference takes what is authentic, new and from its peer, and sends what opens',
    500,
    fuzzDataPlane,
  ),
];
