// ChaCha20-Poly1305 (RFC 8439, section 2.8) for handshakes and XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha, section 2) for cookie
// replies, out of the bare functions inside OpenSSL: a microsecond a message instead of fifteen. They are internals of the
// node binary, so they are used only when they are there and agree with other implementations, which also get what is
// longer than handshakes are.

import type { Primitives } from '../../native-free/noise/primitives.ts';
import { Arena } from '../ffi/memory.ts';
import { type LowLevelOpenssl, loadLowLevel } from '../ffi/openssl.ts';

export type MessageAead = Pick<Primitives, 'seal' | 'open' | 'xseal' | 'xopen'>;

const TAG = 16;
const LONGEST = 256;
const BLOCK = 64;
const KEY_LENGTH = 32;
/** Of a long nonce, what the key is made from; the rest is the nonce under it. */
const LONG_NONCE = 24;
const KEY_NONCE = 16;
/** What a ChaCha20 block begins with (RFC 8439, section 2.3). */
const CONSTANTS = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574] as const;

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
  if (!agrees(aead, known)) return undefined;
  return {
    seal: (...of) => aead.seal(...of),
    open: (...of) => aead.open(...of),
    xseal: (...of) => aead.xseal(...of),
    xopen: (...of) => aead.xopen(...of),
  };
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
    this.#setKey(key, counter);
    return this.#seal(plaintext, associated);
  }

  open(key: Uint8Array, counter: bigint, sealed: Uint8Array, associated: Uint8Array): Uint8Array | undefined {
    if (isLong(sealed, associated)) return this.#known.open(key, counter, sealed, associated);
    if (sealed.length < TAG) return undefined;
    this.#setKey(key, counter);
    return this.#open(sealed, associated);
  }

  xseal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array {
    if (isLong(plaintext, associated)) return this.#known.xseal(key, nonce, plaintext, associated);
    this.#deriveKey(key, nonce);
    return this.#seal(plaintext, associated);
  }

  xopen(
    key: Uint8Array,
    nonce: Uint8Array,
    sealed: Uint8Array,
    associated: Uint8Array,
  ): Uint8Array | undefined {
    if (isLong(sealed, associated)) return this.#known.xopen(key, nonce, sealed, associated);
    if (sealed.length < TAG) return undefined;
    this.#deriveKey(key, nonce);
    return this.#open(sealed, associated);
  }

  /** Of one message: its key, and its nonce with the block counter before it. */
  #setKey(key: Uint8Array, counter: bigint): void {
    const { bytes, view } = this.#arena;
    bytes.set(key, KEY);
    view.setUint32(COUNTER + 4, 0, true);
    view.setBigUint64(COUNTER + 8, counter, true);
  }

  /**
   * The same out of a long nonce: HChaCha20 is a block of ChaCha20 (of zeros, with the nonce as counter) without the addition of
   * what it began with, so that is taken off again. Of its words the first four and the last four are the key.
   */
  #deriveKey(key: Uint8Array, nonce: Uint8Array): void {
    if (nonce.length !== LONG_NONCE)
      throw new RangeError(`a nonce of XChaCha20 has 24 B, not ${nonce.length}`);
    const { bytes, view, address } = this.#arena;
    bytes.set(key, KEY);
    for (let i = 0; i < KEY_NONCE; i++) bytes[COUNTER + i] = nonce[i] ?? 0;
    const block = ONE_TIME_KEY;
    for (let i = 0; i < BLOCK; i += 4) view.setInt32(block + i, 0, true);
    this.#openssl.chacha20(address + block, address + block, BLOCK, address + KEY, address + COUNTER);
    for (let i = 0; i < KEY_NONCE; i += 4) {
      const last = block + BLOCK - KEY_NONCE + i;
      view.setInt32(KEY + i, view.getInt32(block + i, true) - (CONSTANTS[i >> 2] ?? 0), true);
      view.setInt32(KEY + KEY_NONCE + i, view.getInt32(last, true) - view.getInt32(COUNTER + i, true), true);
    }
    view.setUint32(COUNTER + 4, 0, true);
    for (let i = KEY_NONCE; i < LONG_NONCE; i++) bytes[COUNTER - 8 + i] = nonce[i] ?? 0;
  }

  #seal(plaintext: Uint8Array, associated: Uint8Array): Uint8Array {
    const message = this.#begin(associated);
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
    for (let i = 0; i < plaintext.length; i++) sealed[i] = bytes[message + i] ?? 0;
    for (let i = 0; i < TAG; i++) sealed[plaintext.length + i] = bytes[TAG_AT + i] ?? 0;
    this.#forget();
    return sealed;
  }

  #open(sealed: Uint8Array, associated: Uint8Array): Uint8Array | undefined {
    const length = sealed.length - TAG;
    const message = this.#begin(associated);
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
  #begin(associated: Uint8Array): number {
    const { bytes, view, address } = this.#arena;
    view.setUint32(COUNTER, 0, true);
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
  const [key, associated] = [count(KEY_LENGTH, 1), count(32, 2)];
  const isRight = [0, 12, 16, 32, 77].every((length) => {
    const plaintext = count(length, 3);
    const sealed = bare.seal(key, 5n, plaintext, associated);
    return (
      isSame(sealed, known.seal(key, 5n, plaintext, associated)) &&
      isSame(bare.open(key, 5n, sealed, associated), plaintext) &&
      bare.open(key, 5n, flipped(sealed), associated) === undefined
    );
  });
  const { nonce, plaintext, answer } = LONG_NONCE_EXAMPLE;
  return (
    isRight &&
    isSame(bare.xseal(key, nonce, plaintext, associated), answer) &&
    isSame(bare.xopen(key, nonce, answer, associated), plaintext) &&
    bare.xopen(key, nonce, flipped(answer), associated) === undefined
  );
};

const count = (length: number, from: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => i * 3 + from);

const flipped = (sealed: Uint8Array): Uint8Array => sealed.map((byte, i) => (i === 0 ? byte ^ 1 : byte));

/** No part of the public interface: what @noble makes of the key and the associated data above. */
const LONG_NONCE_EXAMPLE = {
  nonce: count(LONG_NONCE, 4),
  plaintext: count(16, 3),
  answer: Buffer.from('9c82d1154d2f0826f24b0e4c7cc5a46cb9fe5ee259e27b58908af1c7757145de', 'hex'),
};

const isSame = (a: Uint8Array | undefined, b: Uint8Array): boolean =>
  a?.length === b.length && a.every((byte, i) => byte === b[i]);
