// The macs that end an initiation and a response, and the cookies that mac2 is made with (whitepaper sections 5.3,
// 5.4.4 and 5.4.7). mac1 shows that the sender knows whom it calls. Under load a receiver wants to see, too, that the
// sender gets what is sent to the address and port it writes from, before it computes anything that is dear.
//
//   sender, CookieJar                      receiver, CookieChecker
//   message with mac1, mac2 zero    -->    mac1 right, mac2 wrong
//   keeps the cookie for 120 s      <--    cookie reply: MAC(secret, address and port), sealed, bound to that mac1
//   next message, mac1 and mac2     -->    mac2 right
//
// When a receiver is under load is the port's business.

import {
  COOKIE_REPLY_COOKIE_OFFSET,
  COOKIE_REPLY_NONCE_OFFSET,
  CookieReply,
  type Macs,
} from '../wire/message.ts';
import { COOKIE_LIFETIME, COOKIE_NONCE_LENGTH, KEY_LENGTH, LABEL_COOKIE, LABEL_MAC1 } from './constants.ts';
import type { MacKey, Primitives, RandomBytes } from './primitives.ts';

const NONCES_AT_ONCE = 128;

/** What mac1 of messages to the holder of `publicKey` is made with. No secret. */
export const mac1KeyOf = (primitives: Primitives, publicKey: Uint8Array): Uint8Array =>
  primitives.hash(LABEL_MAC1, publicKey);

/** Writes the macs of all that is sent to one peer, and keeps the cookie that it gave us. */
export class CookieJar {
  readonly #primitives: Primitives;
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  /** Of the last message; undefined before the first and once its cookie reply was taken. */
  #lastMac1: Uint8Array | undefined;
  #cookie: { readonly bytes: Uint8Array; readonly receivedAt: number } | undefined;

  constructor(primitives: Primitives, publicKey: Uint8Array) {
    this.#primitives = primitives;
    this.#mac1Key = mac1KeyOf(primitives, publicKey);
    this.#cookieKey = primitives.hash(LABEL_COOKIE, publicKey);
  }

  /** Finishes a message that is complete but for its macs. */
  writeMacs(macs: Macs, now: number): void {
    const mac1 = this.#primitives.mac(this.#mac1Key, macs.beforeMac1);
    macs.mac1.set(mac1);
    this.#lastMac1 = mac1;
    if (this.#cookie !== undefined && now - this.#cookie.receivedAt >= COOKIE_LIFETIME)
      this.#cookie = undefined;
    if (this.#cookie !== undefined) macs.mac2.set(this.#primitives.mac(this.#cookie.bytes, macs.beforeMac2));
  }

  /** False, and nothing changes, unless it answers the last message; each message takes one. Borrows. */
  take(reply: CookieReply, now: number): boolean {
    if (this.#lastMac1 === undefined) return false;
    const { nonce, encryptedCookie } = reply;
    const bytes = this.#primitives.xopen(this.#cookieKey, nonce, encryptedCookie, this.#lastMac1);
    if (bytes === undefined) return false;
    this.#lastMac1 = undefined;
    this.#cookie = { bytes, receivedAt: now };
    return true;
  }
}

/** Checks the macs of what is sent to one device, and gives out its cookies. */
export class CookieChecker {
  readonly #primitives: Primitives;
  readonly #random: RandomBytes;
  readonly #mac1Key: MacKey;
  readonly #cookieKey: Uint8Array;
  #secret: MacKey | undefined;
  #secretMadeAt = Number.NEGATIVE_INFINITY;
  /** Nonces of replies to come. */
  #nonces: Uint8Array = new Uint8Array(0);

  constructor(primitives: Primitives, random: RandomBytes, publicKey: Uint8Array) {
    this.#primitives = primitives;
    this.#random = random;
    this.#mac1Key = primitives.macKey(mac1KeyOf(primitives, publicKey));
    this.#cookieKey = primitives.hash(LABEL_COOKIE, publicKey);
  }

  verifyMac1({ bytes, mac1Offset }: Macs): boolean {
    return this.#mac1Key.verify(bytes, 0, mac1Offset, mac1Offset);
  }

  /** Whether the message carries the cookie of `source`: bytes that name the address and the port. */
  verifyMac2(macs: Macs, source: Uint8Array, now: number): boolean {
    if (this.#secret === undefined || now - this.#secretMadeAt >= COOKIE_LIFETIME) return false;
    // A flood has none, as a rule. That is no secret, so it may show in the time that this takes.
    if (!macs.hasMac2) return false;
    const cookie = this.#primitives.macKey(this.#secret.mac(source));
    const holds = cookie.verify(macs.bytes, 0, macs.mac2Offset, macs.mac2Offset);
    cookie.wipe();
    return holds;
  }

  /** The cookie of `source`, for the sender of the message that has these macs and the sender index `receiver`. */
  createReply(receiver: number, macs: Macs, source: Uint8Array, now: number): CookieReply {
    const cookie = this.#secretAt(now).mac(source);
    const reply = CookieReply.create(receiver);
    const nonce = this.#nextNonce();
    const sealed = this.#primitives.xseal(this.#cookieKey, nonce, cookie, macs.mac1);
    // By its offsets: a view of so small an array makes V8 move it to memory of its own.
    for (let i = 0; i < nonce.length; i++) reply.bytes[COOKIE_REPLY_NONCE_OFFSET + i] = nonce[i] ?? 0;
    for (let i = 0; i < sealed.length; i++) reply.bytes[COOKIE_REPLY_COOKIE_OFFSET + i] = sealed[i] ?? 0;
    return reply;
  }

  #secretAt(now: number): MacKey {
    if (this.#secret !== undefined && now - this.#secretMadeAt < COOKIE_LIFETIME) return this.#secret;
    this.wipe();
    const bytes = this.#random(KEY_LENGTH).slice();
    this.#secret = this.#primitives.macKey(bytes);
    this.#secretMadeAt = now;
    bytes.fill(0);
    return this.#secret;
  }

  /** Random nonces of 24 bytes don't repeat. They are no secret, so many are drawn at once: each drawing has its price. */
  #nextNonce(): Uint8Array {
    if (this.#nonces.length === 0) this.#nonces = this.#random(COOKIE_NONCE_LENGTH * NONCES_AT_ONCE).slice();
    const nonce = this.#nonces.subarray(0, COOKIE_NONCE_LENGTH);
    this.#nonces = this.#nonces.subarray(COOKIE_NONCE_LENGTH);
    return nonce;
  }

  /** Cookies given out so far are not taken any more. */
  wipe(): void {
    this.#secret?.wipe();
    this.#secret = undefined;
    this.#secretMadeAt = Number.NEGATIVE_INFINITY;
  }
}
