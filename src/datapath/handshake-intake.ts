// Handshake messages (types 1 to 3) on the ingress thread, where junk costs least: they are looked at after the data they came
// with, and only what carries the mac1 of a network here goes on to the main thread. Anyone can send them, so there is only
// so much work a second in them: for mac1 checks and for what is passed on, and half of either is kept from sources that
// have had their share. What goes beyond is dropped and counted. Whether a session comes of a message is the device's to decide.
//
//   keep    notes where a message lies; it stays there until the next receive
//   work    1. its source has not had its share        3. main can take one more
//           2. mac1, by the likeliest network first    4. into the ring, with the network, for main to try first
//
// Nothing here allocates per message.

import {
  COOKIE_REPLY_TYPE,
  INITIATION_MAC1_OFFSET,
  INITIATION_TYPE,
  RESPONSE_MAC1_OFFSET,
} from '../../native-free/wire/message.ts';
import type { Counters, IngressCounter } from './counters.ts';
import type { DeviceTable, WorkerDevice } from './device-table.ts';
import type { EventSink } from './event-sink.ts';
import type { Ring } from './ring.ts';
import { AF_INET, PATH_LENGTH } from './sockaddr.ts';
import { DATAGRAM_BYTES, DATAGRAM_DEVICE, DATAGRAM_PATH, DATAGRAM_PRESSED } from './worker-protocol.ts';

/** A check takes a microsecond, so this is a tenth of a core. */
export const CHECKS_PER_SECOND = 100_000;
const CHECKS_BURST = 20_000;
/** Main answers some 5000 initiations a second, and more than ten times as many by cookies. */
export const PASSED_PER_SECOND = 4096;
const PASSED_BURST = 1024;
/** Of the checks and of what is passed on, what addresses may use that fall into the same of so many places. */
const SOURCE_SHARE = 1 / 8;
const SOURCES = 1024;

const KEPT_FIELDS = 3;
/** With less than this left, messages have to show where they come from, */
const PRESSED = 3 / 4;
/** and with less than this, their source must have some of its share left. */
const TIGHT = 1 / 2;
/**
 * What is passed on for a source that has had its share, while messages are pressed, counts as so many: it is a flood, or a
 * large site behind one address, which is heard a little later. Each pass costs main some 10 us for a cookie, or 200 for a handshake.
 */
const BEYOND_SHARE = 4;
/** While messages are pressed, main is woken once for all that come within so long: waking it costs as much as several cookies. */
const TOGETHER_MS = 5;

export interface IntakeParts {
  /** Where the messages and their sources are. */
  readonly bytes: Uint8Array;
  readonly devices: DeviceTable;
  readonly counters: Counters<IngressCounter>;
  readonly datagrams: Ring;
  readonly events: EventSink;
  /** So that nobody can choose addresses that share a place with somebody else's. */
  readonly seed: number;
}

export class HandshakeIntake {
  readonly #parts: IntakeParts;
  /** Of each message: where it is, its length, and where its source is. */
  readonly #kept: Int32Array;
  #count = 0;
  #now = 0;
  #checks = CHECKS_BURST;
  #passes = PASSED_BURST;
  /** By place of the source: what it has left, when that was so, and the number + 1 of the device it spoke to. */
  readonly #left = new Float64Array(SOURCES).fill(CHECKS_BURST * SOURCE_SHARE);
  readonly #leftAt = new Float64Array(SOURCES);
  readonly #deviceOf = new Int32Array(SOURCES);
  /** What the last check cost. */
  #cost = 0;

  /** `most`: how many messages may be kept until they are worked off. */
  constructor(parts: IntakeParts, most: number) {
    this.#parts = parts;
    this.#kept = new Int32Array(most * KEPT_FIELDS);
  }

  /** A message of type 1 to 3 and of the right length. `at` and `source` (a path) are offsets in the bytes. */
  keep(at: number, length: number, source: number): void {
    const kept = this.#kept;
    const i = this.#count * KEPT_FIELDS;
    if (i === kept.length) {
      this.#drop('dropped:queue-full');
      return;
    }
    kept[i] = at;
    kept[i + 1] = length;
    kept[i + 2] = source;
    this.#count += 1;
  }

