// Where a registry listens: "host:port", where the host is a DNS name, an IPv4 address or an IPv6 one in brackets.

import { isIP, isIPv6 } from 'node:net';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort, type HostPort } from '../../native-free/host-port.ts';

export const DEFAULT_REGISTRY_PORT = 7443;

const DNS_NAME =
  /^(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

/** Parses "registry.example:7443", "192.0.2.1" or "[2001:db8::1]:7443". Throws Vl3Error('invalid-argument'). */
export const parseRegistryAddress = (text: string): HostPort => {
  const [, bracketed, plain, digits] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const port = digits === undefined ? DEFAULT_REGISTRY_PORT : Number(digits);
  const host = bracketed ?? plain;
  const good = bracketed !== undefined ? isIPv6(bracketed) : host !== undefined && isHost(host);
  if (host === undefined || !good || port < 1 || port > 65_535) {
    const shown = text.replace(/[^\x20-\x7e]/g, '?').slice(0, 80);
    throw new Vl3Error(
      'invalid-argument',
      `"${shown}" is not a registry's address: write it like registry.example:7443, 192.0.2.1:7443 or [2001:db8::1]:7443`,
    );
  }
  return { host, port };
};

/** What the RPC client takes: "https://registry.example:7443". */
export const registryUrl = (address: HostPort): string => `https://${formatHostPort(address)}`;

/** True for a DNS name or an IP address, without brackets. */
export const isHost = (host: string): boolean => {
  if (isIPv6(host)) return !host.includes('%');
  // What looks like an IPv4 address must be one: "1.2.3.400" is no DNS name anyone means.
  if (/^[\d.]+$/.test(host)) return isIP(host) === 4;
  // Clients write it into a URL, in which a last label that is a number makes an IPv4 address of all of it.
  return DNS_NAME.test(host) && URL.canParse(`https://${host}`);
};
