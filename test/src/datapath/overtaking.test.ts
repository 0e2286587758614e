// What egress reads ahead, and in which order it seals that, with a line of local sockets for a TUN.

import { expect, test } from 'vitest';
import { type Aead, createAead } from '../../../src/datapath/aead.ts';
import { Egress } from '../../../src/datapath/egress.ts';
import { EGRESS_ARENA } from '../../../src/datapath/loops.ts';
import { rounds } from '../../../src/datapath/warm-up-packets.ts';
import { Sandbox } from '../../../src/datapath/warm-up-sandbox.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { egressParts, workerOptions } from './sandboxed-egress.ts';

const IPV4_PROTOCOL = 9;
const TCP = 6;
const ICMP = 1;
/** From the IPv4 header on. */
const TCP_SOURCE_PORT = 20;
const TCP_SEQUENCE = 20 + 4;

/** Of the warm-up's: a TCP super-packet of 27 KB and a ping. */
const [bulk, ping] = ((): [Uint8Array, Uint8Array] => {
  const [round = []] = rounds();
  const of = (protocol: number): Uint8Array => {
    const found = round.find((packet) => packet[10] === 0x45 && packet[10 + IPV4_PROTOCOL] === protocol);
    if (found === undefined) throw new Error(`the warm-up has no packet of protocol ${protocol}`);
    return found;
  };
  return [of(TCP), of(ICMP)];
})();

/** The n-th of the stream. */
const bulkPacket = (n: number): Uint8Array => {
  const packet = new Uint8Array(bulk);
  const view = new DataView(packet.buffer);
  // Of another flow than the ping, whose addresses are the same.
  view.setUint16(10 + TCP_SOURCE_PORT, 5201);
  view.setUint32(10 + TCP_SEQUENCE, n * bulk.length);
  return packet;
};

/** Has an egress seal what lies in its TUN; what it sealed, in order: of each packet of the stream its number, and 'ping'. */
const sealAll = (packets: readonly Uint8Array[], marksSparse: boolean): (number | 'ping')[] => {
  const sealed: (number | 'ping')[] = [];
  using sandbox = new Sandbox(workerOptions('egress', marksSparse));
  const arena = new Arena(EGRESS_ARENA, true);
  const aead = createAead(arena);
  const watched: Aead = {
    tier: aead.tier,
    open: (...of) => aead.open(...of),
    seal: (key, counter, from, ...of) => {
      const isPing = arena.bytes[from + IPV4_PROTOCOL] === ICMP;
      const place = isPing ? 'ping' : Math.floor(arena.view.getUint32(from + TCP_SEQUENCE) / bulk.length);
      if (sealed.at(-1) !== place) sealed.push(place);
      aead.seal(key, counter, from, ...of);
    },
  };
  const egress = new Egress(egressParts(arena, sandbox.options, watched));
  sandbox.vary(0);
  egress.configure();
  for (const packet of packets) expect(sandbox.sendFromInside(packet)).toBe(true);
  // Once to read them, and as often as it takes to seal all.
  for (const _ of packets) egress.turn(0);
  arena.unmap();
  return sealed;
};

const stream = [0, 1, 2, 3];

test('a ping behind bulk in the TUN leaves before it, and the bulk in its order', () => {
  // The first is on its way before it is known that it is not alone.
  expect(sealAll([...stream.map(bulkPacket), ping], true)).toEqual([0, 'ping', 1, 2, 3]);
});

test('several pings stay in their order, and each passes the bulk before it', () => {
  const packets = [bulkPacket(0), bulkPacket(1), ping, bulkPacket(2), ping, bulkPacket(3)];
  expect(sealAll(packets, true)).toEqual([0, 'ping', 1, 2, 3]);
});

test('without sparse flows first all leave as they came', () => {
  expect(sealAll([...stream.map(bulkPacket), ping], false)).toEqual([0, 1, 2, 3, 'ping']);
});
