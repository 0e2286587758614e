// A device's handshakes (whitepaper section 5.4 and 6.1 to 6.4): what it sends as initiator, what it takes as
// responder, and what a completed one does to the peer. When to speak is decided in device.ts; what the messages
// hold, in noise/handshake.ts.

import { bytesToHex } from '@noble/hashes/utils.js';
import { INITIATION_INTERVAL, KEY_LENGTH, REKEY_TIMEOUT, REKEY_TIMEOUT_JITTER } from '../noise/constants.ts';
import { mac1Key, verifyMac1 } from '../noise/cookie.ts';
import {
  type ConsumedInitiation,
  consumeInitiation,
  consumeResponse,
  createInitiation,
  createResponse,
  identifyInitiator,
  type SessionKeys,
  wipeInitiator,
} from '../noise/handshake.ts';
import type { StaticKey } from '../noise/ikpsk2.ts';
import type { Primitives, RandomBytes } from '../noise/primitives.ts';
import { isAfter, type TimestampClock } from '../noise/tai64n.ts';
import type { Initiation, Response } from '../wire/message.ts';
import type { Action, Endpoint, PeerId } from './data-plane.ts';
import type { DropReason, Drops } from './drops.ts';
import type { Peer, SessionKeypair } from './peer.ts';

export interface HandshakesDependencies {
  readonly own: StaticKey;
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly timestamps: TimestampClock;
  readonly drops: Drops;
  readonly claimIndex: () => number;
  readonly releaseIndex: (index: number) => void;
  readonly findPeer: (id: PeerId) => Peer | undefined;
}

export class Handshakes {
  readonly #dependencies: HandshakesDependencies;
  readonly #mac1Key: Uint8Array;
  /** Whose initiation waits under which receiver index. */
  readonly #awaiting = new Map<number, Peer>();

  constructor(dependencies: HandshakesDependencies) {
    this.#dependencies = dependencies;
    this.#mac1Key = mac1Key(dependencies.primitives, dependencies.own.publicKey);
  }

  // --- initiator

  /** Sends one initiation and makes it the peer's attempt, to be given up at `giveUpAt`. */
  sendInitiation(peer: Peer, giveUpAt: number, now: number, wallclock: number): Action[] {
    const { primitives, own, random, timestamps, claimIndex, releaseIndex } = this.#dependencies;
    const retryAt = now + REKEY_TIMEOUT + this.jitter();
    peer.attempt = { state: undefined, retryAt, giveUpAt };
    peer.initiateAt = undefined;
    const endpoint = peer.endpoints.forInitiation;
    if (endpoint === undefined) return [];
    const timestamp = timestamps.next(wallclock, peer.sentTimestamp);
    const localIndex = claimIndex();
    const created = createInitiation(primitives, own, peer.remote, localIndex, random(KEY_LENGTH), timestamp);
    if (created === undefined) {
      releaseIndex(localIndex);
      return [];
    }
    peer.attempt = { state: created.state, retryAt, giveUpAt };
    peer.sentTimestamp = timestamp;
    peer.handshakeSentAt = now;
    peer.timers.handshakeSent(now);
    this.#awaiting.set(localIndex, peer);
    return [{ kind: 'send', datagram: created.datagram, endpoint }];
  }

  /** The attempt came to nothing: its response is not waited for any more. */
  endAttempt(peer: Peer): void {
    const state = peer.attempt?.state;
    peer.attempt = undefined;
    if (state === undefined) return;
    this.#awaiting.delete(state.localIndex);
    this.#dependencies.releaseIndex(state.localIndex);
    wipeInitiator(state);
  }

  receiveResponse(message: Response, source: Endpoint, now: number, wallclock: number): Action[] {
    const { primitives, own } = this.#dependencies;
    const peer = this.#awaiting.get(message.receiver);
    const state = peer?.attempt?.state;
    if (peer === undefined || state === undefined) return this.#drop('unknown-index');
    const keys = consumeResponse(primitives, own, peer.presharedKey, state, message);
    if (keys === undefined) return this.#drop('bad-response');
    // The keypair takes the receiver index over, so it is not released with the attempt.
    this.#awaiting.delete(state.localIndex);
    wipeInitiator(state);
    peer.attempt = undefined;
    return this.#completeAsInitiator(peer, state.localIndex, keys, source, now, wallclock);
  }

