// What a machine's kernel holds apart from any process: the pods' network namespaces, and for each network a router with
// its pods' interfaces. It outlives the agent and dies with the machine. Packets between pods of one machine stay here;
// others go to the agent's tunnel, if an agent runs.

import { readInnerPacket } from '../device/inner-packet.ts';
import { Vl3Error } from '../error.ts';
import { addressFromBytes, formatAddress } from '../ipam/prefix.ts';
import type { CrashSwitch } from './crash.ts';

/** A pod, as far as the network is concerned. */
export interface PodNamespace {
  /** Unique over all machines and times, as device and inode are. */
  readonly id: string;
  receive(network: string, packet: Uint8Array): void;
}

interface Interface {
  readonly attachmentId: string;
  readonly namespace: string;
  readonly addresses: readonly string[];
}

export interface KernelObserver {
  /** From now on this interface answers for the addresses. */
  connected(network: string, attachmentId: string, namespace: string, addresses: readonly string[]): void;
  disconnected(network: string, attachmentId: string, addresses: readonly string[]): void;
}

export class Kernel {
  /** Where packets for other machines go. */
  toTunnel: ((network: string, packet: Uint8Array) => void) | undefined;
  readonly #crash: CrashSwitch;
  readonly #observer: KernelObserver;
  readonly #namespaces = new Map<string, PodNamespace>();
  readonly #routers = new Map<string, Map<string, Interface>>();

  constructor(crash: CrashSwitch, observer: KernelObserver) {
    this.#crash = crash;
    this.#observer = observer;
  }

  addNamespace(namespace: PodNamespace): void {
    this.#namespaces.set(namespace.id, namespace);
  }

  hasNamespace(id: string): boolean {
    return this.#namespaces.has(id);
  }

  /** A namespace takes its ends of all interfaces with it, and with them the routers' ends. */
  removeNamespace(id: string): void {
    this.#namespaces.delete(id);
    for (const [network, router] of this.#routers)
      for (const one of [...router.values()])
        if (one.namespace === id) this.#remove(network, one.attachmentId);
  }

  /** The machine goes down. */
  halt(): void {
    for (const id of [...this.#namespaces.keys()]) this.removeNamespace(id);
    for (const [network, router] of this.#routers)
      for (const id of [...router.keys()]) this.#remove(network, id);
    this.#routers.clear();
  }

  // --- what an agent does; each step may be its last

  /** Makes the interface, or repairs it. Throws Vl3Error('failed-precondition') when the namespace is gone. */
  connect(network: string, made: Interface): void {
    this.#crash.point('connect');
    if (!this.#namespaces.has(made.namespace))
      throw new Vl3Error('failed-precondition', `the namespace ${made.namespace} is gone`);
    const router = this.#routers.get(network) ?? new Map<string, Interface>();
    this.#routers.set(network, router);
    if (router.has(made.attachmentId)) this.#remove(network, made.attachmentId);
    router.set(made.attachmentId, made);
    this.#observer.connected(network, made.attachmentId, made.namespace, made.addresses);
    this.#crash.point('connected');
  }

  disconnect(network: string, attachmentId: string): void {
    this.#crash.point('disconnect');
    this.#remove(network, attachmentId);
    this.#crash.point('disconnected');
  }

  removeRouter(network: string): void {
    this.#crash.point('remove router');
    for (const id of [...(this.#routers.get(network)?.keys() ?? [])]) this.#remove(network, id);
    this.#routers.delete(network);
  }

  /** The interfaces in a network's router, by attachment. */
  interfaces(network: string): ReadonlyMap<string, Interface> {
    return this.#routers.get(network) ?? new Map();
  }

  get networks(): string[] {
    return [...this.#routers.keys()];
  }

  // --- packets

  /** A packet that a pod sends on a network. Keeps it. */
  fromPod(namespace: string, network: string, packet: Uint8Array): void {
    const router = this.#routers.get(network);
    if (router === undefined) return;
    const isConnected = [...router.values()].some((one) => one.namespace === namespace);
    if (!isConnected || this.toPod(network, packet)) return;
    this.toTunnel?.(network, packet);
  }

  /** A packet to a pod of this machine; false when it is none's. Keeps it. */
  toPod(network: string, packet: Uint8Array): boolean {
    const inner = readInnerPacket(packet);
    if (inner === undefined) return false;
    const destination = formatAddress(addressFromBytes(inner.destination));
    for (const { addresses, namespace } of this.#routers.get(network)?.values() ?? []) {
      if (!addresses.includes(destination)) continue;
      this.#namespaces.get(namespace)?.receive(network, packet);
      return true;
    }
    return false;
  }

  #remove(network: string, attachmentId: string): void {
    const router = this.#routers.get(network);
    const gone = router?.get(attachmentId);
    if (gone === undefined) return;
    router?.delete(attachmentId);
    this.#observer.disconnected(network, attachmentId, gone.addresses);
  }
}
