// What the reference's packet path works on: a data plane's peers and installed keypairs, and its two ends. No decision.

import type { Primitives } from '../noise/primitives.ts';
import { ReplayWindow } from '../noise/replay.ts';
import { wipe } from '../noise/wipe.ts';
import type { AllowedIps } from './allowed-ips.ts';
import type { Activity, DataPlaneEvent, Endpoint, Keypair, PeerId } from './data-plane.ts';
import type { Drops } from './drops.ts';

/** The inside: what a TUN is to the packet path. Keeps `packet`. */
export interface Inside {
  deliver(packet: Uint8Array): void;
}

/** The outside: what a UDP socket is to the packet path. Keeps `datagram`. */
export interface Outside {
  /** `mark`: the ECN bits of the outer header. */
  send(datagram: Uint8Array, endpoint: Endpoint, mark: number): void;
}

/** An installed keypair with its counter and its window. */
export class InstalledKeypair {
  readonly peer: PlanePeer;
  /** Its keys are this object's own. */
  readonly keypair: Omit<Keypair, 'sendKey' | 'receiveKey'>;
  readonly replay = new ReplayWindow();
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  /** The counter of the next message. */
  sendCounter = 0;

  /** Borrows the keys. */
  constructor(peer: PlanePeer, { sendKey, receiveKey, ...keypair }: Keypair) {
    this.peer = peer;
    this.keypair = keypair;
    this.sendKey = sendKey.slice();
    this.receiveKey = receiveKey.slice();
  }

  wipe(): void {
    wipe(this.sendKey, this.receiveKey);
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

/** A data plane as outbound.ts and inbound.ts see it. */
export interface Plane {
  /** Of the inside, in bytes; padding stops at it. */
  readonly mtu: number;
  readonly drops: Drops;
  readonly primitives: Primitives;
  readonly allowedIps: AllowedIps<PeerId>;
  readonly inside: Inside;
  readonly outside: Outside;
  /** Called at once, in the middle of the packet path: it must only take note. */
  readonly report: (event: DataPlaneEvent) => void;
  /** The peer of this name, made when first named. */
  peer(id: PeerId): PlanePeer;
  /** The installed keypair that this receiver index names. */
  keypair(localIndex: number): InstalledKeypair | undefined;
}
