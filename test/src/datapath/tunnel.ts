// Two datapaths in two hosts of the lab, with keypairs put in by hand: what the tests of the datapath share.
// Both run in this process; a socket and a TUN stay in the namespace that this thread was in when it made them.

import { randomBytes } from 'node:crypto';
import type { Action, DataPlaneEvent, Endpoint, Keypair } from '../../../native-free/device/data-plane.ts';
import type { PathEvent } from '../../../native-free/device/path-mtus.ts';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { Datapath, type DatapathOptions } from '../../../src/datapath/datapath.ts';
import { inNamespace, openTun, removeTun, type Tun } from '../../../src/datapath/tun.ts';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import type { Host } from '../../lab/host.ts';
import type { Lab } from '../../lab/lab.ts';

export const DEVICE = 'red';
export const MTU = 1420;

export interface EndOptions extends Partial<DatapathOptions> {
  readonly tunOffloads?: boolean;
  /** Where the TUN goes; by default the host itself. */
  readonly tunIn?: Host;
}

/** One end: a host, its datapath, its TUN, and what it was told. */
export class End implements AsyncDisposable {
  readonly host: Host;
  readonly tunHost: Host;
  readonly datapath: Datapath;
  readonly tun: Tun;
  readonly events: DataPlaneEvent[] = [];
  readonly pathEvents: PathEvent[];
  readonly datagrams: { datagram: Uint8Array; source: Endpoint }[] = [];
  readonly lost: string[] = [];
  #isRemoved = false;

  static async start(host: Host, tunName: string, options: EndOptions = {}): Promise<End> {
    const events: DataPlaneEvent[] = [];
    const pathEvents: PathEvent[] = [];
    const datagrams: End['datagrams'] = [];
    const lost: string[] = [];
    const datapath = await inNamespace(host.netns, () =>
      Datapath.start(
        { port: 0, ...options },
        {
          onEvent: (_, event) => events.push(event),
          onPathEvent: (_, event) => pathEvents.push(event),
          onDatagram: (datagram, source) => datagrams.push({ datagram: datagram.slice(), source }),
          onDeviceLost: (deviceId) => lost.push(deviceId),
          onFailure: (error) => {
            throw error;
          },
        },
      ),
    );
    const tunHost = options.tunIn ?? host;
    const tun = openTun({
      name: tunName,
      netns: tunHost.netns,
      allowOffloads: options.tunOffloads ?? true,
      queues: datapath.pairs,
    });
    datapath.addDevice(DEVICE, tun, MTU);
    return new End(host, tunHost, datapath, tun, events, pathEvents, datagrams, lost);
  }

  private constructor(
    host: Host,
    tunHost: Host,
    datapath: Datapath,
    tun: Tun,
    events: DataPlaneEvent[],
    pathEvents: PathEvent[],
    datagrams: End['datagrams'],
    lost: string[],
  ) {
    this.host = host;
    this.tunHost = tunHost;
    this.datapath = datapath;
    this.tun = tun;
    this.events = events;
    this.pathEvents = pathEvents;
    this.datagrams = datagrams;
    this.lost = lost;
  }

  /** Gives the TUN addresses and routes. */
  async up(addresses: readonly string[], routes: readonly string[]): Promise<void> {
    const { name } = this.tun;
    await this.tunHost.ip(
      ...addresses.map((a) => `address add ${a} dev ${name}${a.includes(':') ? ' nodad' : ''}`),
      `link set ${name} mtu ${MTU} up`,
      ...routes.map((r) => `route replace ${r} dev ${name}`),
    );
  }

  allow(entries: Record<string, string[]>): void {
    this.datapath.setAllowedIps(
      DEVICE,
      Object.entries(entries).flatMap(([peer, prefixes]) =>
        prefixes.map((prefix) => ({ prefix: parsePrefix(prefix), peer })),
      ),
    );
  }

  apply(...actions: Action[]): void {
    this.datapath.apply(DEVICE, actions);
  }

  /** Ends the datapath and removes the TUN; once. */
  async remove(): Promise<void> {
    if (this.#isRemoved) return;
    this.#isRemoved = true;
    await this.datapath[Symbol.asyncDispose]();
    removeTun(this.tun);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }
}

/** The two halves of a session, as a handshake would make them. */
export const keypairs = (createdAt = monotonicNow()): [initiator: Keypair, responder: Keypair] => {
  const one = Uint8Array.from(randomBytes(32));
  const other = Uint8Array.from(randomBytes(32));
  const [a = 0, b = 0] = new Uint32Array(Uint8Array.from(randomBytes(8)).buffer);
  return [
    { localIndex: a, remoteIndex: b, sendKey: one, receiveKey: other, isInitiator: true, createdAt },
    { localIndex: b, remoteIndex: a, sendKey: other, receiveKey: one, isInitiator: false, createdAt },
  ];
};

/** Makes each the other's peer, under the names "a" and "b", with a fresh session. */
export const join = (a: End, b: End, endpointOfA: string, endpointOfB: string): void => {
  const [ofA, ofB] = keypairs();
  a.datapath.addPeer(DEVICE, 'b');
  b.datapath.addPeer(DEVICE, 'a');
  // As after a handshake: whoever receives is ready before anybody sends.
  a.apply(
    { kind: 'set-endpoint', peer: 'b', endpoint: { address: endpointOfB, port: b.datapath.port } },
    { kind: 'install-keypair', peer: 'b', keypair: ofA },
  );
  b.apply(
    { kind: 'set-endpoint', peer: 'a', endpoint: { address: endpointOfA, port: a.datapath.port } },
    { kind: 'install-keypair', peer: 'a', keypair: ofB },
  );
  a.apply({ kind: 'use-keypair', peer: 'b', localIndex: ofA.localIndex });
  b.apply({ kind: 'use-keypair', peer: 'a', localIndex: ofB.localIndex });
};

/** Two hosts on one cable, 192.0.2.1 and .2, 2001:db8::1 and ::2. */
export const twoHosts = async (lab: Lab): Promise<[Host, Host]> => {
  const a = await lab.host('a');
  const b = await lab.host('b');
  await lab.cable(
    { host: a, interface: 'eth0', addresses: ['192.0.2.1/24', '2001:db8::1/64'] },
    { host: b, interface: 'eth0', addresses: ['192.0.2.2/24', '2001:db8::2/64'] },
  );
  return [a, b];
};
