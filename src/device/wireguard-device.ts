// One WireGuard device by itself, as wg and wg-quick know it: a tunnel with a port and a datapath of its own, and the
// configuration it was given. No registry, no agent, no files; addresses, routes and the interface's state are the
// caller's. A device without a key keeps its peers, but talks to none: nobody knows the key that it has in the meantime.

import { hexToBytes } from '@noble/hashes/utils.js';
import { AllowedIps } from '../../native-free/device/allowed-ips.ts';
import type { Activity, Endpoint, PeerId } from '../../native-free/device/data-plane.ts';
import { peerId } from '../../native-free/device/device.ts';
import type { PeerStatus } from '../../native-free/device/peer.ts';
import { Vl3Error } from '../../native-free/error.ts';
import { KEY_LENGTH } from '../../native-free/noise/constants.ts';
import type { Primitives, RandomBytes } from '../../native-free/noise/primitives.ts';
import { Port } from '../../native-free/port/port.ts';
import type { DeviceChange, PeerChange } from '../../native-free/uapi/request.ts';
import type { DeviceView, PeerView } from '../../native-free/uapi/response.ts';
import { Datapath, type DatapathOptions } from '../datapath/datapath.ts';
import type { TunOptions } from '../datapath/tun.ts';
import { defaultPairs, lanesOf } from '../datapath/worker-pairs.ts';
import { makeSourceCheck } from './source-check.ts';
import { Tunnel, type TunnelClock } from './tunnel.ts';

export interface WireguardDeviceOptions extends DatapathOptions {
  readonly tun: TunOptions;
  /** Of the inside, in bytes. */
  readonly mtu: number;
}

export interface WireguardDeviceDeps {
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly clock: TunnelClock;
}

/** What was asked for, whether or not there is a key to do it with. */
interface PeerSettings {
  /** Undefined: none. */
  presharedKey: Uint8Array | undefined;
  /** Seconds. */
  persistentKeepalive: number;
  /** As configured, or learned under an earlier key. */
  endpoint: Endpoint | undefined;
  /** Of the last handshake under an earlier key, milliseconds since 1970; 0: none. */
  lastHandshakeAt: number;
}

const NO_PRESHARED_KEY = new Uint8Array(KEY_LENGTH);
/** Endpoints are what it was told or heard: nobody announces any. */
const NO_CANDIDATES: readonly Endpoint[] = [];

interface Parts {
  readonly datapath: Datapath;
  readonly port: Port;
  readonly tunnel: Tunnel;
  readonly random: RandomBytes;
  readonly clock: TunnelClock;
}

const TICK_MS = 100;
/** While the link is up, how many ticks pass before it is looked at again. */
const TICKS_A_LOOK = 5;
/** Of how many peers it is looked, then, whether they are answered from an address that their route still has. */
const PEERS_A_CHECK = 100;
/** While it is down it is looked at as soon as something says it might be up, but not more often than this. */
const LOOK_AGAIN_MS = 20;

export class WireguardDevice implements AsyncDisposable {
  /** Rejects when the datapath dies or the TUN is taken away: nothing moves any more. */
  readonly failed: Promise<never>;
  readonly #datapath: Datapath;
  readonly #port: Port;
  readonly #tunnel: Tunnel;
  readonly #random: RandomBytes;
  readonly #clock: TunnelClock;
  readonly #ticking: NodeJS.Timeout;
  readonly #peers = new Map<PeerId, PeerSettings>();
  readonly #allowedIps = new AllowedIps<PeerId>();
  #privateKey: Uint8Array | undefined;
  #fwmark = 0;
  #mtu: number;
  #isUp = false;
  #isBound = true;
  #lookedAt = 0;
  #ticks = 0;
  #unchecked: PeerId[] = [];

