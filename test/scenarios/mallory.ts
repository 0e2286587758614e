// Mallory, who sits on a host of the same cloud with a stock WireGuard and whatever keys leaked, and calls nodes as somebody else.

import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Capture } from '../lab/capture.ts';
import type { Site } from '../lab/internet.ts';
import type { Lab } from '../lab/lab.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';
import { type KeyPair, WireguardGo } from '../lab/wireguard-go.ts';

export interface Call {
  readonly lab: Lab;
  readonly from: Site;
  /** Whom she calls, and the pod there that she means. */
  readonly node: Node;
  readonly pod: Pod;
  /** Of whom she pretends to be. */
  readonly keys: KeyPair;
  /** Of red, that she sends from. */
  readonly address: string;
}

/** How many of her pings get in to the pod, and how many are answered? */
export const callAs = async ({ lab, from, node, pod, keys, address }: Call) => {
  const { networks } = await node.status();
  const device = await WireguardGo.start(lab, from.host, {
    keys,
    addresses: [`${address}/32`],
    peers: [
      {
        publicKey: networks[0]?.publicKey ?? '',
        allowedIps: ['10.60.0.0/16'],
        endpoint: `${node.site.address}:51820`,
      },
    ],
  });
  const capture = await Capture.start(pod.host, 'red', ['src', 'host', address]);
  const { received } = await ping(from.host, pod.v4('red'), { count: 5, wait: 3 });
  const arrived = (await capture.stop()).length;
  const [, peer] = await device.dump();
  await device.stop();
  return { received, arrived, hasSession: Number(peer?.[4]) > 0 };
};

/** Stops the agent of a node and takes its key pair on red from its state. */
export async function keysOf(node: Node): Promise<KeyPair> {
  const { networks } = await node.status();
  await node.agent.stop();
  using database = new DatabaseSync(join(node.stateDir, 'agent.db'));
  const row = database.prepare(`SELECT value FROM document WHERE kind = 'network' AND name = 'red'`).get();
  const { privateKey } = JSON.parse(String(row?.['value']));
  return { privateKey, publicKey: networks[0]?.publicKey ?? '' };
}
