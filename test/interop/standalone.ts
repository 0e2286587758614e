// A standalone vl3 device as a process, in the network namespace it is started in. Its configuration comes as a file
// of JSON, its key among it; it says "ready", and from then on answers each connection to its control socket: one
// line of JSON asks, one answers. SIGTERM ends it.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { peerId } from '../../native-free/device/device.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import { StandaloneDevice, type StandalonePeerStatus } from '../../src/device/standalone-device.ts';
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
  readonly peers: readonly StandalonePeerStatus[];
  readonly counts: Readonly<Record<string, number>>;
}

const key = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'));

const setPeer = (device: StandaloneDevice, peer: StandalonePeer): void =>
  device.setPeer({
    publicKey: key(peer.publicKey),
    presharedKey: peer.presharedKey === undefined ? undefined : key(peer.presharedKey),
    allowedIps: peer.allowedIps.map(parsePrefix),
    endpoints: peer.endpoint === undefined ? [] : [peer.endpoint],
    persistentKeepalive: (peer.keepaliveSeconds ?? 0) * 1000,
  });

const answer = (device: StandaloneDevice, request: StandaloneRequest): StandaloneStatus => {
  if (request.do === 'set-peer') setPeer(device, request.peer);
  if (request.do === 'remove-peer') device.removePeer(peerId(key(request.publicKey)));
  return { port: device.port, peers: device.peers, counts: device.counts };
};

const main = async (config: StandaloneConfig): Promise<void> => {
  await using device = await StandaloneDevice.start(
    {
      privateKey: key(config.privateKey),
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
  for (const peer of config.peers) setPeer(device, peer);
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
