// Handshake messages on the ingress thread: mac1 says whose they are, and a flood of them uses up no more than its share.

import { MessageChannel } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MacKey } from '../../../native-free/noise/blake2s.ts';
import { Counters, createCounterMemory, INGRESS_COUNTERS } from '../../../src/datapath/counters.ts';
import { DeviceTable } from '../../../src/datapath/device-table.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import {
  CHECKS_PER_SECOND,
  HandshakeIntake,
  PASSED_PER_SECOND,
} from '../../../src/datapath/handshake-intake.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { encodePath, PATH_LENGTH } from '../../../src/datapath/sockaddr.ts';
import {
  DATAGRAM_BYTES,
  DATAGRAM_DEVICE,
  DATAGRAM_LENGTH,
  DATAGRAM_PATH,
  DATAGRAM_PRESSED,
  EVENT_LENGTH,
} from '../../../src/datapath/worker-protocol.ts';

const INITIATION = { type: 1, length: 148, mac1: 116 };
const RESPONSE = { type: 2, length: 92, mac1: 60 };
const MESSAGE = 256;
const MOST = 64;

let channel: MessageChannel;
let devices: DeviceTable;
let counters: Counters<(typeof INGRESS_COUNTERS)[number]>;
let ring: Ring;
let events: EventSink;
let bytes: Uint8Array;
let intake: HandshakeIntake;
let now: number;

const keyOf = (device: number): Uint8Array => new Uint8Array(32).fill(device + 1);
const count = (name: (typeof INGRESS_COUNTERS)[number]): number => counters.values[counters.at[name]] ?? 0;

const addDevice = (device: number, hasKey = true): void => {
  devices.apply({
    sequence: 1,
    change: { kind: 'add-device', device, fds: [-1], mtu: 1420, offload: 'none' },
  });
  if (hasKey)
    devices.apply({ sequence: 2, change: { kind: 'set-mac1-key', device, mac1Key: keyOf(device) } });
};

/** A message to `device`, or with a mac1 that is nobody's. */
const message = (device: number | undefined, { type, length, mac1 } = INITIATION): Uint8Array => {
  const made = new Uint8Array(length).fill(7);
  made.set([type, 0, 0, 0]);
  if (device !== undefined) made.set(new MacKey(keyOf(device)).mac(made.subarray(0, mac1)), mac1);
  return made;
};

const give = (datagrams: readonly Uint8Array[], address = '192.0.2.1'): void => {
  const path = encodePath({ address, port: 4000 });
  datagrams.forEach((datagram, i) => {
    bytes.set(datagram, i * MESSAGE);
    bytes.set(path, i * MESSAGE + MESSAGE - PATH_LENGTH);
    intake.keep(i * MESSAGE, datagram.length, i * MESSAGE + MESSAGE - PATH_LENGTH);
  });
  intake.work(now);
};

const flood = (datagram: Uint8Array, times: number, address?: (i: number) => string): void => {
  for (let i = 0; i < times; i++) give([datagram], address?.(i));
};

/** What main finds: whose it may be, and whether it is pressed. */
const take = (): { device: number; isPressed: boolean; bytes: Uint8Array; path: Uint8Array }[] => {
  const taken: ReturnType<typeof take> = [];
  for (let entry = ring.peek(); entry >= 0; entry = ring.peek()) {
    const at = entry + DATAGRAM_BYTES;
    taken.push({
      device: ring.view.getUint16(entry + DATAGRAM_DEVICE, true) - 1,
      isPressed: ring.view.getUint16(entry + DATAGRAM_PRESSED, true) !== 0,
      bytes: ring.bytes.slice(at, at + ring.view.getUint32(entry, true)),
      path: ring.bytes.slice(entry + DATAGRAM_PATH, entry + DATAGRAM_PATH + PATH_LENGTH),
    });
    ring.release();
  }
  return taken;
};

beforeEach(() => {
  channel = new MessageChannel();
  devices = new DeviceTable(0, undefined);
  counters = new Counters(INGRESS_COUNTERS, createCounterMemory(INGRESS_COUNTERS));
  ring = new Ring(createRing(DATAGRAM_LENGTH, 4096));
  bytes = new Uint8Array(MOST * MESSAGE);
  events = new EventSink(createRing(EVENT_LENGTH, 64), channel.port1);
  intake = new HandshakeIntake({ bytes, devices, counters, datagrams: ring, events, seed: 1 }, MOST);
  now = 1_000_000;
});
afterEach(() => channel.port1.close());

test('main is woken at once while there is room, and once for many while messages are pressed', () => {
  addDevice(0);
  give([message(0)]);
  expect(events.isWakePlanned).toBe(false);
  flood(message(0), 1000, (i) => `10.0.${i >> 8}.${i & 255}`);
  take();
  events.flush(now + 100);
  give([message(0)], '192.0.2.9');
  expect(take()).toMatchObject([{ isPressed: true }]);
  expect(events.patience(now)).toBe(5);
});

