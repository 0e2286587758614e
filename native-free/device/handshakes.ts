// A device's handshakes (whitepaper section 5.4 and 6.1 to 6.4): what it sends as initiator, what it takes as
// responder, its cookies, and what a completed one does to the peer. When to speak is decided in device.ts; what the messages
// hold, in noise/handshake.ts.

import { bytesToHex } from '@noble/hashes/utils.js';
import { INITIATION_INTERVAL, KEY_LENGTH, REKEY_TIMEOUT, REKEY_TIMEOUT_JITTER } from '../noise/constants.ts';
import { CookieChecker } from '../noise/cookie.ts';
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
import { wipe } from '../noise/wipe.ts';
import type { CookieReply, Initiation, Macs, Response } from '../wire/message.ts';
import type { Action, Endpoint, PeerId } from './data-plane.ts';
import type { DropReason, Drops } from './drops.ts';
import type { Peer, SessionKeypair } from './peer.ts';

const NO_PRESHARED_KEY = new Uint8Array(KEY_LENGTH);

export interface HandshakesDependencies {
  readonly own: StaticKey;
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly timestamps: TimestampClock;
  readonly drops: Drops;
  readonly claimIndex: (endpoint: Endpoint) => number;
  readonly releaseIndex: (index: number) => void;
  readonly findPeer: (id: PeerId) => Peer | undefined;
  /** Told of every peer of whom something is different after a message that was received. */
  readonly changed: (peer: Peer) => void;
}

export class Handshakes {
  readonly #dependencies: HandshakesDependencies;
  readonly #checker: CookieChecker;
  /** Whose initiation waits, or whose keypair is, under which receiver index. */
  readonly #byIndex = new Map<number, Peer>();

  constructor(dependencies: HandshakesDependencies) {
    this.#dependencies = dependencies;
    const { primitives, random, own } = dependencies;
    this.#checker = new CookieChecker(primitives, random, own.publicKey);
  }

  // --- initiator

  /** Sends one initiation and makes it the peer's attempt, to be given up at `giveUpAt`. */
  sendInitiation(peer: Peer, giveUpAt: number, now: number, wallclock: number): Action[] {
    const { primitives, own, random, timestamps } = this.#dependencies;
    const retryAt = now + REKEY_TIMEOUT + this.jitter();
    peer.attempt = { state: undefined, retryAt, giveUpAt };
    peer.initiateAt = undefined;
    const endpoint = peer.endpoints.forInitiation;
    if (endpoint === undefined) return [];
    const timestamp = timestamps.next(wallclock, peer.sentTimestamp);
    const localIndex = this.#claim(peer, endpoint);
    const created = createInitiation(primitives, own, peer.remote, localIndex, random(KEY_LENGTH), timestamp);
    if (created === undefined) {
      this.#release(localIndex);
      return [];
    }
    peer.attempt = { state: created.state, retryAt, giveUpAt };
    peer.sentTimestamp = timestamp;
    peer.handshakeSentAt = now;
    peer.timers.handshakeSent(now);
    peer.cookies.writeMacs(created.message.macs, now);
    return [{ kind: 'send', datagram: created.message.bytes, endpoint }];
  }

  /** The attempt came to nothing: its response is not waited for any more. */
  endAttempt(peer: Peer): void {
    const state = peer.attempt?.state;
    peer.attempt = undefined;
    if (state === undefined) return;
    this.#release(state.localIndex);
    wipeInitiator(state);
  }

