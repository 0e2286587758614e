// The main thread's face of the datapath: one UDP port, any number of devices, two workers that move the packets.
// Carries out a device's actions by publishing into shared memory, and brings back what the workers tell.
// What returns a promise waits for the workers; all else is synchronous.

import { type AllowedIpsEntry, buildAllowedIpsTable } from '../../native-free/device/allowed-ips-table.ts';
import type {
  Action,
  Activity,
  DataPlaneEvent,
  Endpoint,
  PeerId,
} from '../../native-free/device/data-plane.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import type { AeadTier } from './aead.ts';
import {
  type Counts,
  createCounterMemory,
  EGRESS_COUNTERS,
  type EgressCounter,
  INGRESS_COUNTERS,
  type IngressCounter,
  readCounts,
} from './counters.ts';
import { KeypairSlots } from './keypair-slots.ts';
import { PeerSlots } from './peer-slots.ts';
import { createRing, Ring, type RingMemory } from './ring.ts';
import { createSharedMemory, NO_SLOT, SharedState } from './shared-state.ts';
import { decodeSockaddr, encodeSockaddr, SOCKADDR_LENGTH } from './sockaddr.ts';
import type { Tun, TunOffload } from './tun.ts';
import { closeUdp, DatagramSender, openUdp, type UdpOffloads, type UdpSockets } from './udp.ts';
import { WorkerHandle } from './worker-handle.ts';
import {
  COMMAND_DROP_STAGED,
  COMMAND_LENGTH,
  COMMAND_PEER,
  COMMAND_SEND_KEEPALIVE,
  COMMAND_SEND_STAGED,
  DATAGRAM_BYTES,
  DATAGRAM_LENGTH,
  DATAGRAM_SOCKADDR,
  EVENT_DEVICE_LOST,
  EVENT_ENDPOINT_MOVED,
  EVENT_HANDSHAKE_NEEDED,
  EVENT_KEYPAIR_CONFIRMED,
  EVENT_LENGTH,
  EVENT_LOCAL_INDEX,
  EVENT_PEER,
  EVENT_SOCKADDR,
  MAX_DEVICES,
} from './worker-protocol.ts';

export interface DatapathOptions {
  /** UDP port; 0: any free one. Its sockets stay in the calling thread's network namespace. */
  readonly port: number;
  /** False: the kill switch for UDP offloads. Default true. */
  readonly allowOffloads?: boolean;
  /** The fastest AEAD tier to try. */
  readonly aeadTier?: AeadTier;
  /** Of all devices together. Default 8192. */
  readonly maxPeers?: number;
}

export interface DatapathHandlers {
  readonly onEvent: (deviceId: string, event: DataPlaneEvent) => void;
  /** A handshake message (types 1 to 3, of the right length). Keeps `datagram`. */
  readonly onDatagram: (datagram: Uint8Array, source: Endpoint) => void;
  /** The device's TUN has gone, most likely with its namespace. */
  readonly onDeviceLost: (deviceId: string) => void;
  /** A worker thread has ended by itself: no packet moves any more. */
  readonly onFailure: (error: Error) => void;
}

export interface DatapathStats {
  readonly egress: Counts<EgressCounter>;
  readonly ingress: Counts<IngressCounter>;
}

export interface AllowedIpsOf {
  readonly prefix: Prefix;
  readonly peer: PeerId;
}

interface DeviceState {
  readonly id: string;
  readonly number: number;
  readonly offload: TunOffload;
  readonly peers: Map<PeerId, number>;
  allowedIps: readonly AllowedIpsOf[];
}

/** Keypairs a peer may have at once: previous, current and next, and some in the making. Rounded up to 2^n. */
const KEYPAIRS_PER_PEER = 4;
const COMMANDS = 8192;
const EVENTS = 4096;
const DATAGRAMS = 1024;
/** How often to look again whether what was retired may be wiped, and whether a full ring has room. */
const RETRY_MS = 5;

