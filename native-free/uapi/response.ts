// What a device answers over the cross-platform userspace protocol (request.ts): its whole configuration and how its peers
// fare, or the number of an error. `wg` wants that number negative after a change and positive after a question.

import { bytesToHex } from '@noble/hashes/utils.js';
import type { Endpoint } from '../device/data-plane.ts';
import { formatHostPort } from '../host-port.ts';
import { formatPrefix, type Prefix } from '../ipam/prefix.ts';

export interface DeviceView {
  readonly privateKey: Uint8Array | undefined;
  readonly listenPort: number;
  readonly fwmark: number;
  readonly peers: readonly PeerView[];
}

export interface PeerView {
  readonly publicKey: Uint8Array;
  /** All zero: none. */
  readonly presharedKey: Uint8Array;
  readonly endpoint: Endpoint | undefined;
  /** Milliseconds since 1970; 0: never. */
  readonly lastHandshakeAt: number;
  readonly txBytes: number;
  readonly rxBytes: number;
  /** Seconds. */
  readonly persistentKeepalive: number;
  readonly allowedIps: readonly Prefix[];
}

export const formatView = (view: DeviceView): string => {
  const lines: string[] = [];
  if (view.privateKey !== undefined) lines.push(`private_key=${bytesToHex(view.privateKey)}`);
  lines.push(`listen_port=${view.listenPort}`);
  if (view.fwmark !== 0) lines.push(`fwmark=${view.fwmark}`);
  for (const peer of view.peers) addPeer(lines, peer);
  return `${lines.join('\n')}\nerrno=0\n\n`;
};

const addPeer = (lines: string[], peer: PeerView): void => {
  const { lastHandshakeAt, endpoint } = peer;
  lines.push(`public_key=${bytesToHex(peer.publicKey)}`);
  lines.push(`preshared_key=${bytesToHex(peer.presharedKey)}`);
  lines.push('protocol_version=1');
  if (endpoint !== undefined)
    lines.push(`endpoint=${formatHostPort({ host: endpoint.address, port: endpoint.port })}`);
  lines.push(`last_handshake_time_sec=${Math.floor(lastHandshakeAt / 1000)}`);
  lines.push(`last_handshake_time_nsec=${Math.floor(lastHandshakeAt % 1000) * 1_000_000}`);
  lines.push(`tx_bytes=${peer.txBytes}`, `rx_bytes=${peer.rxBytes}`);
  lines.push(`persistent_keepalive_interval=${peer.persistentKeepalive}`);
  for (const prefix of peer.allowedIps) lines.push(`allowed_ip=${formatPrefix(prefix)}`);
};

/** `errno` as Linux has it, positive; 0: the change was made. */
export const formatOutcome = (errno: number, isGet = false): string =>
  `errno=${errno === 0 || isGet ? errno : -errno}\n\n`;