  receiveResponse(message: Response, source: Endpoint, now: number, wallclock: number): Action[] {
    const { primitives, own } = this.#dependencies;
    const peer = this.#byIndex.get(message.receiver);
    const state = peer?.attempt?.state;
    if (peer?.attempt === undefined || state?.localIndex !== message.receiver)
      return this.#drop('unknown-index');
    const keys = consumeResponse(primitives, own, peer.presharedKey ?? NO_PRESHARED_KEY, state, message);
    if (keys === undefined) {
      peer.attempt = { ...peer.attempt, isForged: true };
      return this.#drop('bad-response');
    }
    // The keypair takes the receiver index over, so it is not released with the attempt.
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
    this.#dependencies.changed(peer);
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

  receiveInitiation(message: Initiation, source: Endpoint, now: number): Action[] {
    const { primitives, own, findPeer } = this.#dependencies;
    const identified = identifyInitiator(primitives, own, message);
    if (identified === undefined) return this.#drop('bad-initiation');
    const peer = findPeer(bytesToHex(identified.publicKey));
    const consumed = peer && consumeInitiation(primitives, peer.remote, identified, message);
    wipe(identified.transcript.chainingKey);
    if (peer === undefined) return this.#drop('unknown-peer');
    if (consumed === undefined) return this.#drop('bad-initiation');
    const actions = this.#accept(peer, message, consumed, source, now);
    wipe(consumed.transcript.chainingKey);
    return actions;
  }

  #accept(
    peer: Peer,
    message: Initiation,
    consumed: ConsumedInitiation,
    source: Endpoint,
    now: number,
  ): Action[] {
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
    const { primitives, random } = this.#dependencies;
    const localIndex = this.#claim(peer, source);
    const response = createResponse(
      primitives,
      peer.remote,
      peer.presharedKey ?? NO_PRESHARED_KEY,
      message,
      consumed,
      localIndex,
      random(KEY_LENGTH),
    );
    if (response === undefined) {
      this.#release(localIndex);
      return this.#drop('bad-initiation');
    }
    peer.cookies.writeMacs(response.message.macs, now);
    peer.handshakeSentAt = now;
    peer.timers.handshakeHeard(now);
    peer.timers.handshakeSent(now);
    const keypair = { ...response.keys, localIndex, isInitiator: false, createdAt: now };
    const forgotten = peer.keypairs.installAsResponder(withoutKeys(keypair));
    this.#dependencies.changed(peer);
    return [
      ...learn(peer, source),
      { kind: 'install-keypair', peer: peer.id, keypair },
      ...this.removeKeypairs(forgotten),
      { kind: 'send', datagram: response.message.bytes, endpoint: source },
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

  // --- macs and cookies

  verifyMac1(macs: Macs): boolean {
    return this.#checker.verifyMac1(macs);
  }

  verifyMac2(macs: Macs, source: Endpoint, now: number): boolean {
    return this.#checker.verifyMac2(macs, encodeSource(source), now);
  }

  replyWithCookie(message: Initiation | Response, source: Endpoint, now: number): Action[] {
    const reply = this.#checker.createReply(message.sender, message.macs, encodeSource(source), now);
    return [{ kind: 'send', datagram: reply.bytes, endpoint: source }];
  }

  /** Whether an initiation of ours waits for this response and none that was forged has come before it. */
  isAwaited(response: Response): boolean {
    const attempt = this.#byIndex.get(response.receiver)?.attempt;
    return attempt?.state?.localIndex === response.receiver && attempt.isForged !== true;
  }

  /**
   * Keeps the cookie for the next message; a retry is not hurried by it. It says nothing about the peer: whoever saw
   * our message and knows the peer's public key could have sent it.
   */
  receiveCookieReply(message: CookieReply, now: number): Action[] {
    const peer = this.#byIndex.get(message.receiver);
    return peer?.cookies.take(message, now) ? [] : this.#drop('bad-cookie');
  }

  // --- both

  #completed(peer: Peer, now: number, wallclock: number): void {
    peer.initiateAt = undefined;
    peer.lookAgainAt = undefined;
    peer.lastHandshake = { at: now, wallclock };
    peer.timers.sessionStarted();
  }

  removeKeypairs(forgotten: readonly SessionKeypair[]): Action[] {
    return forgotten.map(({ localIndex }) => {
      this.#release(localIndex);
      return { kind: 'remove-keypair', localIndex };
    });
  }

  #claim(peer: Peer, endpoint: Endpoint): number {
    const index = this.#dependencies.claimIndex(endpoint);
    this.#byIndex.set(index, peer);
    return index;
  }

  #release(index: number): void {
    this.#byIndex.delete(index);
    this.#dependencies.releaseIndex(index);
  }

  /** What cookies are made with. */
  wipe(): void {
    this.#checker.wipe();
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

/** What a cookie is made of: address and port. */
const encodeSource = ({ address, port }: Endpoint): Uint8Array => {
  const text = `${address} ${port}`;
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
};

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
