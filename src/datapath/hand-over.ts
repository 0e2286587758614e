// Datagrams that came to an ingress worker but are another's. The kernel joins what comes from one endpoint before it asks whose
// it is, so a message of many datagrams may bring some of a session that another worker has the replay window of. They are
// handed over in rings, one for each two workers and direction, and an eventfd wakes the one that they are for.

import { write } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import { createSegmentRing, SegmentRing } from './segment-ring.ts';
import { PATH_LENGTH } from './sockaddr.ts';

/** Where the ingress workers of all pairs meet: the same for each. */
export interface HandOverMemory {
  /** By who gives, then by who takes. */
  readonly rings: readonly (readonly SharedArrayBuffer[])[];
  /** By pair: what wakes its ingress worker. */
  readonly wakeFds: readonly number[];
}

export const createHandOver = (wakeFds: readonly number[]): HandOverMemory => ({
  rings: wakeFds.map(() => wakeFds.map(createSegmentRing)),
  wakeFds,
});

const LONGEST_DATAGRAM = 65_536;
/** While another's ring is full. */
const PAUSE_MS = 1;

export class HandOver {
  /** Of the datagram taken last: where it lies in the arena, and its path. */
  readonly at: number;
  readonly path: number;
  length = 0;
  trafficClass = 0;
  readonly #arena: Arena;
  readonly #pair: number;
  readonly #outgoing: readonly SegmentRing[];
  readonly #incoming: readonly SegmentRing[];
  readonly #wakeFds: readonly number[];
  readonly #isWakeDue: boolean[];
  readonly #one: number;
  /** Whose turn it is among those that give. */
  #turn = 0;

  /** `headroom` and `tailroom`: bytes to keep free around what is taken. */
  constructor(arena: Arena, memory: HandOverMemory, pair: number, headroom: number, tailroom: number) {
    this.#arena = arena;
    this.#pair = pair;
    this.#outgoing = (memory.rings[pair] ?? []).map((ring) => new SegmentRing(ring));
    this.#incoming = memory.rings
      .flatMap((byTaker, giver) => (giver === pair ? [] : byTaker.slice(pair, pair + 1)))
      .map((ring) => new SegmentRing(ring));
    this.#wakeFds = memory.wakeFds;
    this.#isWakeDue = memory.wakeFds.map(() => false);
    this.#one = arena.allocate(8);
    arena.view.setUint32(this.#one, 1, true);
    this.path = arena.allocate(PATH_LENGTH);
    this.at = arena.allocate(headroom + LONGEST_DATAGRAM + tailroom) + headroom;
  }

  /** Bytes an arena must have for this, besides headroom and tailroom. */
  static readonly ARENA = LONGEST_DATAGRAM + 1024;

  /** For the ingress worker of pair `to`; `at` and `path` are offsets in the arena. False: its ring is full for now. */
  give(to: number, at: number, length: number, path: number, trafficClass: number): boolean {
    const given = this.#outgoing[to]?.push(this.#arena.bytes, at, length, path, trafficClass) ?? false;
    if (given) this.#isWakeDue[to] = true;
    return given;
  }

  /** Lets the pair that could be given nothing make some room. */
  waitFor(to: number): void {
    this.#wake(to);
    this.#outgoing[to]?.waitForRoom(PAUSE_MS);
  }

  /** Wakes those who were given something: once a batch. */
  flush(): void {
    for (let to = 0; to < this.#isWakeDue.length; to++) if (this.#isWakeDue[to] === true) this.#wake(to);
  }

  /** Has this worker look again. */
  comeBack(): void {
    this.#wake(this.#pair);
  }

  /** Brings the next datagram that was given to this worker to `at`. */
  take(): boolean {
    const rings = this.#incoming;
    for (let i = 0; i < rings.length; i++) {
      const ring = rings[this.#turn];
      this.#turn = (this.#turn + 1) % rings.length;
      if (ring === undefined || !ring.take(this.#arena.bytes, this.at, this.path)) continue;
      this.length = ring.length;
      this.trafficClass = ring.trafficClass;
      return true;
    }
    return false;
  }

  #wake(to: number): void {
    this.#isWakeDue[to] = false;
    const fd = this.#wakeFds[to] ?? -1;
    if (fd >= 0) write(fd, this.#arena.address + this.#one, 8);
  }
}
