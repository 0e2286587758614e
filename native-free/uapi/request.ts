// The cross-platform userspace protocol by which wg and wg-quick drive a device (wireguard.com/xplatform): lines of
// key=value, an empty line at the end of each operation. A request is understood whole before anything of it is carried out,
// so a bad one changes nothing. Not here: the answer (response.ts), and what a change does (configuration.ts).

import type { Endpoint } from '../device/data-plane.ts';
import { familyBits, formatAddress, type Prefix, parseAddress, prefixAround } from '../ipam/prefix.ts';
import { KEY_LENGTH } from '../noise/constants.ts';

export type Request = { readonly kind: 'get' } | { readonly kind: 'set'; readonly change: DeviceChange };

export interface DeviceChange {
  /** Null: none any more. */
  readonly privateKey?: Uint8Array | null;
  /** 0: any free one. */
  readonly listenPort?: number;
  /** 0: none. */
  readonly fwmark?: number;
  readonly replacePeers: boolean;
  /** To be carried out one after another; the same peer may come several times. */
  readonly peers: readonly PeerChange[];
}

export interface PeerChange {
  readonly publicKey: Uint8Array;
  readonly remove: boolean;
  /** Nothing happens if there is no such peer. */
  readonly updateOnly: boolean;
  /** All zero: none. */
  readonly presharedKey?: Uint8Array;
  readonly endpoint?: Endpoint;
  /** Seconds; 0: off. */
  readonly persistentKeepalive?: number;
  readonly replaceAllowedIps: boolean;
  readonly allowedIps: readonly AllowedIpChange[];
}

export interface AllowedIpChange {
  readonly prefix: Prefix;
  readonly remove: boolean;
}

/** Linux's numbers, as `wg` expects them; positive. */
export const EINVAL = 22;
export const EPROTO = 71;
export const E2BIG = 7;

/** Why a request was not understood. */
export class RequestError extends Error {
  readonly errno: number;
  /** Whether it was a question: `wg` then wants another sign before the number. */
  readonly isGet: boolean;

  constructor(errno: number, isGet: boolean, message: string) {
    super(message);
    this.errno = errno;
    this.isGet = isGet;
  }
}

/** Longer lines are nothing that anybody means. */
const MAX_LINE = 256;
/** Of one request: room for a million allowed IPs. */
const MAX_LINES = 1_500_000;

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };
type OpenPeer = Mutable<Omit<PeerChange, 'allowedIps'>> & { allowedIps: AllowedIpChange[] };
type OpenChange = Mutable<Omit<DeviceChange, 'peers'>> & { peers: OpenPeer[] };

/** Takes one connection's lines and gives back requests as they become whole. */
export class RequestParser {
  #kind: 'get' | 'set' | undefined;
  #change: OpenChange = { replacePeers: false, peers: [] };
  #failure: RequestError | undefined;
  #lines = 0;

  /** A line without its newline. Undefined until a request is whole. */
  push(line: string): Request | RequestError | undefined {
    if (line === '') return this.#finish();
    this.#lines += 1;
    if (this.#failure !== undefined) return undefined;
    try {
      if (line.length > MAX_LINE || this.#lines > MAX_LINES) throw new Refusal(E2BIG, 'it is too long');
      this.#take(line);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#failure = new RequestError(error.errno, this.#kind === 'get', error.message);
    }
    return undefined;
  }

  #finish(): Request | RequestError {
    const failure = this.#failure;
    const kind = this.#kind;
    const change = this.#change;
    this.#kind = undefined;
    this.#change = { replacePeers: false, peers: [] };
    this.#failure = undefined;
    this.#lines = 0;
    if (failure !== undefined) return failure;
    if (kind === undefined) return new RequestError(EPROTO, false, 'it says neither get=1 nor set=1');
    return kind === 'get' ? { kind } : { kind, change };
  }

  #take(line: string): void {
    const at = line.indexOf('=');
    if (at <= 0) throw new Refusal(EPROTO, `"${line}" is not key=value`);
    const key = line.slice(0, at);
    const value = line.slice(at + 1);
    if (this.#kind === undefined) this.#begin(key, value);
    else if (this.#kind === 'get') throw new Refusal(EINVAL, 'get=1 takes nothing more');
    else if (key === 'public_key') this.#openPeer(parseKey(value));
    else {
      const peer = this.#change.peers.at(-1);
      if (peer === undefined) takeDevice(this.#change, key, value);
      else takePeer(peer, key, value);
    }
  }

  #begin(key: string, value: string): void {
    if (value !== '1' || (key !== 'get' && key !== 'set'))
      throw new Refusal(EPROTO, `it begins with "${key}=${value}", not with get=1 or set=1`);
    this.#kind = key;
  }

  #openPeer(publicKey: Uint8Array): void {
    this.#change.peers.push({
      publicKey,
      remove: false,
      updateOnly: false,
      replaceAllowedIps: false,
      allowedIps: [],
    });
  }
}

