// What passes between the main thread and the workers, when more comes than can be looked at.

import { MessageChannel } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import type { Endpoint } from '../../../native-free/device/data-plane.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { Mailbox } from '../../../src/datapath/mailbox.ts';
import { Ring, type RingMemory } from '../../../src/datapath/ring.ts';
import { decodePath, encodePath, encodeSockaddr } from '../../../src/datapath/sockaddr.ts';
import { DATAGRAM_BYTES, DATAGRAM_PATH } from '../../../src/datapath/worker-protocol.ts';

const SOURCE = encodeSockaddr({ address: '192.0.2.9', port: 4000 });
const FLOOD = 20_000;

const first = ([memory]: readonly RingMemory[]): RingMemory => {
  if (memory === undefined) throw new Error('there is none');
  return memory;
};

test('a flood of handshake datagrams leaves turns for timers, and none that is in the ring is lost', async () => {
  let sent = 0;
  let received = 0;
  const mailbox = new Mailbox(
    {
      onEvent: () => {},
      onDeviceLost: () => {},
      onDatagram: () => {
        received++;
        send();
      },
    },
    { peer: () => undefined, device: () => undefined },
    1,
  );
  const ring = new Ring(first(mailbox.datagramMemories));
  const send = (): void => {
    if (sent === FLOOD) return;
    const entry = ring.reserve();
    ring.view.setUint32(entry, 148, true);
    ring.bytes.set(SOURCE, entry + DATAGRAM_PATH);
    ring.commit();
    sent++;
  };
  send();
  mailbox.drain();
  expect(received).toBeLessThan(FLOOD / 100);
  const inTime = await new Promise<number>((resolve) => setTimeout(() => resolve(received), 1));
  expect(inTime).toBeLessThan(FLOOD);
  while (received < FLOOD) await new Promise((resolve) => setImmediate(resolve));
  mailbox.close();
});

describe('a handshake datagram', () => {
  const OTHER = encodePath({ address: '2001:db8::9', port: 4001, local: '2001:db8::1' });
  type Heard = { datagram: Uint8Array; source: Endpoint; path: Uint8Array };

  /** What is in the ring, as a handler that drains again is told of it. */
  const told = (...entries: readonly (readonly [length: number, path: Uint8Array])[]): Heard[] => {
    const heard: Heard[] = [];
    let depth = 0;
    const mailbox: Mailbox = new Mailbox(
      {
        onEvent: () => {},
        onDeviceLost: () => {},
        onDatagram: (datagram, source) => {
          expect(depth++).toBe(0);
          mailbox.drain();
          heard.push({ datagram: datagram.slice(), source, path: mailbox.heard.encode(source).slice() });
          depth--;
        },
      },
      { peer: () => undefined, device: () => undefined },
      1,
    );
    const ring = new Ring(first(mailbox.datagramMemories));
    entries.forEach(([length, path], i) => {
      const entry = ring.reserve();
      ring.view.setUint32(entry, length, true);
      ring.bytes.set(path, entry + DATAGRAM_PATH);
      ring.bytes.fill(i + 1, entry + DATAGRAM_BYTES, entry + DATAGRAM_BYTES + length);
      ring.commit();
    });
    mailbox.drain();
    mailbox.close();
    return heard;
  };

  test('comes as it was sent, and its sender is answered by the path it came by', () => {
    const path = encodePath({ address: '192.0.2.9', port: 4000, local: '192.0.2.1' });
    expect(told([148, path], [92, OTHER], [64, path], [148, OTHER])).toEqual([
      { datagram: new Uint8Array(148).fill(1), source: decodePath(path), path },
      { datagram: new Uint8Array(92).fill(2), source: decodePath(OTHER), path: OTHER },
      { datagram: new Uint8Array(64).fill(3), source: decodePath(path), path },
      { datagram: new Uint8Array(148).fill(4), source: decodePath(OTHER), path: OTHER },
    ]);
  });

  test("of a length or from an address that there is not is nobody's", () => {
    expect(told([147, OTHER], [148, new Uint8Array(44)], [64, OTHER])).toHaveLength(1);
  });
});

test('a main thread that does not get to it is woken once, and again after it has looked', async () => {
  const { port1, port2 } = new MessageChannel();
  const mailbox = new Mailbox(
    { onEvent: () => {}, onDeviceLost: () => {}, onDatagram: () => {} },
    { peer: () => undefined, device: () => undefined },
    1,
  );
  const sink = new EventSink(first(mailbox.ingressMemories), port1);
  let messages = 0;
  port2.on('message', () => messages++);
  const arrived = async (): Promise<number> => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    return messages;
  };
  for (let i = 0; i < 1000; i++) {
    sink.wakeLater();
    sink.flush();
  }
  expect(await arrived()).toBe(1);
  mailbox.drain();
  sink.handshakeNeeded(0);
  sink.flush();
  expect(await arrived()).toBe(2);
  mailbox.close();
  port1.close();
});
