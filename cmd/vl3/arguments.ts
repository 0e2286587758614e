// Parsers of command-line values: strict, with a sentence that shows how to write the value.

import { isIPv6 } from 'node:net';
import { InvalidArgumentError } from 'commander';

/** For options that may be repeated. */
export const collect = (value: string, previous: readonly string[] | undefined): string[] => [
  ...(previous ?? []),
  value,
];

/** `key=value`, repeated. */
export const collectLabel = (
  value: string,
  previous: Readonly<Record<string, string>> | undefined,
): Record<string, string> => {
  const at = value.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Write a label as key=value.');
  return { ...previous, [value.slice(0, at)]: value.slice(at + 1) };
};

export const parseInteger =
  (min: number, max: number) =>
  (value: string): number => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < min || number > max) {
      throw new InvalidArgumentError(`Write a whole number from ${min} to ${max}.`);
    }
    return number;
  };

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** "90s", "15m", "1h", "7d" to seconds. */
export const parseDuration = (value: string): number => {
  const match = /^(\d{1,9})([smhd])$/.exec(value);
  const unit = UNIT_SECONDS[match?.[2] ?? ''];
  if (match === null || unit === undefined)
    throw new InvalidArgumentError('Write a duration like 90s, 15m, 1h or 7d.');
  return Number(match[1]) * unit;
};

/** "203.0.113.7", "[2001:db8::7]:7443", "registry.example:7443"; a bare IPv6 address needs no brackets without a port. */
export const parseHost = (value: string): { host: string; port?: number } => {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(value) ?? [];
  const host = isIPv6(value)
    ? value
    : bracketed === undefined
      ? plain
      : isIPv6(bracketed)
        ? bracketed
        : undefined;
  const port = digits === undefined ? undefined : Number(digits);
  if (host === undefined || (port !== undefined && (port < 1 || port > 65_535))) {
    throw new InvalidArgumentError(
      'Write an address like 203.0.113.7:7443, [2001:db8::7]:7443 or registry.example:7443.',
    );
  }
  return { host, ...(port === undefined ? {} : { port }) };
};

/** As parseHost, for options that may be repeated. */
export const collectHosts = (
  value: string,
  previous: readonly { host: string; port?: number }[] | undefined,
): { host: string; port?: number }[] => [...(previous ?? []), parseHost(value)];
