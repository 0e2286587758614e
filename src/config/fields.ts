// The kinds of values settings have, each a zod field from text to what the program works with. What a field refuses it
// says in words that follow "<where>: <key>: " and show how to write the value.

import { isIP, isIPv6 } from 'node:net';
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { type Prefix, parsePrefix } from '../../native-free/ipam/prefix.ts';
import { isReachable } from '../../native-free/registry/record.ts';
import { isName, isTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { parseDomainAddress } from '../identity/domain-address.ts';
import { parseFileNames, parseIdentityPlace } from '../identity/identity-place.ts';

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

export interface Host {
  /** A name or an address, without brackets. */
  readonly host: string;
  readonly port?: number;
}

/** What ends in a number is an address to every resolver: "1.2.3.400" is a mistake, and no name. */
const isHostName = (text: string): boolean => {
  const labels = text.replace(/\.$/, '').split('.');
  return labels.every((one) => /^\w(?:[\w-]{0,61}\w)?$/.test(one)) && !/^\d+$/.test(labels.at(-1) ?? '');
};

/** "203.0.113.7", "[2001:db8::7]:7443", "registry.example:7443"; undefined: none of these. */
const readHost = (value: string): Host | undefined => {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(value) ?? [];
  const inBrackets = bracketed !== undefined && isIPv6(bracketed) ? bracketed : undefined;
  const host = isIPv6(value) ? value : bracketed === undefined ? plain : inBrackets;
  const port = digits === undefined ? undefined : Number(digits);
  if (host === undefined || host.length > 253 || (isIP(host) === 0 && !isHostName(host))) return undefined;
  if (port !== undefined && (port < 1 || port > 65_535)) return undefined;
  return { host, ...(port === undefined ? {} : { port }) };
};

/** A field that `read` takes or refuses by a sentence that shows how to write it. */
const readBy = <T extends object | number>(read: (value: string) => T | string) =>
  z.string().transform((value, context): T => {
    const meant = read(value);
    if (typeof meant !== 'string') return meant;
    context.addIssue({ code: 'custom', message: meant });
    return z.NEVER;
  });

export const text = (maxLength = 4096) => z.string().max(maxLength, `write at most ${maxLength} characters`);

/** Absolute: a daemon's own directory is nothing that whoever wrote the value could know. */
export const directory = () =>
  text().refine(isAbsolute, 'write the whole path, from "/" on, like /var/lib/vl3');

export const choice = <const Choices extends readonly string[]>(choices: Choices) =>
  z.enum(choices, `choose one of ${choices.join(', ')}`);

export const integer = (min: number, max: number) =>
  readBy((value) => {
    const number = Number(value);
    const isIn = /^\d{1,15}$/.test(value) && number >= min && number <= max;
    return isIn ? number : `write a whole number from ${min} to ${max}`;
  });

/** "90s", "15m", "1h", "7d" to seconds. */
export const duration = () =>
  readBy((value) => {
    const [, digits, unit] = /^(\d{1,9})([smhd])$/.exec(value) ?? [];
    const seconds = UNIT_SECONDS[unit ?? ''];
    const isOne = digits !== undefined && seconds !== undefined;
    return isOne ? Number(digits) * seconds : 'write a duration like 90s, 15m, 1h or 7d';
  });

/** "10.96.0.0/12", "fd00:96::/112". */
const readPrefix = (value: string): Prefix | string => {
  try {
    return parsePrefix(value);
  } catch (error) {
    if (!(error instanceof Vl3Error)) throw error;
    return error.message;
  }
};

/** What no pool may overlap: were it everything, there would be no network. */
export const reservedRange = () =>
  readBy((value) => {
    const range = readPrefix(value);
    return typeof range === 'string' || range.length > 0
      ? range
      : 'that is every address, and no network could have a pool: name the ranges that are in use';
  });

const HOST_REMEDY = 'write an address like 203.0.113.7:7443, [2001:db8::7]:7443 or registry.example:7443';

/** A bare IPv6 address needs no brackets without a port. */
export const host = () => readBy((value) => readHost(value) ?? HOST_REMEDY);

/** Where others are to reach this machine. `loopback`: also from itself alone. */
export const advertised = ({ loopback }: { readonly loopback: boolean }) =>
  readBy((value) => {
    const read = readHost(value);
    if (read === undefined) return HOST_REMEDY;
    const { host: name } = read;
    const isBeside = loopback && (name === '::1' || (isIP(name) === 4 && name.startsWith('127.')));
    if (isIP(name) === 0 || isBeside || isReachable(name)) return read;
    return `no other machine can reach this machine at ${name}: name an address of it that they can, or leave it out`;
  });

/** As `host`, with a port. */
export const hostWithPort = () =>
  readBy((value) => {
    const { host: name, port } = readHost(value) ?? {};
    const isWhole = name !== undefined && port !== undefined;
    return isWhole ? { host: name, port } : 'write an address with its port, like 127.0.0.1:9643';
  });

/** What nodes and networks are called. */
export const label = () =>
  z.string().refine(isName, 'use a DNS label: lowercase letters, digits and inner hyphens, at most 63');

export const trustDomain = () =>
  z
    .string()
    .refine(isTrustDomain, 'use at most 255 lowercase letters, digits, dots, hyphens and underscores');

/** "vl3://aws-prod.example?ca=…&registry=…", kept as it is written. */
export const domainAddress = () =>
  z.string().superRefine((value, context) => {
    try {
      parseDomainAddress(value);
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
    }
  });

/** Throws nothing but Vl3Error('invalid-argument'). */
const parsedBy = <T extends object>(parse: (value: string) => T) =>
  readBy((value): T | string => {
    try {
      return parse(value);
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      return error.message;
    }
  });

/** "unix:///run/spire/agent.sock" or "/run/vl3-svid". */
export const identityPlace = () => parsedBy(parseIdentityPlace);

/** "svid.pem,svid_key.pem,svid_bundle.pem". */
export const svidFileNames = () => parsedBy(parseFileNames);

/** "vl3-system/vl3-domain". */
export const namespacedName = () =>
  readBy((value) => {
    const [, namespace, name] =
      /^([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\/([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)$/.exec(value) ?? [];
    const isOne = namespace !== undefined && name !== undefined;
    return isOne ? { namespace, name } : 'write <namespace>/<name>, like vl3-system/vl3-domain';
  });

/** What names begin with that are files at the same time. */
export const namePrefix = () =>
  z
    .string()
    .regex(
      /^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/,
      'use at most 32 letters, digits, "-", "_" or ".", a letter or digit first',
    );

export const listOf = <Field extends z.ZodType>(field: Field) => z.array(field);
