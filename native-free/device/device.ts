// One network's WireGuard device without I/O: a static key and its peers by public key (whitepaper sections 5 and 6).
// Handshake messages, data-plane events and ticks go in; actions come out, to be carried out in order. It holds no
// transport keys, seals nothing and knows no clock. Not here: packets (outbound.ts, inbound.ts, src/datapath) and
// which device a message is for (port/port.ts).
//
//   setPeer, removePeer            configuration
//   initiate, event, tick          what makes us send an initiation or a keepalive
//   receiveHandshake               types 1 to 3 that the port has found to be ours

import { bytesToHex } from '@noble/hashes/utils.js';
import { Vl3Error } from '../error.ts';
import type { Prefix } from '../ipam/prefix.ts';
import {
  INITIATION_INTERVAL,
  KEY_LENGTH,
  REJECT_AFTER_TIME,
  REKEY_ATTEMPT_TIME,
  REKEY_TIMEOUT,
  REKEY_TIMEOUT_JITTER,
} from '../noise/constants.ts';
import { mac1Key, verifyMac1 } from '../noise/cookie.ts';
import {
  consumeInitiation,
  consumeResponse,
  createInitiation,
  createResponse,
  identifyInitiator,
  remoteStatic,
  type SessionKeys,
  wipeInitiator,
} from '../noise/handshake.ts';
import type { StaticKey } from '../noise/ikpsk2.ts';
import type { Primitives, RandomBytes } from '../noise/primitives.ts';
import { isAfter, TimestampClock } from '../noise/tai64n.ts';
import { COOKIE_REPLY_TYPE, Initiation, messageType, Response } from '../wire/message.ts';
import type { Action, Activity, DataPlaneEvent, Endpoint, PeerId } from './data-plane.ts';
import { Drops } from './drops.ts';
import { Endpoints, sameEndpoint } from './endpoints.ts';
import { Peer, type SessionKeypair } from './peer.ts';

const NO_PRESHARED_KEY = new Uint8Array(KEY_LENGTH);
const NEVER = Number.POSITIVE_INFINITY;

export interface DeviceOptions {
  /** 32 B; the device keeps a copy and wipes it on `close`. */
  readonly privateKey: Uint8Array;
  /** 12 B, an earlier `timestampMark`: handshakes after a restart need it when the wall clock has gone back. */
  readonly timestampMark?: Uint8Array;
}

export interface DeviceDependencies {
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly indices: ReceiverIndices;
  /** Kept in step with the peers; the data plane reads it. */
  readonly allowedIps: AllowedIpsTable;
}

/** Receiver indices, unique among all devices of a port and not to be guessed. */
export interface ReceiverIndices {
  claim(owner: Device): number;
  release(index: number): void;
}

/** What the device needs of AllowedIps. Inserting a prefix that is there moves it. */
export interface AllowedIpsTable {
  insert(prefix: Prefix, peer: PeerId): void;
  removeAll(peer: PeerId): void;
}

export interface PeerConfig {
  /** 32 B. */
  readonly publicKey: Uint8Array;
  /** 32 B. */
  readonly presharedKey?: Uint8Array | undefined;
  readonly allowedIps: readonly Prefix[];
  /** As announced, best first. */
  readonly endpoints: readonly Endpoint[];
  /** Learned in an earlier life; taken only when the peer is new to this device. */
  readonly learnedEndpoint?: Endpoint | undefined;
  /** Milliseconds; 0 or undefined: off. */
  readonly persistentKeepalive?: number | undefined;
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
  /** False for a key of low order, with which no handshake can succeed. */
  readonly hasUsableKey: boolean;
}

export class Device {
  /** 32 B. */
  readonly publicKey: Uint8Array;
  readonly id: PeerId;
  readonly drops = new Drops();
  readonly #own: StaticKey;
  readonly #mac1Key: Uint8Array;
  readonly #primitives: Primitives;
  readonly #random: RandomBytes;
  readonly #indices: ReceiverIndices;
  readonly #allowedIps: AllowedIpsTable;
  readonly #timestamps: TimestampClock;
  readonly #peers = new Map<PeerId, Peer>();
  /** Whose initiation waits under which receiver index. */
  readonly #awaiting = new Map<number, Peer>();

