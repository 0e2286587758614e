// Names that reach the kernel: interfaces, namespaces, attachment ids; and what is derived from an attachment's id
// (its host interface, its MAC addresses). Every name passes through here before a tool sees it.

import { createHash } from 'node:crypto';
import { Vl3Error } from '../../native-free/error.ts';
import { interfaceNameProblem, MAX_INTERFACE_NAME } from '../../native-free/interface-name.ts';
import { type Address, addressFromBytes } from '../../native-free/ipam/prefix.ts';

/** Throws Vl3Error('invalid-argument') unless a pod's interface may be called so. */
export const checkInterfaceName = (name: string): void => {
  const problem = interfaceNameProblem(name);
  if (problem !== undefined) throw new Vl3Error('invalid-argument', problem);
};

/** Throws Vl3Error('invalid-argument') unless a named network namespace may be called so. */
export const checkNamespaceName = (name: string): void => {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/.test(name)) {
    throw new Vl3Error(
      'invalid-argument',
      `"${name}" can't name a network namespace: use letters, digits, "-", "_" or "."`,
    );
  }
};

/** Throws Vl3Error('invalid-argument') unless it can be an attachment's id. */
export const checkAttachmentId = (id: string): void => {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(id)) {
    throw new Vl3Error(
      'invalid-argument',
      `"${id}" is not an attachment id: 1 to 128 letters, digits, "-", "_" or "."`,
    );
  }
};

/** Longer names of networks are cut where the domain is not written out. */
const CUT = 40;
const MAX_NAMESPACE_NAME = 100;

/**
 * The router namespace of a network, which `network` names with its domain when it is another's. Own networks have neither "." nor
 * "_" in their names, so that none is ever taken for a partner's, nor one that is written out for one that is not.
 */
export const routerName = (prefix: string, network: string): string => {
  const at = network.indexOf('@');
  if (at < 0) return `${prefix}${network}`;
  const name = network.slice(0, at);
  const whole = `${prefix}${name}.${network.slice(at + 1)}`;
  if (whole.length <= MAX_NAMESPACE_NAME) return whole;
  const mark = Buffer.from(digest('router', network)).toString('hex').slice(0, 20);
  return `${prefix}${name.slice(0, CUT)}_${mark}`;
};

const digest = (purpose: string, id: string): Uint8Array =>
  createHash('sha256').update(`vl3 ${purpose}\0${id}`).digest();

/**
 * A pod's interface when it asks for no name: the network's, without its domain, a long one cut and told from others that begin
 * alike.
 */
export const defaultInterfaceName = (key: string): string => {
  const [network = key] = key.split('@');
  if (network.length <= MAX_INTERFACE_NAME) return network;
  const mark = Buffer.from(digest('network', network)).toString('hex').slice(0, 4);
  return `${network.slice(0, MAX_INTERFACE_NAME - 5)}-${mark}`;
};

/** The name of the attachment's end in the router namespace: 15 characters, the same for the same id. */
export const hostInterfaceName = (attachmentId: string): string =>
  `v${Buffer.from(digest('interface', attachmentId)).toString('hex').slice(0, 14)}`;

/** The locally administered MAC address of one end of an attachment. */
export const macAddress = (attachmentId: string, end: 'host' | 'pod'): string => {
  const bytes = digest(`mac ${end}`, attachmentId);
  const first = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return [first, ...bytes.subarray(1, 6)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
};

/** fe80::/64 with the EUI-64 of a MAC address (RFC 4291, appendix A). */
export const linkLocalAddress = (mac: string): Address => {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const bytes = new Uint8Array(16);
  bytes.set([0xfe, 0x80]);
  bytes.set([a ^ 0x02, b, c, 0xff, 0xfe, d, e, f], 8);
  return addressFromBytes(bytes);
};

/** The link-local address of every host interface: what a pod routes IPv6 through. */
export const ROUTER_LINK_LOCAL: Address = { family: 6, value: (0xfe80n << 112n) | 1n };