export class Datapath implements AsyncDisposable {
  readonly #udp: UdpSockets;
  readonly #handlers: DatapathHandlers;
  readonly #state: SharedState;
  readonly #peers: PeerSlots;
  readonly #keypairs: KeypairSlots;
  readonly #sender: DatagramSender;
  readonly #devices = new Map<string, DeviceState>();
  readonly #numbers: (string | undefined)[] = [];
  readonly #rings: Rings;
  readonly #commands: Ring;
  readonly #egressEvents: Ring;
  readonly #ingressEvents: Ring;
  readonly #datagrams: Ring;
  readonly #waiting: (() => void)[] = [];
  #overflow: (readonly [kind: number, peer: number])[] = [];
  #retry: NodeJS.Timeout | undefined;
  #egress: WorkerHandle | undefined;
  #ingress: WorkerHandle | undefined;
  #aeadTier: AeadTier = 'noble';

  /** Opens the port and starts both workers. */
  static async start(options: DatapathOptions, handlers: DatapathHandlers): Promise<Datapath> {
    const udp = openUdp({ port: options.port, allowOffloads: options.allowOffloads ?? true });
    const maxPeers = options.maxPeers ?? 8192;
    const maxKeypairs = 2 ** Math.ceil(Math.log2(maxPeers * KEYPAIRS_PER_PEER));
    const memory = createSharedMemory(maxPeers, maxKeypairs);
    const datapath = new Datapath(udp, new SharedState(memory), handlers);
    try {
      await datapath.#startWorkers(memory, options.aeadTier ?? 'openssl-low-level');
      return datapath;
    } catch (error) {
      await datapath[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(udp: UdpSockets, state: SharedState, handlers: DatapathHandlers) {
    this.#udp = udp;
    this.#state = state;
    this.#handlers = handlers;
    this.#peers = new PeerSlots(state.maxPeers);
    this.#keypairs = new KeypairSlots(state);
    this.#sender = new DatagramSender(udp);
    this.#rings = createRings();
    this.#commands = new Ring(this.#rings.commands);
    this.#egressEvents = new Ring(this.#rings.egressEvents);
    this.#ingressEvents = new Ring(this.#rings.ingressEvents);
    this.#datagrams = new Ring(this.#rings.datagrams);
    process.on('exit', this.#onExit);
  }

  get port(): number {
    return this.#udp.port;
  }

  /** Which implementation seals and opens. */
  get aeadTier(): AeadTier {
    return this.#aeadTier;
  }

  get offloads(): UdpOffloads {
    return this.#udp.offloads;
  }

  // --- devices and peers

  /** Packets of `tun` move from now on. `mtu` is the inside MTU. The TUN remains the caller's to close. */
  addDevice(deviceId: string, tun: Tun, mtu: number): void {
    if (this.#devices.has(deviceId))
      throw new Vl3Error('already-exists', `device ${deviceId} is there already`);
    const free = this.#numbers.indexOf(undefined);
    const number = free < 0 ? this.#numbers.length : free;
    if (number >= MAX_DEVICES) {
      throw new Vl3Error('resource-exhausted', `a node can be on ${MAX_DEVICES} networks at most`);
    }
    this.#numbers[number] = deviceId;
    this.#devices.set(deviceId, {
      id: deviceId,
      number,
      offload: tun.offload,
      peers: new Map(),
      allowedIps: [],
    });
    this.#configure({ kind: 'add-device', device: number, fd: tun.fd, mtu, offload: tun.offload });
  }

  /** Resolves when no worker uses the device's TUN any more: it may then be closed. */
  async removeDevice(deviceId: string): Promise<void> {
    const device = this.#devices.get(deviceId);
    if (device === undefined) return;
    for (const peerId of [...device.peers.keys()]) this.removePeer(deviceId, peerId);
    this.#devices.delete(deviceId);
    const hasTaken = this.#configure({ kind: 'remove-device', device: device.number });
    await this.#until(hasTaken);
    this.#numbers[device.number] = undefined;
  }

  /** The inside MTU changed: the TUN's is the caller's to change. */
  setMtu(deviceId: string, mtu: number): void {
    this.#configure({ kind: 'set-mtu', device: this.#device(deviceId).number, mtu });
  }

  addPeer(deviceId: string, peerId: PeerId): void {
    const device = this.#device(deviceId);
    if (device.peers.has(peerId)) return;
    const { slot } = this.#peers.take(deviceId, peerId);
    this.#state.initPeer(slot, device.number);
    device.peers.set(peerId, slot);
  }

  removePeer(deviceId: string, peerId: PeerId): void {
    const device = this.#device(deviceId);
    const slot = device.peers.get(peerId);
    if (slot === undefined) return;
    device.peers.delete(peerId);
    this.#keypairs.removeAllOf(slot);
    this.#state.setEndpoint(slot, undefined);
    this.#command(COMMAND_DROP_STAGED, slot);
    const hasTaken = this.#sendAllowedIps(
      device,
      device.allowedIps.filter((entry) => entry.peer !== peerId),
    );
    // Events that still name the slot have been drained, to nobody, by then.
    this.#peers.giveBack(slot, () => {
      this.#drain();
      return hasTaken();
    });
    this.#scheduleRetry();
  }

