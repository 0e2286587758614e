// The path MTUs of all peers of a device (path-mtu.ts), in the data plane's terms: probes to send and to answer, and the
// longest plaintext that fits. Told what passes and what time it is; returns actions, to be carried out in order. Which
// packets are too big, and how they are answered, is the data plane's.

import { PATH_PROBE_LENGTH } from '../wire/path-probe.ts';
import type { PeerId } from './data-plane.ts';
import { PathMtu } from './path-mtu.ts';

/** What a message adds to its plaintext: transport header and tag. */
const MESSAGE_OVERHEAD = 32;
/** IP and UDP headers outside. */
const HEADERS_V4 = 28;
const HEADERS_V6 = 48;
/** What is sealed is padded to a multiple of this. */
const PADDING = 16;

/** Answers a peer gets in a second: more than a search of an honest one asks for. */
const ANSWERS_A_SECOND = 100;
/** Probes of one tick; other peers are looked at in the next. */
const PROBES_A_TICK = 256;

export type PathEvent =
  /** The peer asks whether what it sent has arrived. */
  | { readonly kind: 'probe'; readonly peer: PeerId; readonly sequence: number }
  | { readonly kind: 'probe-answered'; readonly peer: PeerId; readonly sequence: number }
  /** A router has quoted a message to this peer, of which it carries `size` bytes at most; 0: it does not say. */
  | { readonly kind: 'too-big'; readonly peer: PeerId; readonly size: number };

export type PathAction =
  /** Send a probe whose plaintext has `length` bytes, and never in pieces. */
  | {
      readonly kind: 'send-probe';
      readonly peer: PeerId;
      readonly sequence: number;
      readonly length: number;
    }
  | { readonly kind: 'answer-probe'; readonly peer: PeerId; readonly sequence: number }
  /** From now on messages with more plaintext than that are too big for the way; undefined: none is. */
  | { readonly kind: 'set-limit'; readonly peer: PeerId; readonly length: number | undefined };

interface Path {
  readonly mtu: PathMtu;
  /** Where the peer is. */
  address: string;
  limit: number | undefined;
  /** When data was last sent, as of the last tick. */
  dataSentAt: number;
  answers: number;
  answersSince: number;
}

export class PathMtus {
  readonly #paths = new Map<PeerId, Path>();
  #innerMtu: number;

  constructor(innerMtu: number) {
    this.#innerMtu = innerMtu;
  }

  /** The greatest outer packet that passes to the peer: `isProven` by an answer or said by a router. */
  of(peer: PeerId): { readonly size: number; readonly isProven: boolean } | undefined {
    const path = this.#paths.get(peer);
    const size = path?.mtu.proven ?? path?.mtu.limit;
    return size === undefined ? undefined : { size, isProven: path?.mtu.proven !== undefined };
  }

  /** The peer is to be reached there; undefined: nowhere. */
  setAddress(peer: PeerId, address: string | undefined, now: number): PathAction[] {
    const path = this.#paths.get(peer);
    if (address === undefined) {
      this.#paths.delete(peer);
      return path === undefined ? [] : [{ kind: 'set-limit', peer, length: undefined }];
    }
    if (path === undefined) {
      const mtu = new PathMtu(this.#innerMtu + overhead(address));
      const counts = { limit: undefined, dataSentAt: 0, answers: 0, answersSince: 0 };
      this.#paths.set(peer, { mtu, address, ...counts });
      return [];
    }
    if (path.address === address) return [];
    path.address = address;
    path.mtu.moved(this.#innerMtu + overhead(address), now);
    return limitOf(peer, path);
  }

  /** Packets inside are up to `mtu` bytes long now. */
  setInnerMtu(mtu: number, now: number): PathAction[] {
    if (mtu === this.#innerMtu) return [];
    this.#innerMtu = mtu;
    return [...this.#paths].flatMap(([peer, path]) => {
      path.mtu.moved(mtu + overhead(path.address), now);
      return limitOf(peer, path);
    });
  }

  sessionBegun(peer: PeerId, now: number): void {
    this.#paths.get(peer)?.mtu.sessionBegun(now);
  }

  event(event: PathEvent, now: number): PathAction[] {
    const { peer } = event;
    const path = this.#paths.get(peer);
    if (path === undefined) return [];
    switch (event.kind) {
      case 'probe':
        path.mtu.asked(now);
        return mayAnswer(path, now) ? [{ kind: 'answer-probe', peer, sequence: event.sequence }] : [];
      case 'probe-answered':
        path.mtu.answered(event.sequence, now);
        break;
      case 'too-big':
        path.mtu.tooBig(event.size, now);
        break;
    }
    return this.#step(peer, path, path.dataSentAt, now);
  }

  /** To be called several times a second. `dataSentAt`: when data was last sent to a peer. */
  tick(now: number, dataSentAt: (peer: PeerId) => number): PathAction[] {
    const actions: PathAction[] = [];
    const looked: [PeerId, Path][] = [];
    for (const [peer, path] of this.#paths) {
      if (path.mtu.nextAt > now) continue;
      looked.push([peer, path]);
      actions.push(...this.#step(peer, path, dataSentAt(peer), now));
      if (actions.length >= PROBES_A_TICK) break;
    }
    if (actions.length >= PROBES_A_TICK) this.#putLast(looked);
    return actions;
  }

  /** So that the others have their turn, however often these are due. */
  #putLast(looked: readonly [PeerId, Path][]): void {
    for (const [peer, path] of looked) {
      this.#paths.delete(peer);
      this.#paths.set(peer, path);
    }
  }

  #step(peer: PeerId, path: Path, dataSentAt: number, now: number): PathAction[] {
    if (path.mtu.nextAt > now) return limitOf(peer, path);
    const isBusy = dataSentAt > path.dataSentAt;
    path.dataSentAt = dataSentAt;
    const probes = path.mtu.tick(now, isBusy);
    return [
      ...limitOf(peer, path),
      ...probes.map(({ sequence, size }): PathAction => {
        const length = Math.max(PATH_PROBE_LENGTH, size - overhead(path.address));
        return { kind: 'send-probe', peer, sequence, length };
      }),
    ];
  }
}

const overhead = (address: string): number =>
  MESSAGE_OVERHEAD + (address.includes(':') ? HEADERS_V6 : HEADERS_V4);

/** What is to be said of a limit that has changed. */
const limitOf = (peer: PeerId, path: Path): PathAction[] => {
  const { limit } = path.mtu;
  const length = limit === undefined ? undefined : (limit - overhead(path.address)) & -PADDING;
  if (length === path.limit) return [];
  path.limit = length;
  return [{ kind: 'set-limit', peer, length }];
};

const mayAnswer = (path: Path, now: number): boolean => {
  if (now - path.answersSince >= 1000) {
    path.answersSince = now;
    path.answers = 0;
  }
  path.answers += 1;
  return path.answers <= ANSWERS_A_SECOND;
};
