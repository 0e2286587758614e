// The reference data plane: what src/datapath does with worker threads, done plainly, one packet at a time. This file
// carries out a device's actions; the packet path is in outbound.ts and inbound.ts, what they share in plane.ts. Sealing
// allocates and is slow: for tests, the simulator and reading.

import type { Primitives } from '../noise/primitives.ts';
import { NOT_ECT } from '../wire/ecn.ts';
import type { AllowedIps } from './allowed-ips.ts';
import type { Action, Activity, DataPlaneEvent, PeerId } from './data-plane.ts';
import { Drops } from './drops.ts';
import { sendKeepalive, sendStaged } from './outbound.ts';
import { type Inside, InstalledKeypair, type Outside, type Plane, PlanePeer } from './plane.ts';

export interface ReferenceDataPlaneDependencies {
  readonly primitives: Primitives;
  readonly allowedIps: AllowedIps<PeerId>;
  readonly inside: Inside;
  readonly outside: Outside;
  /** Called at once, in the middle of the packet path: it must only take note. */
  readonly report: (event: DataPlaneEvent) => void;
}

export class ReferenceDataPlane implements Plane {
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
        this.outside.send(action.datagram, action.endpoint, NOT_ECT);
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
    if (peer.inUse !== undefined) sendStaged(this, peer, now);
  }

  #dropStaged(peer: PlanePeer): void {
    for (const _ of peer.staged) this.drops.count('handshake-given-up');
    peer.staged = [];
  }

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
    const { activity, inUse } = this.peer(id);
    activity.sendCounter = inUse?.sendCounter ?? 0;
    return activity;
  }

  keypair(localIndex: number): InstalledKeypair | undefined {
    return this.#keypairs.get(localIndex);
  }
}