  /** Opens port and TUN and moves packets from then on. Both sockets stay in the calling thread's namespace. */
  static async start(options: WireguardDeviceOptions, deps: WireguardDeviceDeps): Promise<WireguardDevice> {
    const { clock, random } = deps;
    const { name } = options.tun;
    const failure = Promise.withResolvers<never>();
    failure.promise.catch(() => {});
    const pairs = options.pairs ?? defaultPairs();
    const port = new Port({ random, lanes: lanesOf(pairs) });
    let tunnel: Tunnel | undefined;
    let device: WireguardDevice | undefined;
    const datapath = await Datapath.start(
      { ...options, pairs },
      {
        onEvent: (_, event) => {
          device?.mayBeUp();
          tunnel?.event(event);
        },
        onPathEvent: (_, event) => tunnel?.pathEvent(event),
        onDatagram: (datagram, source, waiting) => {
          device?.mayBeUp();
          const received = port.receive(datagram, source, clock.monotonic(), clock.wall(), waiting);
          if (received !== undefined) tunnel?.carry(received.actions);
        },
        onDeviceLost: () =>
          failure.reject(new Vl3Error('failed-precondition', `the interface ${name} is gone`)),
        onFailure: (cause) => failure.reject(new Vl3Error('internal', 'the datapath died', { cause })),
      },
    );
    try {
      const unknown = random(KEY_LENGTH);
      tunnel = Tunnel.open(
        { name, tun: options.tun, mtu: options.mtu, privateKey: unknown },
        { datapath, port, ...deps },
      );
    } catch (error) {
      await datapath[Symbol.asyncDispose]();
      throw error;
    }
    device = new WireguardDevice({ datapath, port, tunnel, random, clock }, options.mtu, failure.promise);
    return device;
  }

  private constructor(parts: Parts, mtu: number, failed: Promise<never>) {
    const { datapath, port, tunnel, random, clock } = parts;
    this.#datapath = datapath;
    this.#port = port;
    this.#tunnel = tunnel;
    this.#random = random;
    this.#clock = clock;
    this.#mtu = mtu;
    this.failed = failed;
    tunnel.sleep();
    this.#look();
    this.#ticking = setInterval(() => this.#tick(), TICK_MS);
  }

  /** The UDP port, also while it is given up. */
  get port(): number {
    return this.#datapath.port;
  }

  // --- the link: what `ip link set` does to it

