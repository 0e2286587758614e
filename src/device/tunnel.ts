// One device with its TUN, and their places at a port and in a datapath, which it may share with others. What the device
// decides is carried out here and nowhere else. Not here: who the peers are (agent/peers.ts, wireguard-device.ts).

import {
  type Action,
  type Activity,
  type DataPlaneEvent,
  type Endpoint,
  type PeerId,
  wipeKeys,
} from '../../native-free/device/data-plane.ts';
import { Device } from '../../native-free/device/device.ts';
import type { DropReason } from '../../native-free/device/drops.ts';
import { type PathAction, type PathEvent, PathMtus } from '../../native-free/device/path-mtus.ts';
import type { PeerStatus } from '../../native-free/device/peer.ts';
import type { PeerConfig } from '../../native-free/device/peer-config.ts';
import { mac1KeyOf } from '../../native-free/noise/cookie.ts';
import type { Primitives, RandomBytes } from '../../native-free/noise/primitives.ts';
import type { Port } from '../../native-free/port/port.ts';
import type { AllowedIpsOf, Datapath } from '../datapath/datapath.ts';
import { closeTun, openTun, removeTun, type Tun, type TunOptions } from '../datapath/tun.ts';
import { type Link, readLink } from './link.ts';

/** Milliseconds: since boot, and since 1970. */
export interface TunnelClock {
  monotonic(): number;
  wall(): number;
}

export interface TunnelOptions {
  /** Among those of the datapath. */
  readonly name: string;
  readonly tun: TunOptions;
  /** Of the inside, in bytes. */
  readonly mtu: number;
  /** 32 B. */
  readonly privateKey: Uint8Array;
  /** As `timestampMark` gave it in an earlier life. */
  readonly timestampMark?: Uint8Array | undefined;
}

export interface TunnelDeps {
  readonly datapath: Datapath;
  readonly port: Port;
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly clock: TunnelClock;
}

export class Tunnel {
  readonly name: string;
  readonly #deps: TunnelDeps;
  readonly #tun: Tun;
  readonly #paths: PathMtus;
  #device: Device;
  #sessions = 0;
  #isAsleep = false;
  /** Who packets came for while it slept: the link may be up before it is known to be, and nobody asks twice. */
  readonly #wanted = new Set<PeerId>();

  private constructor(name: string, deps: TunnelDeps, device: Device, tun: Tun, mtu: number) {
    this.name = name;
    this.#paths = new PathMtus(mtu);
    this.#deps = deps;
    this.#device = device;
    this.#tun = tun;
  }

  /** Opens the TUN, or takes it up again. Its owner has to route the datapath's events here from then on. */
  static open(options: TunnelOptions, deps: TunnelDeps): Tunnel {
    const { name, mtu } = options;
    const device = makeDevice(options, deps);
    const tun = openTun({ ...options.tun, queues: deps.datapath.pairs });
    try {
      deps.datapath.addDevice(name, tun, mtu);
    } catch (error) {
      closeTun(tun);
      throw error;
    }
    deps.datapath.setMac1Key(name, mac1KeyOf(deps.primitives, device.publicKey));
    deps.port.add(device);
    return new Tunnel(name, deps, device, tun, mtu);
  }

  get publicKey(): Uint8Array {
    return this.#device.publicKey;
  }

  /** What it would be called as a peer. */
  get id(): PeerId {
    return this.#device.id;
  }

  /** For the port, whose messages are for it. */
  get device(): Device {
    return this.#device;
  }

  get timestampMark(): Uint8Array {
    return this.#device.timestampMark;
  }

  /** Keypairs taken into use since it was opened. */
  get sessions(): number {
    return this.#sessions;
  }

  /** Handshake messages it dropped, by reason. */
  get drops(): [DropReason, number][] {
    return this.#device.drops.entries();
  }

  get peerIds(): PeerId[] {
    return this.#device.peerIds;
  }

  status(peer: PeerId): PeerStatus | undefined {
    return this.#device.status(peer);
  }

  activity(peer: PeerId): Activity | undefined {
    return this.#deps.datapath.activity(this.name, peer);
  }

  /** Whether this is the device that the port found a handshake message to be for. */
  is(device: Device): boolean {
    return this.#device === device;
  }

  carry(actions: readonly Action[]): void {
    if (actions.length === 0) return;
    this.#deps.datapath.apply(this.name, actions);
    wipeKeys(actions);
    const now = this.#deps.clock.monotonic();
    for (const action of actions) {
      if (action.kind === 'use-keypair' && action.localIndex !== undefined) {
        this.#sessions++;
        this.#paths.sessionBegun(action.peer, now);
      } else if (action.kind === 'set-endpoint') {
        this.#carryPaths(this.#paths.setAddress(action.peer, action.endpoint?.address, now));
      }
    }
  }

  /** Something was learned of what the way to a peer carries. */
  pathEvent(event: PathEvent): void {
    if (!this.#isAsleep) this.#carryPaths(this.#paths.event(event, this.#deps.clock.monotonic()));
  }

  #carryPaths(actions: readonly PathAction[]): void {
    if (actions.length > 0) this.#deps.datapath.applyToPaths(this.name, actions);
  }

