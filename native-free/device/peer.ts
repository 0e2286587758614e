// What a device knows of one peer: its keys, where it can be reached, its keypairs, its timers, and the initiation
// under way. State only; device.ts decides.

import { hexToBytes } from '@noble/hashes/utils.js';
import { REJECT_AFTER_TIME } from '../noise/constants.ts';
import { CookieJar } from '../noise/cookie.ts';
import { type InitiatorState, type RemoteStatic, remoteStatic } from '../noise/handshake.ts';
import type { StaticKey } from '../noise/ikpsk2.ts';
import { Keypairs } from '../noise/keypair.ts';
import type { Primitives } from '../noise/primitives.ts';
import type { Endpoint, PeerId } from './data-plane.ts';
import type { Endpoints } from './endpoints.ts';
import { type Session, Timers } from './timers.ts';

const NEVER = Number.POSITIVE_INFINITY;

/** A keypair without its keys, which only the data plane holds. */
export interface SessionKeypair extends Session {
  readonly localIndex: number;
  readonly remoteIndex: number;
}

/** An initiation waiting for its response, repeated until it is answered or given up. */
export interface HandshakeAttempt {
  /** Undefined when it could not be sent, for want of an endpoint. */
  readonly state: InitiatorState | undefined;
  readonly retryAt: number;
  readonly giveUpAt: number;
  /** A response came that did not verify. */
  readonly isForged?: boolean;
}

export interface PeerStatus {
  readonly id: PeerId;
  /** Where packets go. */
  readonly endpoint: Endpoint | undefined;
  /** To be kept over a restart. */
  readonly learnedEndpoint: Endpoint | undefined;
  /** The last completed handshake: monotonic ms, and ms since 1970. */
  readonly lastHandshake: { readonly at: number; readonly wallclock: number } | undefined;
  /** The keypair in use. */
  readonly keypair: { readonly createdAt: number; readonly isInitiator: boolean } | undefined;
  /** An initiation is waiting for its response. */
  readonly isHandshaking: boolean;
}

/** What all peers of a device are made with. */
export interface PeerDependencies {
  readonly primitives: Primitives;
  readonly own: StaticKey;
  /** 0 to 333 ms. */
  readonly jitter: () => number;
}

/** Most peers of a large network are only configured: what a handshake needs, or leaves behind, is made by the first. */
export class Peer {
  readonly id: PeerId;
  /** How many were made before it by its device. */
  readonly number: number;
  readonly endpoints: Endpoints;
  /** 32 B. Kept; undefined: none. */
  presharedKey: Uint8Array | undefined;
  attempt: HandshakeAttempt | undefined;
  /** An initiation that has to wait, because the last handshake message is too fresh. */
  initiateAt: number | undefined;
  /** When to look whether a young session is really of no use. */
  lookAgainAt: number | undefined;
  /** When we last sent an initiation or a response. */
  handshakeSentAt = Number.NEGATIVE_INFINITY;
  /** When we last accepted an initiation. */
  initiationAcceptedAt = Number.NEGATIVE_INFINITY;
  /** The greatest timestamp received in an initiation, and the last one sent. */
  receivedTimestamp: Uint8Array | undefined;
  sentTimestamp: Uint8Array | undefined;
  /** The last completed handshake, on the monotonic and on the wall clock. */
  lastHandshake: { readonly at: number; readonly wallclock: number } | undefined;
  readonly #dependencies: PeerDependencies;
  #remote: RemoteStatic | undefined;
  #cookies: CookieJar | undefined;
  #timers: Timers | undefined;
  #keypairs: Keypairs<SessionKeypair> | undefined;

  constructor(id: PeerId, endpoints: Endpoints, number: number, dependencies: PeerDependencies) {
    this.id = id;
    this.number = number;
    this.endpoints = endpoints;
    this.#dependencies = dependencies;
  }

  get remote(): RemoteStatic {
    const { primitives, own } = this.#dependencies;
    this.#remote ??= remoteStatic(primitives, own, hexToBytes(this.id));
    return this.#remote;
  }

  get cookies(): CookieJar {
    this.#cookies ??= new CookieJar(this.#dependencies.primitives, this.remote.publicKey);
    return this.#cookies;
  }

  get timers(): Timers {
    this.#timers ??= new Timers(this.#dependencies.jitter);
    return this.#timers;
  }

  get keypairs(): Keypairs<SessionKeypair> {
    this.#keypairs ??= new Keypairs();
    return this.#keypairs;
  }

  /** The keypair in use. */
  get current(): SessionKeypair | undefined {
    return this.#keypairs?.current;
  }

  /** Whether there are keypairs that packets may move under. */
  get isInSession(): boolean {
    return this.#keypairs?.isEmpty === false;
  }

  /** Forgets the keypairs for which `isOver` holds, and returns them. */
  forgetKeypairs(isOver: (keypair: SessionKeypair) => boolean): SessionKeypair[] {
    return this.#keypairs?.removeIf(isOver) ?? [];
  }

  /** Milliseconds; 0: off. */
  set persistentKeepalive(interval: number) {
    if (interval !== 0 || this.#timers !== undefined) this.timers.persistentKeepalive = interval;
  }

  /** When a tick would do something even if nothing moves; Infinity: never. */
  get nextDeadline(): number {
    let next = Math.min(this.#timers?.nextDeadline ?? NEVER, this.attempt?.retryAt ?? NEVER);
    next = Math.min(next, this.initiateAt ?? NEVER, this.lookAgainAt ?? NEVER);
    for (const { createdAt } of this.#keypairs?.all() ?? [])
      next = Math.min(next, createdAt + REJECT_AFTER_TIME);
    return next;
  }

  get status(): PeerStatus {
    const { current } = this;
    return {
      id: this.id,
      endpoint: this.endpoints.current,
      learnedEndpoint: this.endpoints.learned,
      lastHandshake: this.lastHandshake,
      keypair: current && { createdAt: current.createdAt, isInitiator: current.isInitiator },
      isHandshaking: this.attempt !== undefined,
    };
  }

  /** Nothing waits any more, as if nothing had been sent yet. */
  restart(): void {
    this.initiateAt = undefined;
    this.lookAgainAt = undefined;
    this.handshakeSentAt = Number.NEGATIVE_INFINITY;
    this.#timers?.restart();
  }

  /** Its secrets: it is of no use any more. */
  wipe(): void {
    this.presharedKey?.fill(0);
    this.#remote?.staticStatic?.fill(0);
  }
}