  #tick(): void {
    this.#ticks += 1;
    if (!this.#isUp || this.#ticks % TICKS_A_LOOK === 0) this.#look();
    if (this.#isUp && this.#ticks % TICKS_A_LOOK === 0) this.#checkSources();
    this.#tunnel.tick();
  }

  /** Whose route leaves by another interface than the address of ours that it spoke to is answered from any. */
  #checkSources(): void {
    if (this.#unchecked.length === 0) this.#unchecked = [...this.#peers.keys()];
    const mayStay = makeSourceCheck(this.#fwmark);
    for (const id of this.#unchecked.splice(-PEERS_A_CHECK)) {
      const endpoint = this.#tunnel.pathTo(id);
      if (endpoint?.local === undefined || mayStay(endpoint)) continue;
      this.#tunnel.anySource(id);
    }
  }

  /** Something came that comes only, or is wanted only, when the link is up. */
  mayBeUp(): void {
    if (!this.#isUp && this.#clock.monotonic() - this.#lookedAt >= LOOK_AGAIN_MS) this.#look();
  }

  #look(): void {
    this.#lookedAt = this.#clock.monotonic();
    const link = this.#tunnel.link;
    if (link !== undefined && link.mtu !== this.#mtu) {
      this.#mtu = link.mtu;
      this.#tunnel.setMtu(link.mtu);
    }
    // Where it cannot be told, it works rather than not.
    const isUp = link?.isUp ?? true;
    if (isUp !== this.#isUp && (isUp ? this.#bind() : this.#unbind())) this.#isUp = isUp;
  }

  /** False: not yet. Somebody else may have taken the port while the link was down. */
  #bind(): boolean {
    try {
      if (!this.#isBound) this.#datapath.rebind(this.port);
    } catch (error) {
      if (error instanceof Vl3Error) return false;
      throw error;
    }
    this.#isBound = true;
    this.#tunnel.wake();
    return true;
  }

  /** Like the kernel's: no sessions, and the port is free for others. */
  #unbind(): boolean {
    this.#tunnel.sleep();
    this.#datapath.unbind();
    this.#isBound = false;
    return true;
  }

  // --- configuration

  /**
   * Carries out a change. What can fail comes first, so that a change that fails changes nothing. Throws Vl3Error when the
   * port cannot be had, the mark not be set, or there are too many peers.
   */
  configure(change: DeviceChange): void {
    const { listenPort, fwmark, privateKey, replacePeers, peers } = change;
    this.#checkRoom(change);
    this.#setMark(fwmark ?? this.#fwmark, () => {
      if (listenPort === undefined || (listenPort === this.port && this.#isBound)) return;
      this.#datapath.rebind(listenPort);
      this.#isBound = true;
    });
    if (privateKey !== undefined) this.#setKey(privateKey ?? undefined);
    if (replacePeers) for (const id of [...this.#peers.keys()]) this.#removePeer(id);
    const changed = new Set<PeerId>();
    for (const peer of peers) this.#changePeer(peer, changed);
    for (const id of changed) this.#apply(id);
    this.#tunnel.publishAllowedIps();
  }

  /** Whether the peers that there will be, at most, have room. */
  #checkRoom({ replacePeers, peers }: DeviceChange): void {
    const ids = new Set(replacePeers ? [] : this.#peers.keys());
    for (const peer of peers) if (!peer.remove && !peer.updateOnly) ids.add(peerId(peer.publicKey));
    const most = this.#datapath.maxPeers;
    if (ids.size > most)
      throw new Vl3Error(
        'resource-exhausted',
        `a device has ${most} peers at most, and these would be ${ids.size}`,
      );
  }

  /** Stays as it was when `work` throws. */
  #setMark(mark: number, work: () => void): void {
    const before = this.#fwmark;
    if (mark !== before) this.#datapath.setMark(mark);
    try {
      work();
      this.#fwmark = mark;
    } catch (error) {
      if (mark !== before) this.#datapath.setMark(before);
      throw error;
    }
  }

  #setKey(privateKey: Uint8Array | undefined): void {
    if (isSame(privateKey, this.#privateKey)) return;
    for (const [id, settings] of this.#peers) {
      const status = this.#tunnel.status(id);
      settings.endpoint = status?.endpoint ?? settings.endpoint;
      settings.lastHandshakeAt = status?.lastHandshake?.wallclock ?? settings.lastHandshakeAt;
    }
    this.#tunnel.setKey(privateKey ?? this.#random(KEY_LENGTH));
    this.#privateKey?.fill(0);
    this.#privateKey = privateKey?.slice();
    if (privateKey === undefined) {
      for (const id of this.#peers.keys()) this.#tunnel.removePeer(id);
      return;
    }
    this.#removePeer(this.#tunnel.id);
    for (const id of this.#peers.keys()) this.#apply(id);
  }

  #changePeer(change: PeerChange, changed: Set<PeerId>): void {
    const id = peerId(change.publicKey);
    if (change.remove) {
      this.#removePeer(id);
      changed.delete(id);
      return;
    }
    const known = this.#peers.get(id);
    if (id === this.#tunnel.id || (known === undefined && change.updateOnly)) return;
    const settings = known ?? newSettings();
    this.#peers.set(id, settings);
    changed.add(id);
    if (change.presharedKey !== undefined) {
      settings.presharedKey?.fill(0);
      settings.presharedKey = isNone(change.presharedKey) ? undefined : change.presharedKey.slice();
    }
    if (change.persistentKeepalive !== undefined) settings.persistentKeepalive = change.persistentKeepalive;
    if (change.endpoint !== undefined) {
      settings.endpoint = change.endpoint;
      this.#tunnel.setEndpoint(id, change.endpoint);
    }
    if (change.replaceAllowedIps) this.#allowedIps.removeAll(id);
    for (const { prefix, remove } of change.allowedIps) {
      if (remove) this.#allowedIps.remove(prefix, id);
      else this.#allowedIps.insert(prefix, id);
    }
  }

  /** Brings the tunnel's peer in step with what was asked for. */
  #apply(id: PeerId): void {
    const settings = this.#peers.get(id);
    if (settings === undefined || this.#privateKey === undefined) return;
    const { presharedKey, persistentKeepalive, endpoint } = settings;
    const isSet = this.#tunnel.setPeer(id, {
      publicKey: hexToBytes(id),
      presharedKey,
      allowedIps: this.#allowedIps.heldBy(id),
      endpoints: NO_CANDIDATES,
      learnedEndpoint: endpoint,
      persistentKeepalive: persistentKeepalive * 1000,
    });
    if (!isSet)
      throw new Vl3Error('resource-exhausted', 'peers that were removed are not yet gone: try again');
  }

  #removePeer(id: PeerId): void {
    const settings = this.#peers.get(id);
    if (settings === undefined) return;
    this.#peers.delete(id);
    settings.presharedKey?.fill(0);
    this.#allowedIps.removeAll(id);
    this.#tunnel.removePeer(id);
  }

  // --- what can be known

  get view(): DeviceView {
    return {
      privateKey: this.#privateKey,
      listenPort: this.port,
      fwmark: this.#fwmark,
      peers: [...this.#peers].map(([id, settings]) => this.#viewOf(id, settings)),
    };
  }

  #viewOf(id: PeerId, settings: PeerSettings): PeerView {
    const status = this.status(id);
    const activity = this.activity(id);
    return {
      publicKey: hexToBytes(id),
      presharedKey: settings.presharedKey ?? NO_PRESHARED_KEY,
      endpoint: status?.endpoint ?? settings.endpoint,
      lastHandshakeAt: status?.lastHandshake?.wallclock ?? settings.lastHandshakeAt,
      txBytes: activity?.txBytes ?? 0,
      rxBytes: activity?.rxBytes ?? 0,
      persistentKeepalive: settings.persistentKeepalive,
      allowedIps: this.#allowedIps.heldBy(id),
    };
  }

  status(id: PeerId): PeerStatus | undefined {
    return this.#tunnel.status(id);
  }

  activity(id: PeerId): Activity | undefined {
    return this.#tunnel.activity(id);
  }

  /** What was counted, by name; drops among it. */
  get counts(): Readonly<Record<string, number>> {
    const { egress, ingress } = this.#datapath.stats();
    const handshakes = [...this.#port.drops.entries(), ...this.#tunnel.drops];
    return {
      ...Object.fromEntries(Object.entries(egress).map(([name, n]) => [`egress ${name}`, n])),
      ...Object.fromEntries(Object.entries(ingress).map(([name, n]) => [`ingress ${name}`, n])),
      ...Object.fromEntries(handshakes.map(([name, n]) => [`handshake dropped:${name}`, n])),
    };
  }

  /** Ends all sessions, wipes all keys, closes the port and removes the TUN. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#ticking);
    await this.#tunnel.remove();
    await this.#datapath[Symbol.asyncDispose]();
    this.#privateKey?.fill(0);
    for (const { presharedKey } of this.#peers.values()) presharedKey?.fill(0);
  }
}

const newSettings = (): PeerSettings => ({
  presharedKey: undefined,
  persistentKeepalive: 0,
  endpoint: undefined,
  lastHandshakeAt: 0,
});

const isNone = (key: Uint8Array): boolean => key.every((byte) => byte === 0);

const isSame = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.every((byte, i) => byte === b[i]));