  event(event: DataPlaneEvent): void {
    if (this.#isAsleep) {
      if (event.kind === 'handshake-needed') this.#wanted.add(event.peer);
      return;
    }
    const { clock } = this.#deps;
    this.carry(this.#device.event(event, clock.monotonic(), clock.wall()));
  }

  tick(): void {
    if (this.#isAsleep) return;
    const { clock } = this.#deps;
    this.carry(this.#device.tick(clock.monotonic(), clock.wall(), (peer) => this.activity(peer)));
    const dataSentAt = (peer: PeerId): number => this.activity(peer)?.dataSentAt ?? 0;
    this.#carryPaths(this.#paths.tick(clock.monotonic(), dataSentAt));
  }

  initiate(peer: PeerId): void {
    const { clock } = this.#deps;
    this.carry(this.#device.initiate(peer, clock.monotonic(), clock.wall()));
  }

  // --- configuration

  /** Another key is another device: all sessions end, and its peers have to be set again. What was counted stays. */
  setKey(privateKey: Uint8Array): void {
    const device = makeDevice({ privateKey }, this.#deps);
    this.#closeDevice();
    this.#device = device;
    this.#deps.datapath.setMac1Key(this.name, mac1KeyOf(this.#deps.primitives, device.publicKey));
    if (!this.#isAsleep) this.#deps.port.add(device);
  }

  /** How many more peers this node has room for, in all its networks. */
  get roomForPeers(): number {
    return this.#deps.datapath.roomForPeers;
  }

  /**
   * Adds the peer or changes it. Packets are routed to it by the next `publishAllowedIps`. False, and nothing is done, when
   * the node has no room for another peer.
   */
  setPeer(peer: PeerId, config: PeerConfig): boolean {
    if (!this.#deps.datapath.addPeer(this.name, peer)) return false;
    this.carry(this.#device.setPeer(config));
    return true;
  }

  removePeer(peer: PeerId): void {
    this.carry(this.#device.removePeer(peer));
    this.#deps.datapath.removePeer(this.name, peer);
  }

  /** From now on packets go there, as if one had come from there. */
  setEndpoint(peer: PeerId, endpoint: Endpoint): void {
    this.carry(this.#device.setEndpoint(peer, endpoint));
  }

  /** Hands the datapath the allowed IPs of all peers. */
  publishAllowedIps(): void {
    this.#deps.datapath.setAllowedIps(this.name, { [Symbol.iterator]: () => this.#allowedIps() });
  }

  *#allowedIps(): Generator<AllowedIpsOf> {
    for (const { prefix, value } of this.#device.allowedIps.entries()) yield { prefix, peer: value };
  }

  setMtu(mtu: number): void {
    this.#deps.datapath.setMtu(this.name, mtu);
    this.#carryPaths(this.#paths.setInnerMtu(mtu, this.#deps.clock.monotonic()));
  }

  /** The greatest outer packet that is known to pass to the peer; undefined: not known. */
  pathMtu(peer: PeerId): number | undefined {
    return this.#paths.of(peer)?.size;
  }

  /** Where the peer's packets go, and from which address of ours. */
  pathTo(peer: PeerId): Endpoint | undefined {
    return this.#deps.datapath.pathTo(this.name, peer);
  }

  /** The peer's packets leave from whatever address the kernel picks, until it speaks to one again. */
  anySource(peer: PeerId): void {
    this.#deps.datapath.anySource(this.name, peer);
  }

  /** The link is down: all sessions end, and until `wake` it begins and answers nothing. */
  sleep(): void {
    if (this.#isAsleep) return;
    this.#isAsleep = true;
    this.#wanted.clear();
    this.#deps.port.remove(this.#device);
    this.carry(this.#device.endSessions());
  }

  wake(): void {
    if (!this.#isAsleep) return;
    this.#isAsleep = false;
    this.#deps.port.add(this.#device);
    this.tick();
    for (const peer of this.#wanted) this.event({ kind: 'handshake-needed', peer });
    this.#wanted.clear();
  }

  /** Undefined when that cannot be told. */
  get link(): Link | undefined {
    return readLink(this.#tun);
  }

  // --- the end

  /** Ends all sessions. The interface stays in the kernel, with its addresses and routes. */
  async close(): Promise<void> {
    await this.#release();
    closeTun(this.#tun);
  }

  /** As `close`, and the interface goes. */
  async remove(): Promise<void> {
    await this.#release();
    removeTun(this.#tun);
  }

  #closeDevice(): void {
    this.#deps.port.remove(this.#device);
    this.carry(this.#device.close());
  }

  async #release(): Promise<void> {
    this.#closeDevice();
    await this.#deps.datapath.removeDevice(this.name);
  }
}

const makeDevice = (
  { privateKey, timestampMark }: Pick<TunnelOptions, 'privateKey' | 'timestampMark'>,
  { primitives, random, port }: TunnelDeps,
): Device => new Device({ privateKey, timestampMark }, { primitives, random, indices: port });
