// One network's WireGuard device without I/O: a static key and its peers by public key (whitepaper sections 5 and 6).
// Handshake messages, data-plane events and ticks go in; actions come out, to be carried out in order. It holds no
// transport keys, seals nothing and knows no clock. Not here: packets (outbound.ts, inbound.ts, src/datapath) and
// which device a message is for (port/port.ts).
//
//   setPeer, removePeer            configuration
//   initiate, event, tick          what makes us send an initiation or a keepalive
//   receiveHandshake               types 1 to 3 that the port has found to be ours

import { bytesToHex } from '@noble/hashes/utils.js';
import {
  REJECT_AFTER_TIME,
  REKEY_AFTER_MESSAGES,
  REKEY_ATTEMPT_TIME,
  REKEY_TIMEOUT,
} from '../noise/constants.ts';
import type { StaticKey } from '../noise/ikpsk2.ts';
import type { Primitives, RandomBytes } from '../noise/primitives.ts';
import { TimestampClock } from '../noise/tai64n.ts';
import { CookieReply, Initiation, type Macs, Response } from '../wire/message.ts';
import { AllowedIps } from './allowed-ips.ts';
import type { Action, Activity, DataPlaneEvent, Endpoint, PeerId } from './data-plane.ts';
import { Deadlines } from './deadlines.ts';
import { Drops } from './drops.ts';
import { Endpoints, sameEndpoint } from './endpoints.ts';
import { Handshakes, learn } from './handshakes.ts';
import { Peer, type PeerDependencies, type PeerStatus } from './peer.ts';
import { checkKey, type PeerConfig, presharedKeyOf } from './peer-config.ts';

export interface DeviceOptions {
  /** 32 B; the device keeps a copy and wipes it on `close`. */
  readonly privateKey: Uint8Array;
  /**
   * An earlier `timestampMark` (12 B; empty or undefined for a new device): handshakes after a restart need it when
   * the wall clock has gone back.
   */
  readonly timestampMark?: Uint8Array | undefined;
}

export interface DeviceDependencies {
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly indices: ReceiverIndices;
}

/** Receiver indices, unique among all devices of a port and not to be guessed. */
export interface ReceiverIndices {
  /** `endpoint`: whom the session will be with. */
  claim(owner: Device, endpoint: Endpoint): number;
  release(index: number): void;
}

export class Device {
  /** 32 B. */
  readonly publicKey: Uint8Array;
  readonly id: PeerId;
  /** Kept in step with the peers; for the data plane to read. */
  readonly allowedIps = new AllowedIps<PeerId>();
  /** Handshake messages dropped. */
  readonly drops = new Drops();
  readonly #own: StaticKey;
  readonly #ofPeers: PeerDependencies;
  readonly #timestamps: TimestampClock;
  readonly #handshakes: Handshakes;
  readonly #peers = new Map<PeerId, Peer>();
  /** How many peers were ever made. */
  #made = 0;
  /** When something is to be done for a peer even if nothing moves. */
  readonly #deadlines = new Deadlines<Peer>();
  /** Those that have keypairs, for whom packets may move at any time. */
  readonly #moving = new Set<Peer>();

