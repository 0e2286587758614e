// The control protocol of a device: whatever lines come, in whatever pieces, each operation gets one answer, one that is
// refused changes nothing, and what a device says of itself can be set again. The device is a model that does as it is told.

import type { Endpoint } from '../../../native-free/device/data-plane.ts';
import {
  familyBits,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  prefixAround,
} from '../../../native-free/ipam/prefix.ts';
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

  /** The lines of an operation that was accepted: of the device, then of one peer after another. */
  configure(lines: readonly string[]): void {
    const [device = '', ...peers] = lines
      .slice(1)
      .join('\n')
      .split(/^public_key=/m);
    for (const line of device.split('\n')) this.#setDevice(...keyAndValue(line));
    for (const text of peers) {
      const [key = '', ...rest] = text.trimEnd().split('\n');
      const id = key.toLowerCase();
      if (rest.includes('remove=true')) this.peers.delete(id);
      else if (this.peers.has(id) || !rest.includes('update_only=true')) {
        const peer = this.peers.get(id) ?? newPeer();
        this.peers.set(id, peer);
        // What is replaced in the same breath was never anybody's.
        const since = rest.lastIndexOf('replace_allowed_ips=true');
        const counts = (line: string, i: number): boolean => i >= since || !line.startsWith('allowed_ip=');
        for (const line of rest.filter(counts)) this.#setPeer(peer, ...keyAndValue(line));
      }
    }
  }

  #setDevice(key: string, value: string): void {
    if (key === 'private_key') this.privateKey = /[^0]/.test(value) ? bytesOf(value) : undefined;
    else if (key === 'listen_port') this.listenPort = Number(value);
    else if (key === 'fwmark') this.fwmark = Number(value);
    else if (key === 'replace_peers') this.peers.clear();
  }

  #setPeer(peer: ModelPeer, key: string, value: string): void {
    if (key === 'preshared_key') peer.presharedKey = bytesOf(value);
    else if (key === 'endpoint') peer.endpoint = endpointOf(value);
    else if (key === 'persistent_keepalive_interval') peer.keepalive = Number(value);
    else if (key === 'replace_allowed_ips') peer.allowed.clear();
    else if (key === 'allowed_ip') {
      const [text = '', length] = value.replace(/^[-+]/, '').split('/');
      const address = parseAddress(text);
      const prefix = prefixAround(
        address,
        length === undefined ? familyBits(address.family) : Number(length),
      );
      const name = formatPrefix(prefix);
      if (value.startsWith('-')) peer.allowed.delete(name);
      else {
        for (const other of this.peers.values()) other.allowed.delete(name);
        peer.allowed.set(name, prefix);
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

/** What the parsed change makes of a copy of the model. */
class Applied extends Model {
  constructor(model: Model) {
    super();
    this.privateKey = model.privateKey;
    this.listenPort = model.listenPort;
    this.fwmark = model.fwmark;
    for (const [id, peer] of model.peers) this.peers.set(id, { ...peer, allowed: new Map(peer.allowed) });
  }

  carryOut(change: DeviceChange): void {
    this.privateKey = change.privateKey === null ? undefined : (change.privateKey ?? this.privateKey);
    this.listenPort = change.listenPort ?? this.listenPort;
    this.fwmark = change.fwmark ?? this.fwmark;
    if (change.replacePeers) this.peers.clear();
    for (const peer of change.peers) this.#changePeer(peer);
  }

  #changePeer(change: PeerChange): void {
    const id = Buffer.from(change.publicKey).toString('hex');
    if (change.remove) this.peers.delete(id);
    if (change.remove || (change.updateOnly && !this.peers.has(id))) return;
    const peer = this.peers.get(id) ?? newPeer();
    this.peers.set(id, peer);
    peer.presharedKey = change.presharedKey ?? peer.presharedKey;
    peer.endpoint = change.endpoint ?? peer.endpoint;
    peer.keepalive = change.persistentKeepalive ?? peer.keepalive;
    if (change.replaceAllowedIps) peer.allowed.clear();
    for (const { prefix, remove } of change.allowedIps) {
      const name = formatPrefix(prefix);
      for (const other of this.peers.values()) if (!remove || other === peer) other.allowed.delete(name);
      if (!remove) peer.allowed.set(name, prefix);
    }
  }
}

const keyAndValue = (line: string): [key: string, value: string] => {
  const at = line.indexOf('=');
  return [line.slice(0, at), line.slice(at + 1)];
};
const newPeer = (): ModelPeer => ({
  presharedKey: new Uint8Array(32),
  endpoint: undefined,
  keepalive: 0,
  allowed: new Map<string, Prefix>(),
});
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const endpointOf = (text: string): Endpoint => {
  const at = text.lastIndexOf(':');
  const [address = '', zone] = text.slice(0, at).replace(/[[\]]/g, '').split('%');
  const canonical = formatAddress(parseAddress(address));
  return {
    address: zone === undefined ? canonical : `${canonical}%${zone}`,
    port: Number(text.slice(at + 1)),
  };
};

const DEVICE_KEYS = /^(private_key|listen_port|fwmark|replace_peers)=/;
const OF_DEVICE = LINES.filter((line) => DEVICE_KEYS.test(line));
const OF_PEER = LINES.filter(
  (line) => line.includes('=') && !/^[gs]et=/.test(line) && !DEVICE_KEYS.test(line),
);

/** An operation without its empty line: mostly sound, now and then any lines at all. Lines end at newlines. */
const someOperation = (source: Source): string[] => {
  const kind = source.between(0, 7);
  const some = (list: readonly string[], most: number): string[] =>
    Array.from({ length: source.between(0, most) }, () => source.pick(list));
  if (kind === 0) return ['get=1'];
  const lines = kind === 1 ? some(LINES, 8) : ['set=1', ...some(OF_DEVICE, 3)];
  if (kind > 2) lines.push(`public_key=${source.pick(KEYS)}`, ...some(OF_PEER, 12));
  return lines
    .map((line) => (source.chance(6) ? source.textLike([line], 300) : line))
    .map((line) => line.replaceAll('\n', ''))
    .filter((line) => line !== '');
};

const answerOf = (request: Request | RequestError, lines: readonly string[], model: Model): string => {
  if (request instanceof RequestError) {
    must(request.errno > 0 && Number.isInteger(request.errno), () => `errno ${request.errno}`);
    return formatOutcome(request.errno, request.isGet);
  }
  if (request.kind === 'get') return formatView(model.view);
  const parsed = new Applied(model);
  parsed.carryOut(request.change);
  model.configure(lines);
  mustEqual(formatView(parsed.view), formatView(model.view), 'what was understood');
  return formatOutcome(0);
};

const fuzzUapi = (source: Source): void => {
  const parser = new RequestParser();
  const model = new Model();
  while (!source.isEmpty) {
    const lines = someOperation(source);
    for (const line of lines) mustEqual(parser.push(line), undefined, 'what a line brings before the end');
    const request = parser.push('');
    must(request !== undefined, 'an operation without an answer');
    const answer = answerOf(request, lines, model);
    must(/^([a-z_]+=[^\n]*\n)*errno=-?\d+\n\n$/.test(answer), () => `the answer ${JSON.stringify(answer)}`);
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
  answerOf(request, ['set=1', ...settable], other);
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