  constructor(options: DeviceOptions, dependencies: DeviceDependencies) {
    const { primitives } = dependencies;
    const privateKey = checkKey(options.privateKey, 'a private key').slice();
    this.#own = { privateKey, publicKey: primitives.publicKey(privateKey) };
    this.publicKey = this.#own.publicKey;
    this.id = peerId(this.publicKey);
    this.#mac1Key = mac1Key(primitives, this.publicKey);
    this.#primitives = primitives;
    this.#random = dependencies.random;
    this.#indices = dependencies.indices;
    this.#allowedIps = dependencies.allowedIps;
    this.#timestamps = new TimestampClock(options.timestampMark);
  }

  // --- configuration

  /** Adds a peer or changes it; its sessions go on. The device's own key is ignored. Throws on a malformed key. */
  setPeer(config: PeerConfig): Action[] {
    const id = peerId(checkKey(config.publicKey, 'a public key'));
    if (id === this.id) return [];
    const presharedKey =
      config.presharedKey === undefined
        ? NO_PRESHARED_KEY
        : checkKey(config.presharedKey, 'a preshared key').slice();
    this.#allowedIps.removeAll(id);
    for (const prefix of config.allowedIps) this.#allowedIps.insert(prefix, id);
    const known = this.#peers.get(id);
    if (known === undefined) return this.#addPeer(id, config, presharedKey);
    const before = known.endpoints.current;
    known.presharedKey = presharedKey;
    known.endpoints.announce(config.endpoints);
    known.timers.persistentKeepalive = config.persistentKeepalive ?? 0;
    if (known.attempt !== undefined && known.attempt.state === undefined)
      known.attempt = { ...known.attempt, retryAt: Number.NEGATIVE_INFINITY };
    const { current } = known.endpoints;
    const isSame =
      before === undefined || current === undefined ? before === current : sameEndpoint(before, current);
    return isSame ? [] : [{ kind: 'set-endpoint', peer: id, endpoint: current }];
  }

