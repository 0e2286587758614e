// The main thread's face of the datapath: one UDP port, any number of devices, pairs of workers that move the packets.
// Carries out a device's actions by publishing into shared memory, and brings back what the workers tell.
// What returns a promise waits for the workers; all else is synchronous. Long, since it is one object to the rest of the
// program; what it is made of has files of its own.

import { type AllowedIpsEntry, buildAllowedIpsTable } from '../../native-free/device/allowed-ips-table.ts';
import type { Action, Activity, Endpoint, PeerId } from '../../native-free/device/data-plane.ts';
import type { PathAction } from '../../native-free/device/path-mtus.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import type { TooBig } from '../../native-free/wire/too-big.ts';
import { type AeadTier, FASTEST } from './aead.ts';
import { DatagramSender } from './datagram-sender.ts';
import { KeypairSlots } from './keypair-slots.ts';
import { Mailbox, type MailHandlers } from './mailbox.ts';
import { PathErrors } from './path-errors.ts';
import { PeerSlots } from './peer-slots.ts';
import { createSharedMemory, NO_SLOT, SharedState, UNLIMITED } from './shared-state.ts';
import { decodePath, encodePath, PATH_LENGTH } from './sockaddr.ts';
import { queuesOf, type Tun, type TunOffload } from './tun.ts';
import { closeUdp, openUdp, rebindUdp, setUdpMark, type UdpSockets, unbindUdp } from './udp.ts';
import type { UdpOffloads } from './udp-offloads.ts';
import { checkPairs, defaultPairs, HALF_A_PAIR, lanesOf } from './worker-pairs.ts';
import {
  COMMAND_ANSWER_PROBE,
  COMMAND_DROP_STAGED,
  COMMAND_SEND_KEEPALIVE,
  COMMAND_SEND_PROBE,
  COMMAND_SEND_STAGED,
  MAX_DEVICES,
} from './worker-protocol.ts';
import { type DatapathStats, Workers } from './workers.ts';

export interface DatapathOptions {
  /** UDP port; 0: any free one. Its sockets stay in the calling thread's network namespace. */
  readonly port: number;
  /** Packets of flows that send little are marked, and received first where they are marked. Default true. */
  readonly sparseFirst?: boolean;
  /** False: the kill switch for UDP offloads. Default true. */
  readonly allowOffloads?: boolean;
  /** The fastest AEAD tier to try. */
  readonly aeadTier?: AeadTier;
  /** Of all devices together. Default 32768. */
  readonly maxPeers?: number;
  /** Of workers, one that sends and one that receives: 0.5 (one that does both), 1, 2, 4 or 8. Default: `defaultPairs`. */
  readonly pairs?: number | undefined;
}

export interface DatapathHandlers extends MailHandlers {
  /** A worker thread has ended by itself: no packet moves any more. */
  readonly onFailure: (error: Error) => void;
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
  allowedIps: Iterable<AllowedIpsOf>;
  /** The table that the workers have names peers that have gone: another is to be made. */
  outdated: Outdated | undefined;
  isLost: boolean;
}

interface Outdated {
  /** Whether the workers have taken over the next table. */
  hasTaken: () => boolean;
  /** What the slots of those peers wait for. */
  readonly mayReuse: () => boolean;
}

/** Memory that no peer uses costs nothing, so this is more than a node has to do with. */
const MAX_PEERS = 32_768;
/** Keypairs a peer has at once, as a rule: one or two, up to five around a handshake, and some in the making. Rounded up to 2^n. */
const KEYPAIRS_PER_PEER = 4;
/** How soon to look again whether what was retired may be wiped, and whether a full ring has room. */
const RETRY_MS = 5;

