// What passes between the main thread and the workers, when more comes than can be looked at.

import { MessageChannel } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { Mailbox } from '../../../src/datapath/mailbox.ts';
import { Ring, type RingMemory } from '../../../src/datapath/ring.ts';
import { encodeSockaddr } from '../../../src/datapath/sockaddr.ts';
import { DATAGRAM_PATH } from '../../../src/datapath/worker-protocol.ts';

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
