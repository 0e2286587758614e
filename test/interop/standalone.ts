// A standalone vl3 device as a process, in the network namespace it is started in. Its configuration comes as a file
// of JSON, its key among it; it says "ready", and from then on answers each connection to its control socket: one
// line of JSON asks, one answers. SIGTERM ends it.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Activity } from '../../native-free/device/data-plane.ts';
import { peerId } from '../../native-free/device/device.ts';
import type { PeerStatus } from '../../native-free/device/peer.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import { WireguardDevice } from '../../src/device/wireguard-device.ts';
import { monotonicNow } from '../../src/ffi/clock.ts';
import { opensslPrimitives } from '../../src/noise/openssl-primitives.ts';

/** Keys are in base64. */
export interface StandaloneConfig {
  readonly privateKey: string;
  readonly listenPort: number;
  readonly tun: string;
  /** Namespace of the TUN; undefined: this one. */
  readonly netns: string | undefined;
  readonly mtu: number;
  readonly controlSocket: string;
  readonly peers: readonly StandalonePeer[];
}

export interface StandalonePeer {
  readonly publicKey: string;
  readonly presharedKey?: string;
  readonly allowedIps: readonly string[];
  readonly endpoint?: { readonly address: string; readonly port: number };
  readonly keepaliveSeconds?: number;
}

export type StandaloneRequest =
  | { readonly do: 'status' }
  | { readonly do: 'set-peer'; readonly peer: StandalonePeer }
  | { readonly do: 'remove-peer'; readonly publicKey: string };

export interface StandaloneStatus {
  readonly port: number;
  readonly peers: readonly (PeerStatus & Activity)[];
  readonly counts: Readonly<Record<string, number>>;
}

const key = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'));

const NO_CHANGE = { remove: false, updateOnly: false, replaceAllowedIps: false, allowedIps: [] };

const setPeers = (device: WireguardDevice, peers: readonly StandalonePeer[]): void =>
  device.configure({
    replacePeers: false,
    peers: peers.map((peer) => ({
      ...NO_CHANGE,
      publicKey: key(peer.publicKey),
      presharedKey: peer.presharedKey === undefined ? new Uint8Array(32) : key(peer.presharedKey),
      replaceAllowedIps: true,
      allowedIps: peer.allowedIps.map((text) => ({ prefix: parsePrefix(text), remove: false })),
      ...(peer.endpoint === undefined ? {} : { endpoint: peer.endpoint }),
      persistentKeepalive: peer.keepaliveSeconds ?? 0,
    })),
  });

const answer = (device: WireguardDevice, request: StandaloneRequest): StandaloneStatus => {
  if (request.do === 'set-peer') setPeers(device, [request.peer]);
  if (request.do === 'remove-peer') {
    const peer = { ...NO_CHANGE, publicKey: key(request.publicKey), remove: true };
    device.configure({ replacePeers: false, peers: [peer] });
  }
  const peers = device.view.peers.flatMap(({ publicKey }) => {
    const status = device.status(peerId(publicKey));
    const activity = device.activity(peerId(publicKey));
    return status === undefined || activity === undefined ? [] : [{ ...status, ...activity }];
  });
  return { port: device.port, peers, counts: device.counts };
};

const main = async (config: StandaloneConfig): Promise<void> => {
  await using device = await WireguardDevice.start(
    {
      port: config.listenPort,
      tun: { name: config.tun, netns: config.netns, allowOffloads: true },
      mtu: config.mtu,
    },
    {
      primitives: opensslPrimitives,
      random: (length) => new Uint8Array(randomBytes(length)),
      clock: { monotonic: monotonicNow, wall: Date.now },
    },
  );
  device.configure({ privateKey: key(config.privateKey), replacePeers: false, peers: [] });
  setPeers(device, config.peers);
  const control = createServer({ allowHalfOpen: true }, async (connection) => {
    connection.end(JSON.stringify(answer(device, JSON.parse(await text(connection)))));
  });
  control.listen(config.controlSocket, () => process.stdout.write('ready\n'));
  const ended = Promise.withResolvers<void>();
  process.once('SIGTERM', () => ended.resolve());
  await Promise.race([ended.promise, device.failed]);
  control.close();
};

await main(JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')));