class Refusal extends Error {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

const takeDevice = (change: OpenChange, key: string, value: string): void => {
  switch (key) {
    case 'private_key': {
      const privateKey = parseKey(value);
      change.privateKey = privateKey.every((byte) => byte === 0) ? null : privateKey;
      break;
    }
    case 'listen_port':
      change.listenPort = parseNumber(value, 0xffff);
      break;
    case 'fwmark':
      change.fwmark = parseNumber(value, 0xffff_ffff);
      break;
    case 'replace_peers':
      parseTrue(value);
      change.replacePeers = true;
      break;
    default:
      throw new Refusal(EINVAL, `there is no key "${key}" of a device`);
  }
};

const takePeer = (peer: OpenPeer, key: string, value: string): void => {
  switch (key) {
    case 'remove':
      parseTrue(value);
      peer.remove = true;
      break;
    case 'update_only':
      parseTrue(value);
      peer.updateOnly = true;
      break;
    case 'preshared_key':
      peer.presharedKey = parseKey(value);
      break;
    case 'endpoint':
      peer.endpoint = parseEndpoint(value);
      break;
    case 'persistent_keepalive_interval':
      peer.persistentKeepalive = parseNumber(value, 0xffff);
      break;
    case 'replace_allowed_ips':
      parseTrue(value);
      peer.replaceAllowedIps = true;
      // What came before in this very request goes, too.
      peer.allowedIps = [];
      break;
    case 'allowed_ip': {
      const remove = value.startsWith('-');
      peer.allowedIps.push({
        prefix: parseAllowedIp(value.slice(remove || value.startsWith('+') ? 1 : 0)),
        remove,
      });
      break;
    }
    case 'protocol_version':
      if (value !== '1') throw new Refusal(EINVAL, `there is no protocol version ${value}`);
      break;
    default:
      throw new Refusal(EINVAL, `there is no key "${key}" of a peer`);
  }
};

const parseKey = (value: string): Uint8Array => {
  if (!/^[0-9a-fA-F]{64}$/.test(value)) throw new Refusal(EINVAL, 'a key is 64 hexadecimal digits');
  return Uint8Array.from({ length: KEY_LENGTH }, (_, i) =>
    Number.parseInt(value.slice(i * 2, i * 2 + 2), 16),
  );
};

/** Decimal, or hexadecimal with 0x: `wg` sends marks so. */
const parseNumber = (value: string, most: number): number => {
  const number = /^(0x[0-9a-fA-F]{1,8}|\d{1,10})$/.test(value) ? Number(value) : Number.NaN;
  if (!(number <= most)) throw new Refusal(EINVAL, `"${value}" is not a number up to ${most}`);
  return number;
};

const parseTrue = (value: string): void => {
  if (value !== 'true') throw new Refusal(EINVAL, `"${value}" is not "true"`);
};

/** `1.2.3.4:51820`, `[2001:db8::1]:51820`, `[fe80::1%3]:51820`. */
const parseEndpoint = (value: string): Endpoint => {
  const parts = /^(?:\[([0-9a-fA-F:.]+)(%[^\s%\]]{1,15})?\]|([0-9.]+)):(\d{1,5})$/.exec(value);
  const [, v6, zone = '', v4, port = ''] = parts ?? [];
  const text = v6 ?? v4;
  const number = Number(port);
  if (text === undefined || number === 0 || number > 0xffff)
    throw new Refusal(EINVAL, `"${value}" is no endpoint`);
  return { address: formatAddress(refusing(() => parseAddress(text), value)) + zone, port: number };
};

/** Bits past the length count for nothing. Without a length it is one address. */
const parseAllowedIp = (value: string): Prefix => {
  const [, text = '', length] = /^([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(value) ?? [];
  const address = refusing(() => parseAddress(text), value);
  const bits = familyBits(address.family);
  const asked = length === undefined ? bits : Number(length);
  if (asked > bits) throw new Refusal(EINVAL, `"${value}" is longer than an address`);
  return prefixAround(address, asked);
};

const refusing = <T>(parse: () => T, value: string): T => {
  try {
    return parse();
  } catch {
    throw new Refusal(EINVAL, `"${value}" holds no address`);
  }
};