  #addPeer(id: PeerId, config: PeerConfig, presharedKey: Uint8Array): Action[] {
    const remote = remoteStatic(this.#primitives, this.#own, config.publicKey.slice());
    const endpoints = new Endpoints(config.endpoints, config.learnedEndpoint);
    const peer = new Peer(id, remote, presharedKey, endpoints, () => this.#jitter());
    peer.timers.persistentKeepalive = config.persistentKeepalive ?? 0;
    this.#peers.set(id, peer);
    const { current } = endpoints;
    return current === undefined ? [] : [{ kind: 'set-endpoint', peer: id, endpoint: current }];
  }

  /** Ends the peer's sessions and forgets it. */
  removePeer(id: PeerId): Action[] {
    const peer = this.#peers.get(id);
    if (peer === undefined) return [];
    this.#peers.delete(id);
    this.#allowedIps.removeAll(id);
    this.#endAttempt(peer);
    return [
      { kind: 'use-keypair', peer: id, localIndex: undefined },
      ...this.#removeKeypairs(peer.keypairs.removeIf(() => true)),
      { kind: 'drop-staged', peer: id },
      { kind: 'set-endpoint', peer: id, endpoint: undefined },
    ];
  }

  /** Removes all peers and wipes the private key: the device is of no use any more. */
  close(): Action[] {
    const actions = [...this.#peers.keys()].flatMap((id) => this.removePeer(id));
    this.#own.privateKey.fill(0);
    return actions;
  }

  // --- what makes us speak

  /** Starts a handshake with the peer unless one is under way or just was. */
  initiate(id: PeerId, now: number, wallclock: number): Action[] {
    const peer = this.#peers.get(id);
    return peer === undefined ? [] : this.#initiate(peer, now, wallclock);
  }

  event(event: DataPlaneEvent, now: number, wallclock: number): Action[] {
    const peer = this.#peers.get(event.peer);
    if (peer === undefined) return [];
    switch (event.kind) {
      case 'handshake-needed':
        return this.#initiate(peer, now, wallclock);
      case 'keypair-confirmed':
        return this.#confirm(peer, event.localIndex, now, wallclock);
      case 'endpoint-moved':
        return this.#learn(peer, event.endpoint);
    }
  }

  /** Looks at every peer; to be called several times a second. `activity` may return the same object each time. */
  tick(now: number, wallclock: number, activity: (peer: PeerId) => Activity | undefined): Action[] {
    const actions: Action[] = [];
    for (const peer of this.#peers.values())
      actions.push(...this.#tickPeer(peer, now, wallclock, activity(peer.id)));
    return actions;
  }

  /** When a tick would do something even if nothing moves; Infinity: never. */
  get nextDeadline(): number {
    let next = NEVER;
    for (const { timers, attempt, initiateAt, keypairs } of this.#peers.values()) {
      next = Math.min(next, timers.nextDeadline, attempt?.retryAt ?? NEVER, initiateAt ?? NEVER);
      for (const keypair of keypairs.all()) next = Math.min(next, keypair.createdAt + REJECT_AFTER_TIME);
    }
    return next;
  }

  #tickPeer(peer: Peer, now: number, wallclock: number, activity: Activity | undefined): Action[] {
    const actions = this.#expireKeypairs(peer, now);
    if (activity !== undefined && peer.timers.observe(activity, peer.keypairs.current))
      actions.push(...this.#initiate(peer, now, wallclock));
    if (peer.attempt !== undefined && now >= peer.attempt.retryAt)
      actions.push(...this.#retry(peer, peer.attempt.giveUpAt, now, wallclock));
    const isWaitOver = peer.initiateAt !== undefined && now >= peer.initiateAt;
    if (peer.timers.takeNewHandshake(now) || isWaitOver)
      actions.push(...this.#initiate(peer, now, wallclock));
    actions.push(...this.#keepAlive(peer, now, wallclock));
    return actions;
  }

  #keepAlive(peer: Peer, now: number, wallclock: number): Action[] {
    const due = peer.timers.takeKeepalive(now);
    if (due === undefined) return [];
    if (peer.keypairs.current !== undefined) return [{ kind: 'send-keepalive', peer: peer.id }];
    return due === 'persistent' ? this.#initiate(peer, now, wallclock) : [];
  }

  /**
   * Deviation from section 6.3, on the strict side: keypairs are forgotten at REJECT_AFTER_TIME, when they become
   * useless, not at three times that; an unanswered initiation's ephemeral key goes when the attempt is given up.
   */
  #expireKeypairs(peer: Peer, now: number): Action[] {
    const before = peer.keypairs.current;
    const over = peer.keypairs.removeIf(({ createdAt }) => now - createdAt >= REJECT_AFTER_TIME);
    const actions = this.#removeKeypairs(over);
    if (before !== undefined && peer.keypairs.current === undefined)
      actions.unshift({ kind: 'use-keypair', peer: peer.id, localIndex: undefined });
    return actions;
  }

  // --- initiator

  #initiate(peer: Peer, now: number, wallclock: number): Action[] {
    if (peer.remote.staticStatic === undefined) return [];
    if (peer.attempt !== undefined) {
      peer.attempt = { ...peer.attempt, giveUpAt: now + REKEY_ATTEMPT_TIME };
      return [];
    }
    const earliest = peer.handshakeSentAt + REKEY_TIMEOUT;
    if (now < earliest) {
      peer.initiateAt = earliest;
      return [];
    }
    return this.#sendInitiation(peer, now + REKEY_ATTEMPT_TIME, now, wallclock);
  }

  #retry(peer: Peer, giveUpAt: number, now: number, wallclock: number): Action[] {
    if (peer.attempt?.state !== undefined) peer.endpoints.unanswered();
    this.#endAttempt(peer);
    if (now >= giveUpAt) return [{ kind: 'drop-staged', peer: peer.id }];
    return this.#sendInitiation(peer, giveUpAt, now, wallclock);
  }

  #sendInitiation(peer: Peer, giveUpAt: number, now: number, wallclock: number): Action[] {
    peer.initiateAt = undefined;
    const retryAt = now + REKEY_TIMEOUT + this.#jitter();
    const endpoint = peer.endpoints.forInitiation;
    peer.attempt = { state: undefined, retryAt, giveUpAt };
    if (endpoint === undefined) return [];
    const timestamp = this.#timestamps.next(wallclock, peer.sentTimestamp);
    const localIndex = this.#indices.claim(this);
    const created = createInitiation(
      this.#primitives,
      this.#own,
      peer.remote,
      localIndex,
      this.#random(KEY_LENGTH),
      timestamp,
    );
    if (created === undefined) {
      this.#indices.release(localIndex);
      return [];
    }
    peer.sentTimestamp = timestamp;
    peer.handshakeSentAt = now;
    peer.timers.handshakeSent(now);
    peer.attempt = { state: created.state, retryAt, giveUpAt };
    this.#awaiting.set(localIndex, peer);
    return [{ kind: 'send', datagram: created.datagram, endpoint }];
  }

  /** The attempt is over, whatever came of it. */
  #endAttempt(peer: Peer): void {
    const state = peer.attempt?.state;
    peer.attempt = undefined;
    if (state === undefined) return;
    this.#awaiting.delete(state.localIndex);
    this.#indices.release(state.localIndex);
    wipeInitiator(state);
  }

  // --- handshake messages received

  /** Whether this initiation names us as its responder. */
  isResponder(message: Initiation): boolean {
    return verifyMac1(this.#primitives, this.#mac1Key, message.macs);
  }

  /** Types 1 to 3; others and malformed ones are counted and dropped. Borrows `datagram`. */
  receiveHandshake(datagram: Uint8Array, source: Endpoint, now: number, wallclock: number): Action[] {
    const initiation = Initiation.parse(datagram);
    if (initiation !== undefined) return this.#receiveInitiation(initiation, source, now);
    const response = Response.parse(datagram);
    if (response !== undefined) return this.#receiveResponse(response, source, now, wallclock);
    return this.#drop(
      messageType(datagram) === COOKIE_REPLY_TYPE ? 'unexpected-cookie' : 'malformed-message',
    );
  }

  #receiveInitiation(message: Initiation, source: Endpoint, now: number): Action[] {
    if (!this.isResponder(message)) return this.#drop('bad-mac1');
    const identified = identifyInitiator(this.#primitives, this.#own, message);
    if (identified === undefined) return this.#drop('bad-initiation');
    const peer = this.#peers.get(peerId(identified.publicKey));
    if (peer === undefined) return this.#drop('unknown-peer');
    const consumed = consumeInitiation(this.#primitives, peer.remote, identified, message);
    if (consumed === undefined) return this.#drop('bad-initiation');
    const { timestamp } = consumed;
    if (peer.receivedTimestamp !== undefined && !isAfter(timestamp, peer.receivedTimestamp))
      return this.#drop('replayed-initiation');
    if (now - peer.initiationAcceptedAt < INITIATION_INTERVAL) return this.#drop('flooded-initiation');
    peer.receivedTimestamp = timestamp;
    peer.initiationAcceptedAt = now;

    const localIndex = this.#indices.claim(this);
    const response = createResponse(
      this.#primitives,
      peer.remote,
      peer.presharedKey,
      message,
      consumed,
      localIndex,
      this.#random(KEY_LENGTH),
    );
    if (response === undefined) {
      this.#indices.release(localIndex);
      return this.#drop('bad-initiation');
    }
    peer.handshakeSentAt = now;
    peer.timers.handshakeHeard(now);
    peer.timers.handshakeSent(now);
    const keypair = { ...response.keys, localIndex, isInitiator: false, createdAt: now };
    const forgotten = peer.keypairs.installAsResponder(withoutKeys(keypair));
    return [
      ...this.#learn(peer, source),
      { kind: 'install-keypair', peer: peer.id, keypair },
      ...this.#removeKeypairs(forgotten),
      { kind: 'send', datagram: response.datagram, endpoint: source },
    ];
  }

  #receiveResponse(message: Response, source: Endpoint, now: number, wallclock: number): Action[] {
    const peer = this.#awaiting.get(message.receiver);
    const state = peer?.attempt?.state;
    if (peer === undefined || state === undefined) return this.#drop('unknown-index');
    const keys = consumeResponse(this.#primitives, this.#own, peer.presharedKey, state, message);
    if (keys === undefined) return this.#drop('bad-response');
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
    // The keypair takes the index over, so that it must not be released with the attempt.
    this.#awaiting.delete(localIndex);
    if (peer.attempt?.state !== undefined) wipeInitiator(peer.attempt.state);
    peer.attempt = undefined;
    peer.timers.handshakeHeard(now);
    const keypair = { ...keys, localIndex, isInitiator: true, createdAt: now };
    const forgotten = peer.keypairs.installAsInitiator(withoutKeys(keypair));
    this.#handshakeCompleted(peer, now, wallclock);
    return [
      ...this.#learn(peer, source),
      { kind: 'install-keypair', peer: peer.id, keypair },
      { kind: 'use-keypair', peer: peer.id, localIndex },
      ...this.#removeKeypairs(forgotten),
      // The responder may not use its keypair before it has heard from us under it.
      { kind: 'send-keepalive', peer: peer.id },
    ];
  }

  /** The initiator of a session that we answered has shown that it has the keys. */
  #confirm(peer: Peer, localIndex: number, now: number, wallclock: number): Action[] {
    const forgotten = peer.keypairs.confirm(localIndex);
    if (forgotten === undefined) return [];
    this.#endAttempt(peer);
    this.#handshakeCompleted(peer, now, wallclock);
    return [{ kind: 'use-keypair', peer: peer.id, localIndex }, ...this.#removeKeypairs(forgotten)];
  }

  #handshakeCompleted(peer: Peer, now: number, wallclock: number): void {
    peer.initiateAt = undefined;
    peer.lastHandshake = { at: now, wallclock };
    peer.timers.sessionStarted();
  }

  #learn(peer: Peer, endpoint: Endpoint): Action[] {
    return peer.endpoints.learn(endpoint) ? [{ kind: 'set-endpoint', peer: peer.id, endpoint }] : [];
  }

