// What is fuzzed: a function of an input, and the properties it must have. It fails by throwing.

import { type ErrorCode, Vl3Error } from '../../native-free/error.ts';
import type { Source } from './source.ts';

export interface Target {
  readonly name: string;
  /** What is true of it, for people. */
  readonly about: string;
  /** Inputs are at most this long, bytes. */
  readonly maxLength: number;
  /** Made once, before the first execution. Closed when the run ends. */
  readonly open: () => Promise<OpenTarget>;
}

export interface OpenTarget extends AsyncDisposable {
  /** One execution; throws, or rejects, when a property does not hold. */
  run(source: Source): void | Promise<void>;
}

/** A target that needs no set-up. */
export const pure = (
  name: string,
  about: string,
  maxLength: number,
  run: (source: Source) => void | Promise<void>,
): Target => ({
  name,
  about,
  maxLength,
  open: async () => ({ run, [Symbol.asyncDispose]: async () => undefined }),
});

/** The property does not hold. */
export class Broken extends Error {}

export function must(holds: boolean, what: string | (() => string)): asserts holds {
  if (!holds) throw new Broken(typeof what === 'string' ? what : what());
}

/** Deep equality by JSON with bytes and big integers in it; for small values. */
export const mustEqual = (actual: unknown, expected: unknown, what: string): void => {
  const [a, b] = [show(actual), show(expected)];
  must(a === b, () => `${what}: ${shorten(a)} is not ${shorten(b)}`);
};

/** The value, or undefined when it was refused by a Vl3Error of one of these codes and with a sentence. */
export const accepted = <T>(codes: readonly ErrorCode[], call: () => T): T | undefined => {
  try {
    return call();
  } catch (error) {
    mustBeRefusal(error, codes);
    return undefined;
  }
};

/** As `accepted`. */
export const acceptedLater = async <T>(
  codes: readonly ErrorCode[],
  call: () => Promise<T>,
): Promise<T | undefined> => {
  try {
    return await call();
  } catch (error) {
    mustBeRefusal(error, codes);
    return undefined;
  }
};

const mustBeRefusal = (error: unknown, codes: readonly ErrorCode[]): void => {
  if (!(error instanceof Vl3Error)) throw error;
  if (!codes.includes(error.code))
    throw new Broken(`refused with ${error.code}, which is not one of ${codes.join(', ')}`, { cause: error });
  must(error.message.length > 10 && error.message.length < 2000, () => `no sentence: ${error.message}`);
};

const show = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) => {
    if (typeof one === 'bigint') return `${one}n`;
    if (one instanceof Uint8Array) return Buffer.from(one).toString('hex');
    return one;
  }) ?? 'undefined';

const shorten = (text: string): string => (text.length > 400 ? `${text.slice(0, 400)}...` : text);