  /** Looks at all that was kept. `now` is in milliseconds. */
  work(now: number): void {
    if (this.#count === 0) return;
    this.#refill(now);
    const kept = this.#kept;
    for (let i = 0; i < this.#count * KEPT_FIELDS; i += KEPT_FIELDS)
      this.#look(kept[i] ?? 0, kept[i + 1] ?? 0, kept[i + 2] ?? 0);
    this.#count = 0;
  }

  #refill(now: number): void {
    const seconds = Math.max(0, now - this.#now) / 1000;
    this.#checks = Math.min(CHECKS_BURST, this.#checks + seconds * CHECKS_PER_SECOND);
    this.#passes = Math.min(PASSED_BURST, this.#passes + seconds * PASSED_PER_SECOND);
    this.#now = now;
  }

  #look(at: number, length: number, source: number): void {
    const place = this.#placeOf(source);
    const left = this.#leftOf(place);
    const isTight = this.#checks < CHECKS_BURST * TIGHT || this.#passes < PASSED_BURST * TIGHT;
    if ((isTight && left <= 0) || this.#checks <= 0 || this.#passes < 1) {
      this.#drop('dropped:flooded');
      return;
    }
    const device = this.#deviceFor(at, place);
    // A pass is so much dearer than a check as there may be fewer.
    const price = this.#cost + (device < 0 ? 0 : CHECKS_PER_SECOND / PASSED_PER_SECOND);
    this.#checks -= this.#cost;
    this.#left[place] = Math.max(0, left - price);
    if (device < 0) {
      this.#drop('dropped:bad-mac1');
      return;
    }
    const isPressed = this.#passes < PASSED_BURST * PRESSED;
    this.#pass(at, length, source, device, isPressed && left <= 0 ? BEYOND_SHARE : 1);
  }

  /** The number + 1 of the device whose mac1 it carries; 0: cannot be told here; -1: nobody's. */
  #deviceFor(at: number, place: number): number {
    const { bytes, devices } = this.#parts;
    const type = bytes[at] ?? 0;
    this.#cost = 1;
    if (type === COOKIE_REPLY_TYPE) return 0;
    const length = type === INITIATION_TYPE ? INITIATION_MAC1_OFFSET : RESPONSE_MAC1_OFFSET;
    const known = this.#deviceOf[place] ?? 0;
    const likely = known === 0 ? undefined : devices.get(known - 1);
    if (likely !== undefined && this.#verifies(likely, at, length)) return known;
    let isUnsure = false;
    for (const device of devices.all) {
      if (device === likely) continue;
      if (device.mac1Key === undefined) isUnsure = true;
      else {
        this.#cost += 1;
        if (this.#verifies(device, at, length)) {
          this.#deviceOf[place] = device.device + 1;
          return device.device + 1;
        }
      }
    }
    return isUnsure ? 0 : -1;
  }

  #verifies(device: WorkerDevice, at: number, length: number): boolean {
    return device.mac1Key?.verify(this.#parts.bytes, at, length, at + length) ?? false;
  }

  #pass(at: number, length: number, source: number, device: number, price: number): void {
    const { bytes, datagrams, events, counters } = this.#parts;
    const entry = datagrams.reserve();
    if (entry < 0) {
      this.#drop('dropped:queue-full');
      return;
    }
    this.#passes -= price;
    const to = datagrams.bytes;
    datagrams.view.setUint32(entry, length, true);
    for (let i = 0; i < PATH_LENGTH; i++) to[entry + DATAGRAM_PATH + i] = bytes[source + i] ?? 0;
    for (let i = 0; i < length; i++) to[entry + DATAGRAM_BYTES + i] = bytes[at + i] ?? 0;
    datagrams.view.setUint16(entry + DATAGRAM_DEVICE, device, true);
    const isPressed = this.#passes < PASSED_BURST * PRESSED;
    datagrams.view.setUint16(entry + DATAGRAM_PRESSED, isPressed ? 1 : 0, true);
    datagrams.commit();
    if (isPressed) events.wakeBy(this.#now + TOGETHER_MS);
    else events.wakeLater();
    counters.add(counters.at.handshakes, 1);
  }

  #leftOf(place: number): number {
    const most = CHECKS_BURST * SOURCE_SHARE;
    const seconds = Math.max(0, this.#now - (this.#leftAt[place] ?? 0)) / 1000;
    this.#leftAt[place] = this.#now;
    return Math.min(most, (this.#left[place] ?? 0) + seconds * CHECKS_PER_SECOND * SOURCE_SHARE);
  }

  /** Of the address alone, not the port; of an IPv6 one the /64, since its owner can choose the rest. */
  #placeOf(source: number): number {
    const { bytes } = this.#parts;
    const isV4 = bytes[source] === AF_INET;
    const from = source + (isV4 ? 4 : 8);
    let hash = this.#parts.seed | 0;
    for (let i = from; i < from + (isV4 ? 4 : 8); i++) {
      hash = Math.imul(hash ^ (bytes[i] ?? 0), 0x01000193);
      hash ^= hash >>> 15;
    }
    return (Math.imul(hash, 0x2c1b3c6d) >>> 16) & (SOURCES - 1);
  }

  #drop(reason: IngressCounter): void {
    const { counters } = this.#parts;
    counters.add(counters.at[reason], 1);
  }
}