  #removeKeypairs(forgotten: readonly SessionKeypair[]): Action[] {
    return forgotten.map(({ localIndex }) => {
      this.#indices.release(localIndex);
      return { kind: 'remove-keypair', localIndex };
    });
  }

  #drop(reason: Parameters<Drops['count']>[0]): Action[] {
    this.drops.count(reason);
    return [];
  }

  #jitter(): number {
    const [high = 0, low = 0] = this.#random(2);
    return ((high << 8) | low) % (REKEY_TIMEOUT_JITTER + 1);
  }

  // --- what can be known

  /** Greatest timestamp in any initiation sent, 12 B; to be saved now and then, and given to the next device. */
  get timestampMark(): Uint8Array {
    return this.#timestamps.highWaterMark;
  }

  get peerIds(): PeerId[] {
    return [...this.#peers.keys()];
  }

  status(id: PeerId): PeerStatus | undefined {
    const peer = this.#peers.get(id);
    if (peer === undefined) return undefined;
    const { current } = peer.keypairs;
    return {
      id,
      endpoint: peer.endpoints.current,
      learnedEndpoint: peer.endpoints.learned,
      lastHandshake: peer.lastHandshake,
      keypair: current && { createdAt: current.createdAt, isInitiator: current.isInitiator },
      isHandshaking: peer.attempt !== undefined,
      hasUsableKey: peer.remote.staticStatic !== undefined,
    };
  }
}

/** The name of a public key within a device. */
export const peerId = (publicKey: Uint8Array): PeerId => bytesToHex(publicKey);

const checkKey = (key: Uint8Array, what: string): Uint8Array => {
  if (key.length === KEY_LENGTH) return key;
  throw new Vl3Error('invalid-argument', `${what} has ${KEY_LENGTH} bytes, not ${key.length}`);
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
