// The reference data plane: what src/datapath does with worker threads, done plainly, one packet at a time. This file
// holds what it knows (peers, installed keypairs) and carries out a device's actions; the packet path is in
// outbound.ts and inbound.ts. Sealing allocates and is slow: for tests, the simulator and reading.

import type { Primitives } from '../noise/primitives.ts';
import { ReplayWindow } from '../noise/replay.ts';
import type { AllowedIps } from './allowed-ips.ts';
import type { Action, Activity, DataPlaneEvent, Endpoint, Keypair, PeerId } from './data-plane.ts';
import { Drops } from './drops.ts';
import { sendKeepalive, sendStaged } from './outbound.ts';

/** The inside: what a TUN is to the packet path. Keeps `packet`. */
export interface Inside {
  deliver(packet: Uint8Array): void;
}

/** The outside: what a UDP socket is to the packet path. Keeps `datagram`. */
export interface Outside {
  send(datagram: Uint8Array, endpoint: Endpoint): void;
}

/** An installed keypair with its counter and its window. */
export class InstalledKeypair {
  readonly peer: PlanePeer;
  readonly keypair: Keypair;
  readonly replay = new ReplayWindow();
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  /** The counter of the next message. */
  sendCounter = 0;

  constructor(peer: PlanePeer, keypair: Keypair) {
    this.peer = peer;
    this.keypair = keypair;
    this.sendKey = keypair.sendKey.slice();
    this.receiveKey = keypair.receiveKey.slice();
  }

  wipe(): void {
    this.sendKey.fill(0);
    this.receiveKey.fill(0);
  }
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** A peer as the packet path sees it. */
export class PlanePeer {
  readonly id: PeerId;
  endpoint: Endpoint | undefined;
  inUse: InstalledKeypair | undefined;
  /** Packets that wait for a keypair, oldest first; at most STAGED_LIMIT. */
  staged: Uint8Array[] = [];
  readonly activity: Mutable<Activity> = {
    dataSentAt: 0,
    sentAt: 0,
    dataReceivedAt: 0,
    receivedAt: 0,
    sendCounter: 0,
    txBytes: 0,
    rxBytes: 0,
  };

  constructor(id: PeerId) {
    this.id = id;
  }
}

export interface ReferenceDataPlaneDependencies {
  readonly primitives: Primitives;
  readonly allowedIps: AllowedIps<PeerId>;
  readonly inside: Inside;
  readonly outside: Outside;
  /** Called at once, in the middle of the packet path: it must only take note. */
  readonly report: (event: DataPlaneEvent) => void;
}

export class ReferenceDataPlane {
  /** Of the inside, in bytes; padding stops at it. */
  mtu: number;
  readonly drops = new Drops();
  readonly primitives: Primitives;
  readonly allowedIps: AllowedIps<PeerId>;
  readonly inside: Inside;
  readonly outside: Outside;
  readonly report: (event: DataPlaneEvent) => void;
  readonly #peers = new Map<PeerId, PlanePeer>();
  readonly #keypairs = new Map<number, InstalledKeypair>();

  constructor(mtu: number, dependencies: ReferenceDataPlaneDependencies) {
    this.mtu = mtu;
    this.primitives = dependencies.primitives;
    this.allowedIps = dependencies.allowedIps;
    this.inside = dependencies.inside;
    this.outside = dependencies.outside;
    this.report = dependencies.report;
  }

  carryOut(action: Action, now: number): void {
    switch (action.kind) {
      case 'send':
        this.outside.send(action.datagram, action.endpoint);
        break;
      case 'install-keypair':
        this.#keypairs.set(
          action.keypair.localIndex,
          new InstalledKeypair(this.peer(action.peer), action.keypair),
        );
        break;
      case 'use-keypair':
        this.#use(this.peer(action.peer), action.localIndex, now);
        break;
      case 'remove-keypair':
        this.#keypairs.get(action.localIndex)?.wipe();
        this.#keypairs.delete(action.localIndex);
        break;
      case 'set-endpoint':
        this.peer(action.peer).endpoint = action.endpoint;
        break;
      case 'send-keepalive':
        sendKeepalive(this, this.peer(action.peer), now);
        break;
      case 'drop-staged':
        this.#dropStaged(this.peer(action.peer));
        break;
    }
  }

  #use(peer: PlanePeer, localIndex: number | undefined, now: number): void {
    peer.inUse = localIndex === undefined ? undefined : this.#keypairs.get(localIndex);
    peer.activity.sendCounter = peer.inUse?.sendCounter ?? 0;
    if (peer.inUse !== undefined) sendStaged(this, peer, now);
  }

  #dropStaged(peer: PlanePeer): void {
    for (const _ of peer.staged) this.drops.count('handshake-given-up');
    peer.staged = [];
  }

  /** The peer of this name, made when first named. */
  peer(id: PeerId): PlanePeer {
    const known = this.#peers.get(id);
    if (known !== undefined) return known;
    const peer = new PlanePeer(id);
    this.#peers.set(id, peer);
    return peer;
  }

  forget(id: PeerId): void {
    this.#peers.delete(id);
  }

  activity(id: PeerId): Activity {
    return this.peer(id).activity;
  }

  keypair(localIndex: number): InstalledKeypair | undefined {
    return this.#keypairs.get(localIndex);
  }
}
