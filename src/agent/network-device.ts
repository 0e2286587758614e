// One network's device on this node with its TUN, and their places at the node's port and in its datapath. What the
// device decides is carried out here and nowhere else. Not here: who the peers are (peers.ts).

import type { Action, Activity, DataPlaneEvent, PeerId } from '../../native-free/device/data-plane.ts';
import { Device, type PeerConfig, type PeerStatus } from '../../native-free/device/device.ts';
import type { DropReason } from '../../native-free/device/drops.ts';
import type { Primitives, RandomBytes } from '../../native-free/noise/primitives.ts';
import type { Port } from '../../native-free/port/port.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { closeTun, openTun, removeTun, type Tun } from '../datapath/tun.ts';
import { namedNamespacePath } from '../netns/namespace.ts';
import type { Clock } from './clock.ts';

/** The TUN's name in each router namespace. */
export const TUN_NAME = 'vl3';

export interface NetworkDeviceOptions {
  readonly network: string;
  /** The name of its router namespace, which exists. */
  readonly router: string;
  readonly mtu: number;
  /** 32 B. */
  readonly privateKey: Uint8Array;
  /** As `timestampMark` gave it in an earlier life. */
  readonly timestampMark: Uint8Array;
}

export interface NetworkDeviceDeps {
  readonly datapath: Datapath;
  readonly port: Port;
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly clock: Clock;
}

export class NetworkDevice {
  readonly #network: string;
  readonly #deps: NetworkDeviceDeps;
  readonly #device: Device;
  readonly #tun: Tun;
  #sessions = 0;

  private constructor(network: string, deps: NetworkDeviceDeps, device: Device, tun: Tun) {
    this.#network = network;
    this.#deps = deps;
    this.#device = device;
    this.#tun = tun;
  }

  /** Opens the TUN, or takes it up again. Its owner has to route the datapath's events here from then on. */
  static open(options: NetworkDeviceOptions, deps: NetworkDeviceDeps): NetworkDevice {
    const { network, router, mtu, privateKey, timestampMark } = options;
    const { primitives, random, port, datapath } = deps;
    const device = new Device({ privateKey, timestampMark }, { primitives, random, indices: port });
    const tun = openTun({ name: TUN_NAME, netns: namedNamespacePath(router), allowOffloads: true });
    try {
      datapath.addDevice(network, tun, mtu);
    } catch (error) {
      closeTun(tun);
      throw error;
    }
    port.add(device);
    return new NetworkDevice(network, deps, device, tun);
  }

  get publicKey(): Uint8Array {
    return this.#device.publicKey;
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
    return this.#deps.datapath.activity(this.#network, peer);
  }

  /** Whether this is the device that the port found a handshake message to be for. */
  is(device: Device): boolean {
    return this.#device === device;
  }

  carry(actions: readonly Action[]): void {
    if (actions.length === 0) return;
    this.#deps.datapath.apply(this.#network, actions);
    for (const action of actions) {
      if (action.kind === 'use-keypair' && action.localIndex !== undefined) this.#sessions++;
    }
  }

  event(event: DataPlaneEvent): void {
    const { clock } = this.#deps;
    this.carry(this.#device.event(event, clock.monotonic(), clock.wall()));
  }

  tick(): void {
    const { clock } = this.#deps;
    this.carry(this.#device.tick(clock.monotonic(), clock.wall(), (peer) => this.activity(peer)));
  }

  initiate(peer: PeerId): void {
    const { clock } = this.#deps;
    this.carry(this.#device.initiate(peer, clock.monotonic(), clock.wall()));
  }

  /** Adds the peer or changes it. Packets are routed to it by the next `publishAllowedIps`. */
  setPeer(peer: PeerId, config: PeerConfig): void {
    this.#deps.datapath.addPeer(this.#network, peer);
    this.carry(this.#device.setPeer(config));
  }

  removePeer(peer: PeerId): void {
    this.carry(this.#device.removePeer(peer));
    this.#deps.datapath.removePeer(this.#network, peer);
  }

  /** Hands the datapath the allowed IPs of all peers. */
  publishAllowedIps(): void {
    const entries = [...this.#device.allowedIps.entries()].map(({ prefix, value }) => ({
      prefix,
      peer: value,
    }));
    this.#deps.datapath.setAllowedIps(this.#network, entries);
  }

  setMtu(mtu: number): void {
    this.#deps.datapath.setMtu(this.#network, mtu);
  }

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

  async #release(): Promise<void> {
    this.#deps.port.remove(this.#device);
    this.carry(this.#device.close());
    await this.#deps.datapath.removeDevice(this.#network);
  }
}