export class Datapath implements AsyncDisposable {
  #udp: UdpSockets;
  readonly #allowOffloads: boolean;
  #mark = 0;
  readonly #state: SharedState;
  readonly #peers: PeerSlots;
  readonly #keypairs: KeypairSlots;
  readonly #sender: DatagramSender;
  readonly #devices = new Map<string, DeviceState>();
  readonly #numbers: (string | undefined)[] = [];
  readonly #mailbox: Mailbox;
  readonly #workers: Workers;
  readonly #pathErrors: PathErrors;
  readonly #handlers: DatapathHandlers;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** Opens the port and starts the workers. */
  static async start(options: DatapathOptions, handlers: DatapathHandlers): Promise<Datapath> {
    const allowOffloads = options.allowOffloads ?? true;
    const pairs = checkPairs(options.pairs ?? defaultPairs());
    const sparseFirst = options.sparseFirst ?? true;
    const lanes = lanesOf(pairs);
    const udp = openUdp({ port: options.port, allowOffloads, pairs: lanes, sparseFirst });
    const maxPeers = options.maxPeers ?? MAX_PEERS;
    const maxKeypairs = 2 ** Math.ceil(Math.log2(maxPeers * KEYPAIRS_PER_PEER));
    const memory = createSharedMemory(PeerSlots.slotsFor(maxPeers), maxKeypairs, lanes);
    const datapath = new Datapath(udp, allowOffloads, new SharedState(memory), maxPeers, handlers);
    try {
      const aeadTier = options.aeadTier ?? FASTEST;
      const isDuplex = pairs === HALF_A_PAIR;
      await datapath.#workers.start({ memory, udp, marksSparse: sparseFirst, aeadTier, isDuplex });
      return datapath;
    } catch (error) {
      await datapath[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    udp: UdpSockets,
    allowOffloads: boolean,
    state: SharedState,
    maxPeers: number,
    handlers: DatapathHandlers,
  ) {
    this.#udp = udp;
    this.#allowOffloads = allowOffloads;
    this.#state = state;
    this.#peers = new PeerSlots(maxPeers);
    this.#keypairs = new KeypairSlots(state);
    this.#sender = new DatagramSender(udp);
    const directory = {
      peer: (slot: number) => this.#peers.get(slot),
      device: (number: number) => this.#numbers[number],
    };
    this.#mailbox = new Mailbox(
      { ...handlers, onDeviceLost: (deviceId) => this.#lost(deviceId) },
      directory,
      state.pairs,
    );
    this.#workers = new Workers({ state, mailbox: this.#mailbox, onFailure: handlers.onFailure });
    this.#handlers = handlers;
    this.#pathErrors = new PathErrors((errors) => this.#tooBig(errors));
    process.on('exit', this.#onExit);
  }

  get port(): number {
    return this.#udp.port;
  }

  /** Of workers. */
  get pairs(): number {
    return this.#state.pairs;
  }

  /** Which implementation seals and opens. */
  get aeadTier(): AeadTier {
    return this.#workers.aeadTier;
  }

  get offloads(): UdpOffloads {
    return this.#udp.offloads;
  }

  // --- the port

  /** Moves to another UDP port (0: any free one). Throws, and changes nothing, when it is taken. */
  rebind(port: number): void {
    this.#udp = rebindUdp(this.#udp, { port, allowOffloads: this.#allowOffloads, mark: this.#mark });
    this.#workers.wake();
  }

  /** Gives the UDP port up, until `rebind`. */
  unbind(): void {
    unbindUdp(this.#udp);
    this.#workers.wake();
  }

  /** The mark of outgoing packets (SO_MARK); 0: none. */
  setMark(mark: number): void {
    setUdpMark(this.#udp, mark);
    this.#mark = mark;
  }

  // --- devices and peers

  /**
   * Packets of `tun`, with a queue for each pair of workers, move from now on. `mtu` is the inside MTU. The TUN remains the
   * caller's to close.
   */
  addDevice(deviceId: string, tun: Tun, mtu: number): void {
    if (this.#devices.has(deviceId))
      throw new Vl3Error('already-exists', `device ${deviceId} is there already`);
    const fds = queuesOf(tun);
    if (fds.length !== this.pairs)
      throw new Vl3Error(
        'invalid-argument',
        `${tun.name} has ${fds.length} queues, not one for each of ${this.pairs} pairs`,
      );
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
      outdated: undefined,
      isLost: false,
    });
    const { offload } = tun;
    this.#workers.configure({ kind: 'add-device', device: number, fds, mtu, offload });
  }

  /** Each worker says so once. */
  #lost(deviceId: string): void {
    const device = this.#devices.get(deviceId);
    if (device === undefined || device.isLost) return;
    device.isLost = true;
    this.#handlers.onDeviceLost(deviceId);
  }

  /** Resolves when no worker uses the device's TUN any more: it may then be closed. */
  async removeDevice(deviceId: string): Promise<void> {
    const device = this.#devices.get(deviceId);
    if (device === undefined) return;
    for (const peerId of [...device.peers.keys()]) this.removePeer(deviceId, peerId);
    this.#devices.delete(deviceId);
    const hasTaken = this.#workers.configure({ kind: 'remove-device', device: device.number });
    if (device.outdated !== undefined) device.outdated.hasTaken = hasTaken;
    await this.#workers.until(hasTaken);
    this.#numbers[device.number] = undefined;
  }

  /** Who does not know it is not heard by the device from now on; until then everybody is. */
  setMac1Key(deviceId: string, mac1Key: Uint8Array): void {
    this.#workers.configure({ kind: 'set-mac1-key', device: this.#device(deviceId).number, mac1Key });
  }

  /** The inside MTU changed: the TUN's is the caller's to change. */
  setMtu(deviceId: string, mtu: number): void {
    this.#workers.configure({ kind: 'set-mtu', device: this.#device(deviceId).number, mtu });
  }

  /** Of all devices together. */
  get maxPeers(): number {
    return this.#peers.max;
  }

  /** How many more peers there is room for. */
  get roomForPeers(): number {
    return this.#peers.room;
  }

  /** False when there is no room for it: no packet will move to it or from it. */
  addPeer(deviceId: string, peerId: PeerId): boolean {
    const device = this.#device(deviceId);
    if (device.peers.has(peerId)) return true;
    const taken = this.#peers.take(deviceId, peerId);
    if (taken === undefined) return false;
    this.#state.initPeer(taken.slot, device.number);
    device.peers.set(peerId, taken.slot);
    return true;
  }

  removePeer(deviceId: string, peerId: PeerId): void {
    const device = this.#device(deviceId);
    const slot = device.peers.get(peerId);
    if (slot === undefined) return;
    device.peers.delete(peerId);
    this.#keypairs.removeAllOf(slot);
    this.#state.paths.setEndpoint(slot, undefined);
    this.#command(COMMAND_DROP_STAGED, slot);
    // Of many that go at once one table is made, not one each.
    device.outdated ??= this.#outdated();
    this.#peers.giveBack(slot, device.outdated.mayReuse);
    this.#scheduleRetry();
  }

  #outdated(): Outdated {
    const outdated: Outdated = {
      hasTaken: () => false,
      mayReuse: () => {
        // Events that still name a slot have been drained, to nobody, by then.
        this.#mailbox.drain();
        return outdated.hasTaken();
      },
    };
    return outdated;
  }

  /** Replaces all allowed IPs of the device. Those of unknown peers are left out. Read again when a peer goes. */
  setAllowedIps(deviceId: string, entries: Iterable<AllowedIpsOf>): void {
    const device = this.#device(deviceId);
    device.allowedIps = entries;
    this.#sendAllowedIps(device);
  }

  /** Resolves when all workers have taken over all that was configured so far: devices and allowed IPs. */
  async settled(): Promise<void> {
    this.#renewTables();
    await this.#workers.settled();
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

  /** Carries out what finding out about paths asks for. */
  applyToPaths(deviceId: string, actions: readonly PathAction[]): void {
    const device = this.#device(deviceId);
    for (const action of actions) {
      const peer = device.peers.get(action.peer);
      if (peer === undefined) continue;
      if (action.kind === 'set-limit') this.#state.setLongestPlaintext(peer, action.length ?? UNLIMITED);
      else if (action.kind === 'send-probe')
        this.#command(COMMAND_SEND_PROBE, peer, action.sequence, action.length);
      else this.#command(COMMAND_ANSWER_PROBE, peer, action.sequence);
    }
  }

  /** From routers, or from somebody who would have to guess a receiver index of 32 bits. */
  #tooBig(errors: readonly TooBig[]): void {
    const { onPathEvent } = this.#handlers;
    const ours = errors.filter(({ sourcePort }) => sourcePort === this.port);
    if (ours.length === 0 || onPathEvent === undefined) return;
    const sizes = new Map(ours.map(({ receiver, mtu }) => [receiver, mtu]));
    for (const { id, peers } of this.#devices.values()) {
      for (const [peer, slot] of peers) {
        const keypair = this.#state.keypairToSealWith(slot);
        const size = keypair === NO_SLOT ? undefined : sizes.get(this.#state.remoteIndexOf(keypair));
        if (size !== undefined) onPathEvent(id, { kind: 'too-big', peer, size });
      }
    }
  }

  /** Where the peer's packets go, and from which address of ours. */
  pathTo(deviceId: string, peerId: PeerId): Endpoint | undefined {
    const slot = this.#devices.get(deviceId)?.peers.get(peerId);
    if (slot === undefined) return undefined;
    const path = new Uint8Array(PATH_LENGTH);
    this.#state.paths.read(slot, new DataView(path.buffer), 0);
    return decodePath(path);
  }

  /** Its packets leave from whatever address the kernel picks, until it speaks to one again. */
  anySource(deviceId: string, peerId: PeerId): void {
    const slot = this.#devices.get(deviceId)?.peers.get(peerId);
    const path = this.pathTo(deviceId, peerId);
    if (slot !== undefined && path !== undefined)
      this.#state.paths.setEndpoint(slot, encodePath({ address: path.address, port: path.port }));
  }

  /** Sends a handshake datagram. False: it did not leave, as may happen on any network. */
  send(datagram: Uint8Array, endpoint: Endpoint): boolean {
    return this.#sender.send(datagram, this.#mailbox.heard.encode(endpoint));
  }

  /** Counts since start, of one pair of workers or of all. */
  stats(pair?: number): DatapathStats {
    return this.#workers.stats(pair);
  }

  /** Joins the workers, wipes all keys and closes the port; later calls do nothing. The TUNs remain the caller's. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#retry);
    process.off('exit', this.#onExit);
    this.#pathErrors.close();
    await this.#workers.close();
    this.#mailbox.close();
    this.#keypairs.wipeAll();
    this.#sender.close();
    closeUdp(this.#udp);
  }

  /** However the process ends: a worker asleep in poll would hold it up for as long as poll's time-out. */
  readonly #onExit = (): void => {
    this.#state.stop();
    this.#workers.wake();
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
        this.#state.paths.setEndpoint(
          peer,
          action.endpoint === undefined ? undefined : encodePath(action.endpoint),
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

  #command(kind: number, peer: number, sequence = 0, size = 0): void {
    if (!this.#mailbox.command({ kind, peer, sequence, size })) this.#scheduleRetry();
    this.#workers.wakeEgress();
  }

  // --- configuration

  #sendAllowedIps(device: DeviceState): void {
    const known: AllowedIpsEntry[] = [];
    for (const { prefix, peer } of device.allowedIps) {
      const slot = device.peers.get(peer);
      if (slot !== undefined) known.push({ prefix, value: slot });
    }
    const allowedIps = buildAllowedIpsTable(known);
    const hasTaken = this.#workers.configure({ kind: 'set-allowed-ips', device: device.number, allowedIps });
    if (device.outdated !== undefined) device.outdated.hasTaken = hasTaken;
    device.outdated = undefined;
  }

  #renewTables(): void {
    if (this.#isClosed) return;
    for (const device of this.#devices.values())
      if (device.outdated !== undefined) this.#sendAllowedIps(device);
  }

  #device(deviceId: string): DeviceState {
    const device = this.#devices.get(deviceId);
    if (device === undefined) throw new Vl3Error('not-found', `there is no device ${deviceId}`);
    return device;
  }

  // --- what has to wait: wiping retired keys, tables without peers that have gone, and commands that found the ring full

  /** Wakes the workers once for all that has been retired until then, so that they wipe their copies too. */
  #scheduleRetry(): void {
    if (this.#retry !== undefined || this.#isClosed) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#renewTables();
      this.#workers.wake();
      const isSent = this.#mailbox.retry();
      const isWiped = this.#keypairs.reap();
      if (!isSent || !isWiped) this.#scheduleRetry();
    }, RETRY_MS).unref();
  }
}
