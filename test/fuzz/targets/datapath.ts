// The datapath's structures without its threads: rings, the table of receiver indices, the mailbox, socket addresses,
// and the whole of ingress with a file for its TUN, against the reference data plane.

import { KeypairSlots } from '../../../src/datapath/keypair-slots.ts';
import { Mailbox } from '../../../src/datapath/mailbox.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSegmentRing, SegmentRing } from '../../../src/datapath/segment-ring.ts';
import { createSharedMemory, NO_SLOT, SharedState } from '../../../src/datapath/shared-state.ts';
import { decodeSockaddr, encodeSockaddr } from '../../../src/datapath/sockaddr.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, pure } from '../target.ts';
import { ingressTarget } from './ingress.ts';

const fuzzRing = (source: Source): void => {
  const capacity = source.pick([1, 2, 8]);
  const memory = createRing(8, capacity);
  const [producer, consumer] = [new Ring(memory), new Ring(memory)];
  const positions = new Int32Array(memory.buffer);
  // As after many entries: positions wrap.
  const start = source.pick([0, -1, 0x7fffffff, -0x80000000]);
  positions[0] = start;
  positions[16] = start;
  const queue: number[] = [];
  let isDue = false;
  while (!source.isEmpty) {
    const action = source.between(0, 3);
    if (action === 0) {
      const entry = producer.reserve();
      mustEqual(entry >= 0, queue.length < capacity, 'whether there is room');
      if (entry < 0) continue;
      const value = source.byte();
      producer.view.setUint32(entry, value);
      producer.commit();
      queue.push(value);
    } else if (action === 1) {
      const entry = consumer.peek();
      mustEqual(entry >= 0, queue.length > 0, 'whether something waits');
      if (entry < 0) continue;
      mustEqual(consumer.view.getUint32(entry), queue.shift(), 'the oldest entry');
      consumer.release();
    } else if (action === 2) {
      mustEqual(producer.claimWakeUp(), !isDue, 'whether to wake');
      isDue = true;
    } else {
      consumer.clearWakeUp();
      isDue = false;
    }
    mustEqual(consumer.length, queue.length, 'how many wait');
  }
};

const fuzzSegmentRing = (source: Source): void => {
  const memory = createSegmentRing();
  const [giver, taker] = [new SegmentRing(memory), new SegmentRing(memory)];
  const waiting: { readonly bytes: Uint8Array; readonly trafficClass: number }[] = [];
  const taken = new Uint8Array(64 + 65_536);
  while (!source.isEmpty) {
    if (source.chance(140)) {
      const bytes = new Uint8Array(64 + source.pick([0, 1, 60, 1500, 9000, 65_535])).fill(
        source.between(0, 255),
      );
      const length = bytes.length - 64;
      const trafficClass = source.between(0, 255);
      if (giver.push(bytes, 64, length, 0, trafficClass)) waiting.push({ bytes, trafficClass });
      else must(waiting.length > 0, 'an empty ring has no room');
      continue;
    }
    const next = waiting.shift();
    mustEqual(taker.take(taken, 64, 0), next !== undefined, 'whether something waits');
    if (next === undefined) continue;
    mustEqual(taker.trafficClass, next.trafficClass, 'the traffic class');
    mustEqual(Buffer.compare(taken.subarray(64, 64 + taker.length), next.bytes.subarray(64)), 0, 'the bytes');
    mustEqual(Buffer.compare(taken.subarray(0, 44), next.bytes.subarray(0, 44)), 0, 'the path');
  }
};

