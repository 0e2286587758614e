// The configuration of a stock WireGuard peer, as wg-quick, phones and routers read it (wg-quick(8)).

import { isIPv6 } from 'node:net';
import type { MadeStockPeer } from '../../src/agent/local-messages.ts';

export interface WgQuickOptions {
  /** In base64; undefined: its owner has it. */
  readonly privateKey: string | undefined;
  /** "host:port" of the node. */
  readonly endpoint: string;
  /** What it sends into the tunnel. */
  readonly allowedIps: readonly string[];
  /** 0: none. */
  readonly keepaliveSeconds: number;
}

/** Ends with a newline. */
export const wgQuickConfig = (peer: MadeStockPeer, options: WgQuickOptions): string => {
  const { privateKey, endpoint, allowedIps, keepaliveSeconds } = options;
  const lines = [
    `# ${peer.name} on ${peer.network}`,
    '[Interface]',
    privateKey === undefined
      ? `# PrivateKey = the one that ${peer.publicKey} belongs to`
      : `PrivateKey = ${privateKey}`,
    `Address = ${peer.addresses.map((address) => `${address}/${isIPv6(address) ? 128 : 32}`).join(', ')}`,
    `MTU = ${peer.node.mtu}`,
    '',
    '[Peer]',
    `PublicKey = ${peer.node.publicKey}`,
    `AllowedIPs = ${allowedIps.join(', ')}`,
    `Endpoint = ${endpoint}`,
    ...(keepaliveSeconds === 0 ? [] : [`PersistentKeepalive = ${keepaliveSeconds}`]),
  ];
  return `${lines.join('\n')}\n`;
};
