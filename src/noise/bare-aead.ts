// ChaCha20-Poly1305 (RFC 8439, section 2.8) for handshakes, out of the bare functions inside OpenSSL: a microsecond a message
// instead of fifteen. They are internals of the node binary, so they are used only when they are there and agree with
// the public interface, which also gets what is longer than handshakes are.

import type { Primitives } from '../../native-free/noise/primitives.ts';
import { Arena } from '../ffi/memory.ts';
import { type LowLevelOpenssl, loadLowLevel } from '../ffi/openssl.ts';

export type MessageAead = Pick<Primitives, 'seal' | 'open'>;

const TAG = 16;
const LONGEST = 256;
const BLOCK = 64;

// What lies where in the arena. What Poly1305 covers lies end to end: associated data, message, lengths.
const KEY = 0;
const COUNTER = 64;
const ONE_TIME_KEY = 128;
const TAG_AT = 192;
const COVERED = 256;
const PLAIN = COVERED + 2 * LONGEST + 64;
const CONTEXT = PLAIN + LONGEST;

/** Undefined where it can't be had or is not to be trusted. */
export const bareAead = (known: MessageAead): MessageAead | undefined => {
  const openssl = loadLowLevel();
  if (openssl === undefined) return undefined;
  const aead = new BareAead(openssl, known);
  return agrees(aead, known)
    ? { seal: (...of) => aead.seal(...of), open: (...of) => aead.open(...of) }
    : undefined;
};

class BareAead implements MessageAead {
  readonly #openssl: LowLevelOpenssl;
  readonly #known: MessageAead;
  readonly #arena: Arena;

  constructor(openssl: LowLevelOpenssl, known: MessageAead) {
    this.#known = known;
    this.#openssl = openssl;
    this.#arena = new Arena(CONTEXT + openssl.poly1305ContextSize());
  }

  seal(key: Uint8Array, counter: bigint, plaintext: Uint8Array, associated: Uint8Array): Uint8Array {
    if (isLong(plaintext, associated)) return this.#known.seal(key, counter, plaintext, associated);
    const message = this.#begin(key, counter, associated);
    const { bytes, address } = this.#arena;
    bytes.set(plaintext, PLAIN);
    this.#openssl.chacha20(
      address + message,
      address + PLAIN,
      plaintext.length,
      address + KEY,
      address + COUNTER,
    );
    this.#authenticate(message, plaintext.length, associated.length);
    const sealed = new Uint8Array(plaintext.length + TAG);
    sealed.set(bytes.subarray(message, message + plaintext.length));
    sealed.set(bytes.subarray(TAG_AT, TAG_AT + TAG), plaintext.length);
    this.#forget();
    return sealed;
  }

  open(key: Uint8Array, counter: bigint, sealed: Uint8Array, associated: Uint8Array): Uint8Array | undefined {
    if (isLong(sealed, associated)) return this.#known.open(key, counter, sealed, associated);
    const length = sealed.length - TAG;
    if (length < 0) return undefined;
    const message = this.#begin(key, counter, associated);
    const { bytes, address } = this.#arena;
    bytes.set(sealed.subarray(0, length), message);
    this.#authenticate(message, length, associated.length);
    let difference = 0;
    for (let i = 0; i < TAG; i++) difference |= (bytes[TAG_AT + i] ?? 0) ^ (sealed[length + i] ?? 0);
    if (difference === 0)
      this.#openssl.chacha20(address + PLAIN, address + message, length, address + KEY, address + COUNTER);
    const plaintext = difference === 0 ? bytes.slice(PLAIN, PLAIN + length) : undefined;
    this.#forget();
    return plaintext;
  }

  /** Makes the one-time key, leaves the block counter at 1, and returns where the message goes. */
  #begin(key: Uint8Array, counter: bigint, associated: Uint8Array): number {
    const { bytes, view, address } = this.#arena;
    bytes.set(key, KEY);
    view.setUint32(COUNTER, 0, true);
    view.setUint32(COUNTER + 4, 0, true);
    view.setBigUint64(COUNTER + 8, counter, true);
    bytes.fill(0, ONE_TIME_KEY, ONE_TIME_KEY + BLOCK);
    const oneTime = address + ONE_TIME_KEY;
    this.#openssl.chacha20(oneTime, oneTime, BLOCK, address + KEY, address + COUNTER);
    view.setUint32(COUNTER, 1, true);
    bytes.set(associated, COVERED);
    return COVERED + padded(associated.length);
  }

  #authenticate(message: number, length: number, associated: number): void {
    const { view, address } = this.#arena;
    const lengths = message + padded(length);
    view.setUint32(lengths, associated, true);
    view.setUint32(lengths + 8, length, true);
    this.#openssl.poly1305Init(address + CONTEXT, address + ONE_TIME_KEY);
    this.#openssl.poly1305Update(address + CONTEXT, address + COVERED, lengths + 16 - COVERED);
    this.#openssl.poly1305Final(address + CONTEXT, address + TAG_AT);
  }

  /** Nothing of a key stays behind, and all padding is zero. */
  #forget(): void {
    this.#arena.bytes.fill(0);
  }
}

const isLong = (message: Uint8Array, associated: Uint8Array): boolean =>
  message.length > LONGEST || associated.length > LONGEST;

const padded = (length: number): number => (length + 15) & ~15;

const agrees = (bare: MessageAead, known: MessageAead): boolean => {
  const count = (length: number, from: number): Uint8Array =>
    Uint8Array.from({ length }, (_, i) => i * 3 + from);
  const [key, associated] = [count(32, 1), count(32, 2)];
  return [0, 12, 16, 32, 77].every((length) => {
    const sealed = bare.seal(key, 5n, count(length, 3), associated);
    const flipped = sealed.map((byte, i) => (i === 0 ? byte ^ 1 : byte));
    return (
      isSame(sealed, known.seal(key, 5n, count(length, 3), associated)) &&
      isSame(bare.open(key, 5n, sealed, associated), count(length, 3)) &&
      bare.open(key, 5n, flipped, associated) === undefined
    );
  });
};

const isSame = (a: Uint8Array | undefined, b: Uint8Array): boolean =>
  a?.length === b.length && a.every((byte, i) => byte === b[i]);
