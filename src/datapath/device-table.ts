// A worker's devices: one per network, each with its TUN and the allowed IPs of its peers. Changed by messages from
// the main thread between batches; looked up by device number (a small integer) and by position among what is polled.

import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { buildAllowedIpsTable, lookupV4, lookupV6 } from '../../native-free/device/allowed-ips-table.ts';
import { MacKey } from '../../native-free/noise/blake2s.ts';
import type { Poller } from './poller.ts';
import type { TunOffload } from './tun.ts';
import type { Configuration } from './worker-protocol.ts';

const NO_ALLOWED_IPS = buildAllowedIpsTable([]);

export class WorkerDevice {
  readonly device: number;
  /** The TUN's queues, by pair of workers; this worker reads from its own alone. */
  readonly fds: readonly number[];
  readonly fd: number;
  mtu: number;
  readonly offload: TunOffload;
  /** Where a poller that watches TUNs has it; -1: not watched. */
  position = -1;
  allowedIps: Int32Array = NO_ALLOWED_IPS;
  /** Undefined until it is known. */
  mac1Key: MacKey | undefined;

  constructor(device: number, fds: readonly number[], pair: number, mtu: number, offload: TunOffload) {
    this.device = device;
    this.fds = fds;
    this.fd = fds[pair] ?? -1;
    this.mtu = mtu;
    this.offload = offload;
  }

  /** The peer whose allowed IPs hold the address (4 or 16 bytes) at `offset`, or NO_SLOT. */
  peerOf(bytes: Uint8Array, offset: number, length: 4 | 16): number {
    return length === 4 ? lookupV4(this.allowedIps, bytes, offset) : lookupV6(this.allowedIps, bytes, offset);
  }
}

/** What main has sent since. */
export const takeConfiguration = (port: MessagePort, take: (configuration: Configuration) => void): void => {
  for (let message = receiveMessageOnPort(port); message; message = receiveMessageOnPort(port))
    take(message.message);
};

export class DeviceTable {
  /** Those in use, in no order. */
  readonly all: WorkerDevice[] = [];
  readonly #byNumber: (WorkerDevice | undefined)[] = [];
  readonly #pair: number;
  readonly #poller: Poller | undefined;

  /** With a poller, it keeps watching exactly the pair's queues of these devices' TUNs. */
  constructor(pair: number, poller: Poller | undefined) {
    this.#pair = pair;
    this.#poller = poller;
  }

  get(device: number): WorkerDevice | undefined {
    return this.#byNumber[device];
  }

  apply({ change }: Configuration): void {
    if (change.kind === 'add-device') {
      const { fds, mtu, offload } = change;
      const device = new WorkerDevice(change.device, fds, this.#pair, mtu, offload);
      this.#byNumber[change.device] = device;
      this.all.push(device);
      this.#watch();
    } else if (change.kind === 'remove-device') {
      const device = this.#byNumber[change.device];
      if (device !== undefined) this.#remove(device);
      this.#byNumber[change.device] = undefined;
    } else if (change.kind === 'set-mtu') {
      const device = this.#byNumber[change.device];
      if (device !== undefined) device.mtu = change.mtu;
    } else if (change.kind === 'set-mac1-key') {
      const device = this.#byNumber[change.device];
      if (device !== undefined) device.mac1Key = new MacKey(change.mac1Key);
    } else {
      const device = this.#byNumber[change.device];
      if (device !== undefined) device.allowedIps = change.allowedIps;
    }
  }

  /** Stops using a device's TUN, but keeps its number taken until main removes it. */
  ignore(device: WorkerDevice): void {
    this.#remove(device);
  }

  #remove(device: WorkerDevice): void {
    const i = this.all.indexOf(device);
    if (i >= 0) this.all.splice(i, 1);
    this.#watch();
  }

  #watch(): void {
    if (this.#poller === undefined) return;
    const first = this.#poller.watch(this.all.map((device) => device.fd));
    this.all.forEach((device, i) => {
      device.position = first + i;
    });
  }
}