  constructor(options: DeviceOptions, dependencies: DeviceDependencies) {
    const { primitives, random, indices } = dependencies;
    const privateKey = checkKey(options.privateKey, 'a private key').slice();
    this.publicKey = primitives.publicKey(privateKey);
    this.id = peerId(this.publicKey);
    this.#own = { privateKey, publicKey: this.publicKey };
    this.#ofPeers = { primitives, own: this.#own, jitter: () => this.#handshakes.jitter() };
    const isNew = options.timestampMark === undefined || options.timestampMark.length === 0;
    this.#timestamps = new TimestampClock(isNew ? undefined : options.timestampMark);
    this.#handshakes = new Handshakes({
      own: this.#own,
      primitives,
      random,
      timestamps: this.#timestamps,
      drops: this.drops,
      claimIndex: (endpoint) => indices.claim(this, endpoint),
      releaseIndex: (index) => indices.release(index),
      findPeer: (id) => this.#peers.get(id),
      changed: (peer) => this.#schedule(peer),
    });
  }

  // --- configuration

  /** Adds a peer or changes it; its sessions go on. The device's own key is ignored. Throws on a malformed key. */
  setPeer(config: PeerConfig): Action[] {
    const id = peerId(checkKey(config.publicKey, 'a public key'));
    if (id === this.id) return [];
    const presharedKey = presharedKeyOf(config);
    this.allowedIps.removeAll(id);
    for (const prefix of config.allowedIps) this.allowedIps.insert(prefix, id);

    const known = this.#peers.get(id);
    const before = known?.endpoints.current;
    const peer = known ?? this.#newPeer(id, config);
    peer.presharedKey?.fill(0);
    peer.presharedKey = presharedKey;
    peer.endpoints.announce(config.endpoints);
    peer.persistentKeepalive = config.persistentKeepalive ?? 0;
    // An initiation that had nowhere to go need not wait for its retry.
    if (peer.attempt !== undefined && peer.attempt.state === undefined)
      peer.attempt = { ...peer.attempt, retryAt: Number.NEGATIVE_INFINITY };
    this.#schedule(peer);
    const { current } = peer.endpoints;
    return isSameOrNone(before, current) ? [] : [{ kind: 'set-endpoint', peer: id, endpoint: current }];
  }

  #newPeer(id: PeerId, config: PeerConfig): Peer {
    const peer = new Peer(
      id,
      new Endpoints(config.endpoints, config.learnedEndpoint),
      this.#made,
      this.#ofPeers,
    );
    this.#made += 1;
    this.#peers.set(id, peer);
    return peer;
  }

  /** From now on packets go there, as if one had come from there. */
  setEndpoint(id: PeerId, endpoint: Endpoint): Action[] {
    const peer = this.#peers.get(id);
    return peer === undefined ? [] : learn(peer, endpoint);
  }

  /** Ends the peer's sessions and forgets it. */
  removePeer(id: PeerId): Action[] {
    const peer = this.#peers.get(id);
    if (peer === undefined) return [];
    this.#peers.delete(id);
    this.allowedIps.removeAll(id);
    const actions = this.#endSessions(peer);
    this.#deadlines.delete(peer);
    this.#moving.delete(peer);
    peer.wipe();
    return [...actions, { kind: 'set-endpoint', peer: id, endpoint: undefined }];
  }

  /**
   * Ends all sessions and attempts, as when the link goes down. Where peers are stays, and which of their timestamps were
   * seen; until the device is ticked again it begins nothing.
   */
  endSessions(): Action[] {
    return [...this.#peers.values()].flatMap((peer) => this.#endSessions(peer));
  }

  #endSessions(peer: Peer): Action[] {
    this.#handshakes.endAttempt(peer);
    peer.restart();
    const forgotten = peer.forgetKeypairs(() => true);
    this.#schedule(peer);
    return [
      { kind: 'use-keypair', peer: peer.id, localIndex: undefined },
      ...this.#handshakes.removeKeypairs(forgotten),
      { kind: 'drop-staged', peer: peer.id },
    ];
  }

  /** Removes all peers and wipes the private key: the device is of no use any more. */
  close(): Action[] {
    const actions = this.peerIds.flatMap((id) => this.removePeer(id));
    this.#own.privateKey.fill(0);
    this.#handshakes.wipe();
    return actions;
  }

  // --- what makes us speak

  /** Starts a handshake with the peer; when one is under way or just was, it is prolonged or waits its turn. */
  initiate(id: PeerId, now: number, wallclock: number): Action[] {
    const peer = this.#peers.get(id);
    if (peer === undefined) return [];
    const actions = this.#initiate(peer, now, wallclock);
    this.#schedule(peer);
    return actions;
  }

  event(event: DataPlaneEvent, now: number, wallclock: number): Action[] {
    const peer = this.#peers.get(event.peer);
    if (peer === undefined) return [];
    const actions = this.#event(peer, event, now, wallclock);
    this.#schedule(peer);
    return actions;
  }

  #event(peer: Peer, event: DataPlaneEvent, now: number, wallclock: number): Action[] {
    switch (event.kind) {
      case 'handshake-needed':
        return this.#handshakeNeeded(peer, now, wallclock);
      case 'keypair-confirmed':
        return this.#handshakes.confirm(peer, event.localIndex, now, wallclock);
      case 'endpoint-moved':
        return learn(peer, event.endpoint);
    }
  }

  /**
   * A data plane with threads of its own may ask for a handshake that has just ended. Begun anew it would be in vain, so
   * a young session is looked at again before: only one whose counter is used up needs another.
   */
  #handshakeNeeded(peer: Peer, now: number, wallclock: number): Action[] {
    const { current } = peer;
    if (current === undefined || now - current.createdAt >= REKEY_TIMEOUT)
      return this.#initiate(peer, now, wallclock);
    peer.lookAgainAt = current.createdAt + REKEY_TIMEOUT;
    return [];
  }

  /**
   * Looks at the peers for whom something is due or may have moved; to be called several times a second. `activity` may return
   * the same object each time.
   */
  tick(now: number, wallclock: number, activity: (peer: PeerId) => Activity | undefined): Action[] {
    const actions: Action[] = [];
    for (const peer of this.#toLookAt(now)) {
      // It is looked at once more after its last keypair has gone: something may have moved until then.
      if (!peer.isInSession) this.#moving.delete(peer);
      actions.push(...this.#tickPeer(peer, now, wallclock, activity(peer.id)));
      this.#schedule(peer);
    }
    return actions;
  }

  /** In the order in which they were configured. */
  #toLookAt(now: number): Peer[] {
    const peers = new Set(this.#moving);
    for (const peer of this.#deadlines.due(now)) peers.add(peer);
    return [...peers].sort((a, b) => a.number - b.number);
  }

  /** To be called whenever something was done for the peer. */
  #schedule(peer: Peer): void {
    this.#deadlines.set(peer, peer.nextDeadline);
    if (peer.isInSession) this.#moving.add(peer);
  }

  /** When a tick would do something even if nothing moves; Infinity: never. */
  get nextDeadline(): number {
    return this.#deadlines.next;
  }

  #tickPeer(peer: Peer, now: number, wallclock: number, activity: Activity | undefined): Action[] {
    const actions = this.#expireKeypairs(peer, now);
    const wantsRekey = activity !== undefined && peer.timers.observe(activity, peer.current);
    if (peer.attempt !== undefined && now >= peer.attempt.retryAt)
      actions.push(...this.#retry(peer, peer.attempt.giveUpAt, now, wallclock));
    const isWaitOver = peer.initiateAt !== undefined && now >= peer.initiateAt;
    if (peer.timers.takeNewHandshake(now) || wantsRekey || isWaitOver || isUsedUp(peer, now, activity))
      actions.push(...this.#initiate(peer, now, wallclock));
    actions.push(...this.#keepAlive(peer, now, wallclock));
    return actions;
  }

  /**
   * Deviation from section 6.3, on the strict side: keypairs are forgotten at REJECT_AFTER_TIME, when they become
   * useless, not at three times that; an unanswered initiation's ephemeral key goes when the attempt is given up.
   */
  #expireKeypairs(peer: Peer, now: number): Action[] {
    const before = peer.current;
    const over = peer.forgetKeypairs(({ createdAt }) => now - createdAt >= REJECT_AFTER_TIME);
    const actions = this.#handshakes.removeKeypairs(over);
    if (before !== undefined && peer.current === undefined)
      actions.unshift({ kind: 'use-keypair', peer: peer.id, localIndex: undefined });
    return actions;
  }

  #initiate(peer: Peer, now: number, wallclock: number): Action[] {
    if (peer.remote.staticStatic === undefined) return [];
    const giveUpAt = now + REKEY_ATTEMPT_TIME;
    if (peer.attempt !== undefined) {
      peer.attempt = { ...peer.attempt, giveUpAt };
      return [];
    }
    const earliest = peer.handshakeSentAt + REKEY_TIMEOUT;
    if (now >= earliest) return this.#handshakes.sendInitiation(peer, giveUpAt, now, wallclock);
    peer.initiateAt = earliest;
    return [];
  }

  #retry(peer: Peer, giveUpAt: number, now: number, wallclock: number): Action[] {
    if (peer.attempt?.state !== undefined) peer.endpoints.unanswered();
    this.#handshakes.endAttempt(peer);
    if (now >= giveUpAt) return [{ kind: 'drop-staged', peer: peer.id }];
    return this.#handshakes.sendInitiation(peer, giveUpAt, now, wallclock);
  }

  #keepAlive(peer: Peer, now: number, wallclock: number): Action[] {
    const due = peer.timers.takeKeepalive(now);
    if (due === undefined) return [];
    if (peer.current !== undefined) return [{ kind: 'send-keepalive', peer: peer.id }];
    return due === 'persistent' ? this.#initiate(peer, now, wallclock) : [];
  }

  // --- handshake messages received

  /** Whether mac1 shows that the sender means us. */
  verifyMac1(macs: Macs): boolean {
    return this.#handshakes.verifyMac1(macs);
  }

  /** Whether mac2 shows that the sender receives what is sent to `source`. */
  verifyMac2(macs: Macs, source: Endpoint, now: number): boolean {
    return this.#handshakes.verifyMac2(macs, source, now);
  }

  /** Answers a message with the cookie that its next try needs. */
  replyWithCookie(message: Initiation | Response, source: Endpoint, now: number): Action[] {
    return this.#handshakes.replyWithCookie(message, source, now);
  }

  /** Whether an initiation of ours waits for this response and none that was forged has come before it. */
  isAwaited(response: Response): boolean {
    return this.#handshakes.isAwaited(response);
  }

  /** Types 1 to 3 whose mac1 was verified; others and malformed ones are counted and dropped. Borrows `datagram`. */
  receiveHandshake(datagram: Uint8Array, source: Endpoint, now: number, wallclock: number): Action[] {
    const initiation = Initiation.parse(datagram);
    if (initiation !== undefined) return this.#handshakes.receiveInitiation(initiation, source, now);
    const response = Response.parse(datagram);
    if (response !== undefined) return this.#handshakes.receiveResponse(response, source, now, wallclock);
    const cookieReply = CookieReply.parse(datagram);
    if (cookieReply !== undefined) return this.#handshakes.receiveCookieReply(cookieReply, now);
    this.drops.count('malformed-message');
    return [];
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
    return this.#peers.get(id)?.status;
  }
}

/** Whether the look at a session that was said to be of no use is due, and finds it so. */
const isUsedUp = (peer: Peer, now: number, activity: Activity | undefined): boolean => {
  if (peer.lookAgainAt === undefined || now < peer.lookAgainAt) return false;
  peer.lookAgainAt = undefined;
  return peer.current === undefined || (activity?.sendCounter ?? 0) >= REKEY_AFTER_MESSAGES;
};

/** The name of a public key within a device. */
export const peerId = (publicKey: Uint8Array): PeerId => bytesToHex(publicKey);

const isSameOrNone = (a: Endpoint | undefined, b: Endpoint | undefined): boolean =>
  a === undefined || b === undefined ? a === b : sameEndpoint(a, b);
