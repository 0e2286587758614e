// The control protocol of a device: whatever lines come, in whatever pieces, each operation gets one answer, one that is
// refused changes nothing, and what a device says of itself can be set again. The device is a model that does as it is told.

import type { Endpoint } from '../../../native-free/device/data-plane.ts';
import { formatPrefix, type Prefix } from '../../../native-free/ipam/prefix.ts';
import {
  type DeviceChange,
  type PeerChange,
  type Request,
  RequestError,
  RequestParser,
} from '../../../native-free/uapi/request.ts';
import {
  type DeviceView,
  formatOutcome,
  formatView,
  type PeerView,
} from '../../../native-free/uapi/response.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, pure } from '../target.ts';

const KEYS = ['00', '01', 'ab', 'fF'].map((two) => two.repeat(32));
const LINES = [
  'get=1',
  'set=1',
  '',
  '',
  ...KEYS.flatMap((key) => [
    `private_key=${key}`,
    `public_key=${key}`,
    `public_key=${key}`,
    `preshared_key=${key}`,
  ]),
  'listen_port=0',
  'listen_port=65535',
  'fwmark=0xffffffff',
  'fwmark=0',
  'replace_peers=true',
  'remove=true',
  'update_only=true',
  'replace_allowed_ips=true',
  'endpoint=192.0.2.1:9',
  'endpoint=[2001:db8::1]:65535',
  'endpoint=[fe80::1%eth0]:1',
  'persistent_keepalive_interval=65535',
  'persistent_keepalive_interval=0',
  'protocol_version=1',
  'allowed_ip=0.0.0.0/0',
  'allowed_ip=10.1.2.3/8',
  'allowed_ip=-10.0.0.0/8',
  'allowed_ip=+fd00::/8',
  'allowed_ip=::ffff:1.2.3.4/128',
];

interface ModelPeer {
  presharedKey: Uint8Array;
  endpoint: Endpoint | undefined;
  keepalive: number;
  readonly allowed: Map<string, Prefix>;
}

/** What is configured, by the words of the protocol alone. */
class Model {
  privateKey: Uint8Array | undefined;
  listenPort = 1;
  fwmark = 0;
  readonly peers = new Map<string, ModelPeer>();

  configure(change: DeviceChange): void {
    if (change.privateKey !== undefined) this.privateKey = change.privateKey ?? undefined;
    if (change.listenPort !== undefined) this.listenPort = change.listenPort;
    if (change.fwmark !== undefined) this.fwmark = change.fwmark;
    if (change.replacePeers) this.peers.clear();
    for (const peer of change.peers) this.#changePeer(peer);
  }

  #changePeer(change: PeerChange): void {
    const id = Buffer.from(change.publicKey).toString('hex');
    const known = this.peers.get(id);
    if (change.remove) {
      this.peers.delete(id);
      return;
    }
    if (known === undefined && change.updateOnly) return;
    const peer = known ?? {
      presharedKey: new Uint8Array(32),
      endpoint: undefined,
      keepalive: 0,
      allowed: new Map<string, Prefix>(),
    };
    this.peers.set(id, peer);
    if (change.presharedKey !== undefined) peer.presharedKey = change.presharedKey;
    if (change.endpoint !== undefined) peer.endpoint = change.endpoint;
    if (change.persistentKeepalive !== undefined) peer.keepalive = change.persistentKeepalive;
    if (change.replaceAllowedIps) peer.allowed.clear();
    for (const { prefix, remove } of change.allowedIps) {
      const text = formatPrefix(prefix);
      if (remove) peer.allowed.delete(text);
      else {
        for (const other of this.peers.values()) other.allowed.delete(text);
        peer.allowed.set(text, prefix);
      }
    }
  }

  get view(): DeviceView {
    return {
      privateKey: this.privateKey,
      listenPort: this.listenPort,
      fwmark: this.fwmark,
      peers: [...this.peers].map(
        ([id, peer]): PeerView => ({
          publicKey: new Uint8Array(Buffer.from(id, 'hex')),
          presharedKey: peer.presharedKey,
          endpoint: peer.endpoint,
          lastHandshakeAt: 0,
          txBytes: 0,
          rxBytes: 0,
          persistentKeepalive: peer.keepalive,
          allowedIps: [...peer.allowed.values()],
        }),
      ),
    };
  }
}

const someLine = (source: Source): string => {
  const line = source.textLike(LINES, 300);
  // Lines end at newlines, whatever is in them.
  return line.replaceAll('\n', '');
};

const answerOf = (request: Request | RequestError, model: Model): string => {
  if (request instanceof RequestError) {
    must(request.errno > 0 && Number.isInteger(request.errno), () => `errno ${request.errno}`);
    return formatOutcome(request.errno, request.isGet);
  }
  if (request.kind === 'get') return formatView(model.view);
  model.configure(request.change);
  return formatOutcome(0);
};

const fuzzUapi = (source: Source): void => {
  const parser = new RequestParser();
  const model = new Model();
  while (!source.isEmpty) {
    const before = formatView(model.view);
    const line = someLine(source);
    const request = parser.push(line);
    mustEqual(request !== undefined, line === '', 'whether a line ends an operation');
    if (request === undefined) continue;
    const answer = answerOf(request, model);
    must(/^([a-z_]+=[^\n]*\n)*errno=-?\d+\n\n$/.test(answer), () => `the answer ${JSON.stringify(answer)}`);
    if (request instanceof RequestError) mustEqual(formatView(model.view), before, 'what a refusal changed');
  }
  mustBeSettable(model);
};

/** Said by one device and set on another, the configuration is the same. */
const mustBeSettable = (model: Model): void => {
  const said = formatView(model.view);
  const settable = said.split('\n').filter((line) => !/^(last_|tx_|rx_|errno|$)/.test(line));
  const parser = new RequestParser();
  const other = new Model();
  for (const line of ['set=1', ...settable]) parser.push(line);
  const request = parser.push('');
  must(
    request !== undefined && !(request instanceof RequestError),
    () => `${said} cannot be set: ${String(request)}`,
  );
  answerOf(request, other);
  mustEqual(formatView(other.view), said, 'what another device says of it');
};

export const uapiTargets = [
  pure(
    'uapi',
    'each operation is answered once, refused whole or done, and what is said can be set',
    600,
    fuzzUapi,
  ),
];
