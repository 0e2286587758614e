// One WireGuard device by itself: a static key, a TUN and a UDP port, with the peers it is given. No registry, no
// agent, no files; addresses, routes and the interface's state are the caller's. It composes native-free's Device and
// Port with the datapath, as the agent does for many networks.

import type { Action, Activity, Endpoint, PeerId } from '../../native-free/device/data-plane.ts';
import { Device, type PeerConfig, type PeerStatus } from '../../native-free/device/device.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { Primitives, RandomBytes } from '../../native-free/noise/primitives.ts';
import { Port } from '../../native-free/port/port.ts';
import { Datapath, type DatapathOptions } from '../datapath/datapath.ts';
import { openTun, removeTun, type Tun, type TunOptions } from '../datapath/tun.ts';

export interface StandaloneDeviceOptions extends DatapathOptions {
  /** 32 B; borrowed. */
  readonly privateKey: Uint8Array;
  readonly tun: TunOptions;
  /** Of the inside, in bytes. */
  readonly mtu: number;
}

export interface StandaloneDeviceDependencies {
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly clock: { monotonic(): number; wall(): number };
}

export interface StandalonePeerStatus extends PeerStatus, Activity {}

const TICK_MS = 100;

export class StandaloneDevice implements AsyncDisposable {
  /** Rejects when the datapath dies or the TUN is taken away: nothing moves any more. */
  readonly failed: Promise<never>;
  readonly #device: Device;
  readonly #port: Port;
  readonly #clock: StandaloneDeviceDependencies['clock'];
  readonly #tun: Tun;
  readonly #fail: (error: Error) => void;
  #datapath: Datapath | undefined;
  #ticking: NodeJS.Timeout | undefined;

  /** Opens port and TUN and moves packets from then on. Both sockets stay in the calling thread's namespace. */
  static async start(
    options: StandaloneDeviceOptions,
    dependencies: StandaloneDeviceDependencies,
  ): Promise<StandaloneDevice> {
    const standalone = new StandaloneDevice(options, dependencies);
    try {
      await standalone.#open(options);
      return standalone;
    } catch (error) {
      await standalone[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(options: StandaloneDeviceOptions, dependencies: StandaloneDeviceDependencies) {
    const { primitives, random, clock } = dependencies;
    const failure = Promise.withResolvers<never>();
    failure.promise.catch(() => {});
    this.failed = failure.promise;
    this.#fail = failure.reject;
    this.#clock = clock;
    this.#port = new Port({ random });
    this.#device = new Device(options, { primitives, random, indices: this.#port });
    this.#tun = openTun(options.tun);
  }

  async #open(options: StandaloneDeviceOptions): Promise<void> {
    const { id } = this.#device;
    this.#datapath = await Datapath.start(options, {
      onEvent: (_, event) =>
        this.#carry(this.#device.event(event, this.#clock.monotonic(), this.#clock.wall())),
      onDatagram: (datagram, source, waiting) => this.#receive(datagram, source, waiting),
      onDeviceLost: () =>
        this.#fail(new Vl3Error('failed-precondition', `the interface ${this.#tun.name} is gone`)),
      onFailure: (cause) => this.#fail(new Vl3Error('internal', 'the datapath died', { cause })),
    });
    this.#datapath.addDevice(id, this.#tun, options.mtu);
    this.#port.add(this.#device);
    this.#ticking = setInterval(() => this.#tick(), TICK_MS);
  }

  get publicKey(): Uint8Array {
    return this.#device.publicKey;
  }

  /** The UDP port. */
  get port(): number {
    return this.#running.port;
  }

  // --- peers

  /** Adds a peer or changes it; its sessions go on. Throws on a malformed key. */
  setPeer(config: PeerConfig): void {
    const actions = this.#device.setPeer(config);
    for (const id of this.#device.peerIds) this.#running.addPeer(this.#device.id, id);
    this.#carry(actions);
    this.#publishAllowedIps();
  }

  removePeer(id: PeerId): void {
    this.#carry(this.#device.removePeer(id));
    this.#running.removePeer(this.#device.id, id);
    this.#publishAllowedIps();
  }

  get peers(): StandalonePeerStatus[] {
    return this.#device.peerIds.flatMap((id) => {
      const status = this.#device.status(id);
      const activity = this.#running.activity(this.#device.id, id);
      return status === undefined || activity === undefined ? [] : [{ ...status, ...activity }];
    });
  }

  /** What was counted, by name; drops among it. */
  get counts(): Readonly<Record<string, number>> {
    const { egress, ingress } = this.#running.stats();
    const handshakes = [...this.#port.drops.entries(), ...this.#device.drops.entries()];
    return {
      ...Object.fromEntries(Object.entries(egress).map(([name, n]) => [`egress ${name}`, n])),
      ...Object.fromEntries(Object.entries(ingress).map(([name, n]) => [`ingress ${name}`, n])),
      ...Object.fromEntries(handshakes.map(([name, n]) => [`handshake dropped:${name}`, n])),
    };
  }

  // --- what happens

  #receive(datagram: Uint8Array, source: Endpoint, waiting: number): void {
    const { monotonic, wall } = this.#clock;
    const received = this.#port.receive(datagram, source, monotonic(), wall(), waiting);
    if (received !== undefined) this.#carry(received.actions);
  }

  #tick(): void {
    const datapath = this.#running;
    const { monotonic, wall } = this.#clock;
    this.#carry(this.#device.tick(monotonic(), wall(), (peer) => datapath.activity(this.#device.id, peer)));
  }

  #carry(actions: readonly Action[]): void {
    if (actions.length > 0) this.#running.apply(this.#device.id, actions);
  }

  #publishAllowedIps(): void {
    const entries = [...this.#device.allowedIps.entries()];
    this.#running.setAllowedIps(
      this.#device.id,
      entries.map(({ prefix, value }) => ({ prefix, peer: value })),
    );
  }

  get #running(): Datapath {
    if (this.#datapath === undefined) throw new Vl3Error('internal', 'the device is not running');
    return this.#datapath;
  }

  /** Ends all sessions, closes the port and removes the TUN. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#ticking);
    this.#port.remove(this.#device);
    const actions = this.#device.close();
    if (this.#datapath !== undefined) this.#carry(actions);
    await this.#datapath?.[Symbol.asyncDispose]();
    this.#datapath = undefined;
    removeTun(this.#tun);
  }
}