  #completeAsInitiator(
    peer: Peer,
    localIndex: number,
    keys: SessionKeys,
    source: Endpoint,
    now: number,
    wallclock: number,
  ): Action[] {
    peer.timers.handshakeHeard(now);
    const keypair = { ...keys, localIndex, isInitiator: true, createdAt: now };
    const forgotten = peer.keypairs.installAsInitiator(withoutKeys(keypair));
    this.#completed(peer, now, wallclock);
    return [
      ...learn(peer, source),
      { kind: 'install-keypair', peer: peer.id, keypair },
      { kind: 'use-keypair', peer: peer.id, localIndex },
      ...this.removeKeypairs(forgotten),
      // The responder may not use its keypair before it has heard from us under it.
      { kind: 'send-keepalive', peer: peer.id },
    ];
  }

  // --- responder

  /** Whether this initiation names us as its responder. */
  isResponder(message: Initiation): boolean {
    return verifyMac1(this.#dependencies.primitives, this.#mac1Key, message.macs);
  }

  receiveInitiation(message: Initiation, source: Endpoint, now: number): Action[] {
    const { primitives, own, findPeer } = this.#dependencies;
    if (!this.isResponder(message)) return this.#drop('bad-mac1');
    const identified = identifyInitiator(primitives, own, message);
    if (identified === undefined) return this.#drop('bad-initiation');
    const peer = findPeer(bytesToHex(identified.publicKey));
    if (peer === undefined) return this.#drop('unknown-peer');
    const consumed = consumeInitiation(primitives, peer.remote, identified, message);
    if (consumed === undefined) return this.#drop('bad-initiation');
    const { timestamp } = consumed;
    if (peer.receivedTimestamp !== undefined && !isAfter(timestamp, peer.receivedTimestamp))
      return this.#drop('replayed-initiation');
    if (now - peer.initiationAcceptedAt < INITIATION_INTERVAL) return this.#drop('flooded-initiation');
    peer.receivedTimestamp = timestamp;
    peer.initiationAcceptedAt = now;
    return this.#respond(peer, message, consumed, source, now);
  }

  #respond(
    peer: Peer,
    message: Initiation,
    consumed: ConsumedInitiation,
    source: Endpoint,
    now: number,
  ): Action[] {
    const { primitives, random, claimIndex, releaseIndex } = this.#dependencies;
    const localIndex = claimIndex();
    const response = createResponse(
      primitives,
      peer.remote,
      peer.presharedKey,
      message,
      consumed,
      localIndex,
      random(KEY_LENGTH),
    );
    if (response === undefined) {
      releaseIndex(localIndex);
      return this.#drop('bad-initiation');
    }
    peer.handshakeSentAt = now;
    peer.timers.handshakeHeard(now);
    peer.timers.handshakeSent(now);
    const keypair = { ...response.keys, localIndex, isInitiator: false, createdAt: now };
    const forgotten = peer.keypairs.installAsResponder(withoutKeys(keypair));
    return [
      ...learn(peer, source),
      { kind: 'install-keypair', peer: peer.id, keypair },
      ...this.removeKeypairs(forgotten),
      { kind: 'send', datagram: response.datagram, endpoint: source },
    ];
  }

  /** The initiator of a session that we answered has shown, by its first message, that it has the keys. */
  confirm(peer: Peer, localIndex: number, now: number, wallclock: number): Action[] {
    const forgotten = peer.keypairs.confirm(localIndex);
    if (forgotten === undefined) return [];
    this.endAttempt(peer);
    this.#completed(peer, now, wallclock);
    return [{ kind: 'use-keypair', peer: peer.id, localIndex }, ...this.removeKeypairs(forgotten)];
  }

  // --- both

  #completed(peer: Peer, now: number, wallclock: number): void {
    peer.initiateAt = undefined;
    peer.lastHandshake = { at: now, wallclock };
    peer.timers.sessionStarted();
  }

  removeKeypairs(forgotten: readonly SessionKeypair[]): Action[] {
    return forgotten.map(({ localIndex }) => {
      this.#dependencies.releaseIndex(localIndex);
      return { kind: 'remove-keypair', localIndex };
    });
  }

  /** 0 to 333 ms. */
  jitter(): number {
    const [high = 0, low = 0] = this.#dependencies.random(2);
    return ((high << 8) | low) % (REKEY_TIMEOUT_JITTER + 1);
  }

  #drop(reason: DropReason): Action[] {
    this.#dependencies.drops.count(reason);
    return [];
  }
}

/** The peer showed, by an authenticated message, that it is reached here now. */
export const learn = (peer: Peer, endpoint: Endpoint): Action[] =>
  peer.endpoints.learn(endpoint) ? [{ kind: 'set-endpoint', peer: peer.id, endpoint }] : [];

const withoutKeys = ({
  localIndex,
  remoteIndex,
  isInitiator,
  createdAt,
}: SessionKeypair): SessionKeypair => ({
  localIndex,
  remoteIndex,
  isInitiator,
  createdAt,
});
