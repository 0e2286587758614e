// The kinds of values settings have, each a zod field from text to what the program works with. What a field refuses it
// says in words that follow "<where>: <key>: " and show how to write the value.

import { isIPv6 } from 'node:net';
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { type Prefix, parsePrefix } from '../../native-free/ipam/prefix.ts';
import { isName, isTrustDomain } from '../../native-free/registry/spiffe-id.ts';

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

export interface Host {
  /** A name or an address, without brackets. */
  readonly host: string;
  readonly port?: number;
}

/** "203.0.113.7", "[2001:db8::7]:7443", "registry.example:7443"; undefined: none of these. */
const readHost = (value: string): Host | undefined => {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(value) ?? [];
  const inBrackets = bracketed !== undefined && isIPv6(bracketed) ? bracketed : undefined;
  const host = isIPv6(value) ? value : bracketed === undefined ? plain : inBrackets;
  const port = digits === undefined ? undefined : Number(digits);
  if (host === undefined || host.length > 253) return undefined;
  if (port !== undefined && (port < 1 || port > 65_535)) return undefined;
  return { host, ...(port === undefined ? {} : { port }) };
};

/** A field that `read` takes or, answering undefined, refuses with `remedy`. */
const readBy = <T>(read: (value: string) => T | undefined, remedy: string) =>
  z.string().transform((value, context): T => {
    const meant = read(value);
    if (meant !== undefined) return meant;
    context.addIssue({ code: 'custom', message: remedy });
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
    return /^\d{1,15}$/.test(value) && number >= min && number <= max ? number : undefined;
  }, `write a whole number from ${min} to ${max}`);

/** "90s", "15m", "1h", "7d" to seconds. */
export const duration = () =>
  readBy((value) => {
    const [, digits, unit] = /^(\d{1,9})([smhd])$/.exec(value) ?? [];
    const seconds = UNIT_SECONDS[unit ?? ''];
    return digits === undefined || seconds === undefined ? undefined : Number(digits) * seconds;
  }, 'write a duration like 90s, 15m, 1h or 7d');

/** "10.96.0.0/12", "fd00:96::/112". */
export const prefix = () =>
  z.string().transform((value, context): Prefix => {
    try {
      return parsePrefix(value);
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
      return z.NEVER;
    }
  });

/** A bare IPv6 address needs no brackets without a port. */
export const host = () =>
  readBy(readHost, 'write an address like 203.0.113.7:7443, [2001:db8::7]:7443 or registry.example:7443');

/** As `host`, with a port. */
export const hostWithPort = () =>
  readBy((value) => {
    const { host: name, port } = readHost(value) ?? {};
    return name === undefined || port === undefined ? undefined : { host: name, port };
  }, 'write an address with its port, like 127.0.0.1:9643');

/** What nodes and networks are called. */
export const label = () =>
  z.string().refine(isName, 'use a DNS label: lowercase letters, digits and inner hyphens, at most 63');

export const trustDomain = () =>
  z
    .string()
    .refine(isTrustDomain, 'use at most 255 lowercase letters, digits, dots, hyphens and underscores');

/** What names begin with that are files at the same time. */
export const namePrefix = () =>
  z
    .string()
    .regex(
      /^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/,
      'use at most 32 letters, digits, "-", "_" or ".", a letter or digit first',
    );

export const listOf = <Field extends z.ZodType>(field: Field) => z.array(field);