describe('of two networks', () => {
  beforeEach(() => {
    addDevice(0);
    addDevice(1);
  });

  test.each([INITIATION, RESPONSE])('each is told which message of type $type is its', (kind) => {
    give([message(1, kind), message(0, kind), message(1, kind)]);
    const taken = take();
    expect(taken.map(({ device }) => device)).toEqual([1, 0, 1]);
    expect(taken[0]?.bytes).toEqual(message(1, kind));
    expect(taken[0]?.path).toEqual(encodePath({ address: '192.0.2.1', port: 4000 }));
    expect(count('handshakes')).toBe(3);
  });

  test('neither hears what carries the mac1 of nobody, or of one that has gone', () => {
    devices.apply({ sequence: 3, change: { kind: 'remove-device', device: 1 } });
    give([message(undefined), message(1), message(undefined, RESPONSE), message(0)]);
    expect(take().map(({ device }) => device)).toEqual([0]);
    expect(count('dropped:bad-mac1')).toBe(3);
  });

  test('one whose key is not known yet may be meant by whatever is not for the other', () => {
    addDevice(2, false);
    give([message(undefined), message(1)]);
    expect(take().map(({ device }) => device)).toEqual([-1, 1]);
  });

  test('any may be meant by a cookie reply, which has no mac1', () => {
    give([message(undefined, { type: 3, length: 64, mac1: 0 })]);
    expect(take().map(({ device }) => device)).toEqual([-1]);
  });
});

test('what comes while nobody is on the port is for nobody', () => {
  give([message(0)]);
  expect(take()).toEqual([]);
  expect(count('dropped:bad-mac1')).toBe(1);
});

describe('under a flood', () => {
  beforeEach(() => addDevice(0));

  test('of bad macs, no more are checked than may be, and another address is still heard', () => {
    flood(message(undefined), 3 * CHECKS_PER_SECOND);
    const checked = count('dropped:bad-mac1');
    expect(checked).toBeLessThan(CHECKS_PER_SECOND);
    expect(checked + count('dropped:flooded')).toBe(3 * CHECKS_PER_SECOND);
    give([message(0)], '198.51.100.7');
    expect(take()).toHaveLength(1);
  });

  test('of good ones from one address, a part of all that may be is passed on and soon says so, and others are still heard', () => {
    for (const end = now + 1000; now < end; now += 10) flood(message(0), 400);
    const passed = take();
    expect(passed.length).toBeGreaterThan(PASSED_PER_SECOND / 4);
    expect(passed.length).toBeLessThan(PASSED_PER_SECOND / 2);
    expect(passed[0]?.isPressed).toBe(false);
    expect(passed.slice(512).every(({ isPressed }) => isPressed)).toBe(true);
    give([message(0), message(0, RESPONSE)], '2001:db8::1');
    expect(take()).toHaveLength(2);
  });

  test('of good ones from many addresses, all that may be is passed on, and no more', () => {
    for (const end = now + 1000; now < end; now += 10)
      flood(message(0), 400, (i) => `10.0.${i % 40}.${(now / 10) % 100}`);
    const passed = take().length;
    expect(passed).toBeGreaterThan(PASSED_PER_SECOND * 0.9);
    expect(passed).toBeLessThan(PASSED_PER_SECOND * 1.5);
  });

  test('from everywhere, it is bounded too', () => {
    const from = (i: number): string => `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;
    flood(message(0), 4 * PASSED_PER_SECOND, from);
    expect(take().length).toBeLessThanOrEqual(1024);
    expect(count('dropped:flooded')).toBeGreaterThan(0);
  });

  test('addresses of one /64 are one', () => {
    flood(message(0), PASSED_PER_SECOND, (i) => `2001:db8::${i.toString(16)}`);
    expect(take().length).toBeLessThan(1024);
    give([message(0)], '2001:db8:1::1');
    expect(take()).toHaveLength(1);
  });

  test('it is all as before a second later', () => {
    flood(message(0), 4 * PASSED_PER_SECOND);
    take();
    now += 1000;
    flood(message(0), 200);
    const taken = take();
    expect(taken).toHaveLength(200);
    expect(taken.some(({ isPressed }) => isPressed)).toBe(false);
  });
});

test('a network among many is found at once where it was spoken to before', () => {
  const networks = 50;
  for (let device = 0; device < networks; device++) addDevice(device);
  // Tried with all of them, 450 would be more checks than there are at once.
  flood(message(networks - 1), 450, (i) => `192.0.2.${i % 8}`);
  expect(take()).toHaveLength(450);
});

test('more at once than there is room for is dropped', () => {
  addDevice(0);
  for (let i = 0; i < MOST + 1; i++) intake.keep(0, 148, 200);
  expect(count('dropped:queue-full')).toBe(1);
});