  /** Replaces all allowed IPs of the device. Those of unknown peers are left out. */
  setAllowedIps(deviceId: string, entries: readonly AllowedIpsOf[]): void {
    this.#sendAllowedIps(this.#device(deviceId), entries);
  }

  /** Resolves when both workers have taken over all that was configured so far: devices and allowed IPs. */
  async settled(): Promise<void> {
    const handles = [this.#egress, this.#ingress].filter((handle) => handle !== undefined);
    const latest = handles.map((handle) => handle.sequence);
    await this.#until(() => handles.every((handle, i) => handle.hasTaken(latest[i] ?? 0)));
  }

  /** Carries out a device's actions, in order. Keeps nothing of them. */
  apply(deviceId: string, actions: readonly Action[]): void {
    const device = this.#device(deviceId);
    for (const action of actions) this.#apply(device, action);
  }

  activity(deviceId: string, peerId: PeerId): Activity | undefined {
    const slot = this.#devices.get(deviceId)?.peers.get(peerId);
    if (slot === undefined) return undefined;
    const state = this.#state;
    const keypair = state.keypairInUse(slot);
    return {
      dataSentAt: state.dataSentAt(slot),
      sentAt: state.sentAt(slot),
      dataReceivedAt: state.dataReceivedAt(slot),
      receivedAt: state.receivedAt(slot),
      sendCounter: keypair === NO_SLOT ? 0 : state.sendCounterOf(keypair),
      txBytes: state.txBytes(slot),
      rxBytes: state.rxBytes(slot),
    };
  }

  /** Sends a handshake datagram. False: it did not leave, as may happen on any network. */
  send(datagram: Uint8Array, endpoint: Endpoint): boolean {
    return this.#sender.send(datagram, encodeSockaddr(endpoint));
  }

  /** Counts since start. */
  stats(): DatapathStats {
    return {
      egress: readCounts(EGRESS_COUNTERS, this.#rings.egressCounters),
      ingress: readCounts(INGRESS_COUNTERS, this.#rings.ingressCounters),
    };
  }

  /** Joins both workers, wipes all keys and closes the port. The TUNs stay open: they are the caller's. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#retry);
    process.off('exit', this.#onExit);
    this.#state.stop();
    await Promise.all([this.#egress?.close(), this.#ingress?.close()]);
    this.#keypairs.wipeAll();
    this.#settle();
    this.#sender.close();
    closeUdp(this.#udp);
  }

  /** However the process ends: a worker asleep in poll would hold it up for as long as poll's time-out. */
  readonly #onExit = (): void => {
    this.#state.stop();
    this.#egress?.wake();
    this.#ingress?.wake();
  };

  // --- actions

  #apply(device: DeviceState, action: Action): void {
    if (action.kind === 'send') {
      this.send(action.datagram, action.endpoint);
      return;
    }
    if (action.kind === 'remove-keypair') {
      this.#keypairs.remove(action.localIndex);
      this.#scheduleRetry();
      return;
    }
    const peer = device.peers.get(action.peer);
    if (peer === undefined) return;
    switch (action.kind) {
      case 'install-keypair':
        this.#keypairs.install(peer, action.keypair);
        break;
      case 'use-keypair': {
        const slot =
          action.localIndex === undefined ? undefined : this.#keypairs.slotOf(action.localIndex, peer);
        this.#state.setKeypairInUse(peer, slot ?? NO_SLOT);
        if (slot !== undefined) this.#command(COMMAND_SEND_STAGED, peer);
        break;
      }
      case 'set-endpoint':
        this.#state.setEndpoint(
          peer,
          action.endpoint === undefined ? undefined : encodeSockaddr(action.endpoint),
        );
        break;
      case 'send-keepalive':
        this.#command(COMMAND_SEND_KEEPALIVE, peer);
        break;
      case 'drop-staged':
        this.#command(COMMAND_DROP_STAGED, peer);
        break;
    }
  }