const fuzzKeypairTable = (source: Source): void => {
  const state = new SharedState(createSharedMemory(4, 8));
  const slots = new KeypairSlots(state);
  const model = new Map<number, { peer: number; remoteIndex: number }>();
  for (let peer = 0; peer < 4; peer++) state.initPeer(peer, 0);
  while (!source.isEmpty) {
    // Few indices, whose places in the table collide.
    const localIndex = source.pick([0, 1, 31, 32, 33, 64, 0xffffffff, 0xffffffe0, 0x80000000]);
    const peer = source.between(0, 3);
    const action = source.between(0, 4);
    if (action < 2 && (model.size < 8 || model.has(localIndex))) {
      const remoteIndex = source.u32();
      const key = source.take(32);
      slots.install(peer, {
        localIndex,
        remoteIndex,
        sendKey: key,
        receiveKey: key,
        isInitiator: true,
        createdAt: 1,
      });
      model.set(localIndex, { peer, remoteIndex });
    } else if (action === 2) {
      slots.remove(localIndex);
      model.delete(localIndex);
    } else if (action === 3) {
      slots.removeAllOf(peer);
      for (const [index, one] of model) if (one.peer === peer) model.delete(index);
    } else {
      slots.reap();
    }
    for (const index of [0, 1, 31, 32, 33, 64, 0xffffffff, 0xffffffe0, 0x80000000, source.u32()]) {
      const slot = state.findKeypair(index);
      const expected = model.get(index);
      if (expected === undefined) mustEqual(slot, NO_SLOT, `the slot of ${index}`);
      else {
        must(slot !== NO_SLOT, () => `${index} is lost`);
        mustEqual(
          [state.peerOf(slot), state.remoteIndexOf(slot)],
          [expected.peer, expected.remoteIndex],
          'the keypair',
        );
      }
    }
  }
};

const fuzzSockaddr = (source: Source): void => {
  const bytes = source.take(28);
  bytes.set(
    source.pick([
      [2, 0],
      [10, 0],
      [0, 0],
      [source.byte(), source.byte()],
    ]),
    0,
  );
  // No interface of this machine has such a number, so it stays a number.
  if (source.chance(200)) bytes.fill(0, 24, 28);
  else bytes[27] = 0x7f;
  const endpoint = decodeSockaddr(bytes);
  const family = (bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8);
  must((endpoint !== undefined) === (family === 2 || family === 10), 'an endpoint of another family');
  if (endpoint === undefined) return;
  const again = decodeSockaddr(encodeSockaddr(endpoint));
  mustEqual(again, endpoint, 'the endpoint there and back');
};

const fuzzMailbox = (source: Source): void => {
  let told = 0;
  const mailbox = new Mailbox(
    {
      onEvent: (_, event) => {
        must(
          event.peer === 'p' &&
            ['handshake-needed', 'keypair-confirmed', 'endpoint-moved'].includes(event.kind),
          'an event that is none',
        );
        told++;
      },
      onDatagram: (datagram, endpoint, waiting) => {
        must(
          datagram.length <= 148 && endpoint.address.length > 0 && waiting >= 0,
          'a datagram that is none',
        );
        told++;
      },
      onDeviceLost: (id) => {
        mustEqual(id, 'd', 'the device');
        told++;
      },
    },
    {
      peer: (slot) => (slot === 1 ? { slot, deviceId: 'd', peerId: 'p' } : undefined),
      device: (number) => (number === 1 ? 'd' : undefined),
    },
    2,
  );
  const datagrams = mailbox.datagramMemories;
  const memories = [...mailbox.ingressMemories, ...mailbox.egressMemories, ...datagrams];
  let entries = 0;
  while (!source.isEmpty && entries < 100) {
    const memory = source.pick(memories);
    const ring = new Ring(memory);
    const entry = ring.reserve();
    must(entry >= 0, 'the ring is full');
    ring.bytes.set(source.take(memory.entryLength), entry);
    ring.view.setUint32(
      entry,
      datagrams.includes(memory) ? source.pick([64, 92, 148, source.between(0, 148)]) : source.between(0, 6),
      true,
    );
    if (source.chance(128)) ring.view.setInt32(entry + 4, datagrams.includes(memory) ? 2 : 1, true);
    ring.commit();
    entries++;
    if (source.chance(60)) mailbox.drain();
  }
  for (let n = 0; n < 8; n++) mailbox.drain();
  mailbox.close();
  must(told <= entries, 'more was told than entries were');
  for (const memory of memories) mustEqual(new Ring(memory).length, 0, 'what was left');
};

export const datapathTargets = [
  pure('ring', 'a ring is a queue', 200, fuzzRing),
  pure('segment-ring', 'datagrams come out of a ring as they went in', 100, fuzzSegmentRing),
  pure('keypair-table', 'every installed receiver index is found, and no other', 400, fuzzKeypairTable),
  pure('sockaddr', 'socket addresses go there and back', 40, fuzzSockaddr),
  pure('mailbox', 'no entry of a ring breaks the main thread', 600, fuzzMailbox),
  ingressTarget,
];