  #command(kind: number, peer: number): void {
    if (this.#overflow.length > 0 || !this.#pushCommand(kind, peer)) {
      this.#overflow.push([kind, peer]);
      this.#scheduleRetry();
    }
    this.#egress?.wake();
  }

  #pushCommand(kind: number, peer: number): boolean {
    const entry = this.#commands.reserve();
    if (entry < 0) return false;
    this.#commands.view.setUint32(entry, kind, true);
    this.#commands.view.setInt32(entry + COMMAND_PEER, peer, true);
    this.#commands.commit();
    return true;
  }

  // --- configuration

  /** Returns whether both workers have taken it over. */
  #configure(change: Parameters<WorkerHandle['configure']>[0]): () => boolean {
    const egress = this.#egress;
    const ingress = this.#ingress;
    if (egress === undefined || ingress === undefined)
      throw new Vl3Error('internal', 'the datapath is closed');
    const ofEgress = egress.configure(change);
    const ofIngress = ingress.configure(change);
    return () => egress.hasTaken(ofEgress) && ingress.hasTaken(ofIngress);
  }

  #sendAllowedIps(device: DeviceState, entries: readonly AllowedIpsOf[]): () => boolean {
    device.allowedIps = entries;
    const known: AllowedIpsEntry[] = [];
    for (const { prefix, peer } of entries) {
      const slot = device.peers.get(peer);
      if (slot !== undefined) known.push({ prefix, value: slot });
    }
    return this.#configure({
      kind: 'set-allowed-ips',
      device: device.number,
      allowedIps: buildAllowedIpsTable(known),
    });
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
  }

  #device(deviceId: string): DeviceState {
    const device = this.#devices.get(deviceId);
    if (device === undefined) throw new Vl3Error('not-found', `there is no device ${deviceId}`);
    return device;
  }

  // --- workers

  async #startWorkers(memory: ReturnType<typeof createSharedMemory>, aeadTier: AeadTier): Promise<void> {
    const rings = this.#rings;
    const handlers = {
      onWake: () => {
        this.#drain();
        this.#settle();
      },
      onFailure: this.#handlers.onFailure,
    };
    const common = { memory, udp: this.#udp, aeadTier };
    const [egress, ingress] = await Promise.allSettled([
      WorkerHandle.start(
        'egress',
        this.#state,
        { ...common, counters: rings.egressCounters, events: rings.egressEvents, extra: rings.commands },
        handlers,
      ),
      WorkerHandle.start(
        'ingress',
        this.#state,
        { ...common, counters: rings.ingressCounters, events: rings.ingressEvents, extra: rings.datagrams },
        handlers,
      ),
    ]);
    if (egress.status === 'fulfilled') [this.#egress, this.#aeadTier] = egress.value;
    if (ingress.status === 'fulfilled') [this.#ingress] = ingress.value;
    for (const result of [egress, ingress]) if (result.status === 'rejected') throw result.reason;
  }

  #settle(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #drain(): void {
    this.#drainEvents(this.#ingressEvents);
    this.#drainEvents(this.#egressEvents);
    for (let entry = this.#datagrams.peek(); entry >= 0; entry = this.#datagrams.peek()) {
      const { bytes, view } = this.#datagrams;
      const at = entry + DATAGRAM_SOCKADDR;
      const source = decodeSockaddr(bytes.subarray(at, at + SOCKADDR_LENGTH));
      const from = entry + DATAGRAM_BYTES;
      const datagram = bytes.slice(from, from + view.getUint32(entry, true));
      this.#datagrams.release();
      if (source !== undefined) this.#handlers.onDatagram(new Uint8Array(datagram), source);
    }
  }

  #drainEvents(ring: Ring): void {
    for (let entry = ring.peek(); entry >= 0; entry = ring.peek()) {
      const kind = ring.view.getUint32(entry, true);
      const subject = ring.view.getInt32(entry + EVENT_PEER, true);
      const localIndex = ring.view.getUint32(entry + EVENT_LOCAL_INDEX, true);
      const at = entry + EVENT_SOCKADDR;
      const sockaddr = kind === EVENT_ENDPOINT_MOVED ? ring.bytes.slice(at, at + SOCKADDR_LENGTH) : undefined;
      ring.release();
      this.#tell(kind, subject, localIndex, sockaddr);
    }
  }

  #tell(kind: number, subject: number, localIndex: number, sockaddr: Uint8Array | undefined): void {
    if (kind === EVENT_DEVICE_LOST) {
      const deviceId = this.#numbers[subject];
      if (deviceId !== undefined) this.#handlers.onDeviceLost(deviceId);
      return;
    }
    const slot = this.#peers.get(subject);
    if (slot === undefined) return;
    const peer = slot.peerId;
    const endpoint = sockaddr === undefined ? undefined : decodeSockaddr(sockaddr);
    if (kind === EVENT_HANDSHAKE_NEEDED) {
      this.#handlers.onEvent(slot.deviceId, { kind: 'handshake-needed', peer });
    } else if (kind === EVENT_KEYPAIR_CONFIRMED) {
      this.#handlers.onEvent(slot.deviceId, { kind: 'keypair-confirmed', peer, localIndex });
    } else if (endpoint !== undefined) {
      this.#handlers.onEvent(slot.deviceId, { kind: 'endpoint-moved', peer, endpoint });
    }
  }

  // --- what has to wait: wiping retired keys, and commands that found the ring full

  #scheduleRetry(): void {
    this.#egress?.wake();
    this.#ingress?.wake();
    if (this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      while (this.#overflow.length > 0) {
        const [kind, peer] = this.#overflow[0] ?? [0, 0];
        if (!this.#pushCommand(kind, peer)) break;
        this.#overflow.shift();
      }
      if (!this.#keypairs.reap() || this.#overflow.length > 0) this.#scheduleRetry();
    }, RETRY_MS).unref();
  }
}

interface Rings {
  readonly commands: RingMemory;
  readonly egressEvents: RingMemory;
  readonly ingressEvents: RingMemory;
  readonly datagrams: RingMemory;
  readonly egressCounters: SharedArrayBuffer;
  readonly ingressCounters: SharedArrayBuffer;
}

const createRings = (): Rings => ({
  commands: createRing(COMMAND_LENGTH, COMMANDS),
  egressEvents: createRing(EVENT_LENGTH, EVENTS),
  ingressEvents: createRing(EVENT_LENGTH, EVENTS),
  datagrams: createRing(DATAGRAM_LENGTH, DATAGRAMS),
  egressCounters: createCounterMemory(EGRESS_COUNTERS),
  ingressCounters: createCounterMemory(INGRESS_COUNTERS),
});
