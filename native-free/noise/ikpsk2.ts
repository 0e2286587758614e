// The Noise pattern IKpsk2 with 25519, ChaChaPoly and BLAKE2s (Noise revision 34, sections 5, 7.5 and 9; WireGuard
// whitepaper sections 5.4.2 and 5.4.3), free of WireGuard's messages: prologue and payloads are arguments, so that
// the vectors of other implementations apply. Pure: each step returns a new transcript, and wipes what secrets it made on
// the way; the chaining key of the one it was given is its owner's to wipe. Functions stand in the order of the flow:
//
//   <- s
//   ...
//   -> e, es, s, ss, payload        writeInitiation, then readInitiationStatic and readInitiationPayload
//   <- e, ee, se, psk, payload      writeResponse, then readResponse
//                                   split

import { CONSTRUCTION } from './constants.ts';
import { kdf1, kdf2, kdf3 } from './kdf.ts';
import type { Primitives } from './primitives.ts';
import { wipe } from './wipe.ts';

/** What both ends have agreed on so far: Noise's chaining key and handshake hash. */
export interface Transcript {
  readonly chainingKey: Uint8Array;
  readonly hash: Uint8Array;
}

/** A static key pair; `publicKey` is computed once by its owner. */
export interface StaticKey {
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
}

export interface WrittenInitiation {
  readonly ephemeral: Uint8Array;
  readonly encryptedStatic: Uint8Array;
  readonly encryptedPayload: Uint8Array;
  readonly transcript: Transcript;
}

/** Undefined when the responder's key is of low order. `staticStatic` is dh(own static, responder's static). */
export const writeInitiation = (
  primitives: Primitives,
  prologue: Uint8Array,
  own: StaticKey,
  ephemeralPrivate: Uint8Array,
  responderStatic: Uint8Array,
  staticStatic: Uint8Array,
  payload: Uint8Array,
): WrittenInitiation | undefined => {
  const ephemeral = primitives.publicKey(ephemeralPrivate);
  const es = primitives.dh(ephemeralPrivate, responderStatic);
  if (es === undefined) return undefined;
  const begun = mixEphemeral(primitives, begin(primitives, prologue, responderStatic), ephemeral);
  const forStatic = mixSecret(primitives, begun, es);
  const encryptedStatic = primitives.seal(forStatic.key, 0n, own.publicKey, begun.hash);
  const named = mixHash(primitives, forStatic.transcript, encryptedStatic);
  const forPayload = mixSecret(primitives, named, staticStatic);
  const encryptedPayload = primitives.seal(forPayload.key, 0n, payload, named.hash);
  const transcript = mixHash(primitives, forPayload.transcript, encryptedPayload);
  wipe(es, begun.chainingKey, forStatic.key, named.chainingKey, forPayload.key);
  return { ephemeral, encryptedStatic, encryptedPayload, transcript };
};

/** Tells the responder who calls, before it looks that peer up. Undefined when it does not verify. */
export const readInitiationStatic = (
  primitives: Primitives,
  prologue: Uint8Array,
  own: StaticKey,
  ephemeral: Uint8Array,
  encryptedStatic: Uint8Array,
): { initiatorStatic: Uint8Array; transcript: Transcript } | undefined => {
  const es = primitives.dh(own.privateKey, ephemeral);
  if (es === undefined) return undefined;
  const transcript = mixEphemeral(primitives, begin(primitives, prologue, own.publicKey), ephemeral);
  const forStatic = mixSecret(primitives, transcript, es);
  const initiatorStatic = primitives.open(forStatic.key, 0n, encryptedStatic, transcript.hash);
  wipe(es, transcript.chainingKey, forStatic.key);
  if (initiatorStatic !== undefined)
    return { initiatorStatic, transcript: mixHash(primitives, forStatic.transcript, encryptedStatic) };
  wipe(forStatic.transcript.chainingKey);
  return undefined;
};

/** Undefined when it does not verify: whoever calls does not hold the initiator's static key. */
export const readInitiationPayload = (
  primitives: Primitives,
  before: Transcript,
  staticStatic: Uint8Array,
  encryptedPayload: Uint8Array,
): { payload: Uint8Array; transcript: Transcript } | undefined => {
  const { key, transcript } = mixSecret(primitives, before, staticStatic);
  const payload = primitives.open(key, 0n, encryptedPayload, before.hash);
  wipe(key);
  if (payload !== undefined)
    return { payload, transcript: mixHash(primitives, transcript, encryptedPayload) };
  wipe(transcript.chainingKey);
  return undefined;
};

export interface WrittenResponse {
  readonly ephemeral: Uint8Array;
  readonly encryptedPayload: Uint8Array;
  readonly transcript: Transcript;
}

/** Undefined when one of the initiator's keys is of low order. */
export const writeResponse = (
  primitives: Primitives,
  before: Transcript,
  ephemeralPrivate: Uint8Array,
  initiatorEphemeral: Uint8Array,
  initiatorStatic: Uint8Array,
  presharedKey: Uint8Array,
  payload: Uint8Array,
): WrittenResponse | undefined => {
  const ephemeral = primitives.publicKey(ephemeralPrivate);
  const ee = primitives.dh(ephemeralPrivate, initiatorEphemeral);
  const se = primitives.dh(ephemeralPrivate, initiatorStatic);
  const mixed = mixResponse(primitives, before, ephemeral, ee, se, presharedKey);
  wipe(ee, se);
  if (mixed === undefined) return undefined;
  const { key, transcript } = mixed;
  const encryptedPayload = primitives.seal(key, 0n, payload, transcript.hash);
  wipe(key);
  return { ephemeral, encryptedPayload, transcript: mixHash(primitives, transcript, encryptedPayload) };
};

/** Undefined when it does not verify. */
export const readResponse = (
  primitives: Primitives,
  before: Transcript,
  ephemeralPrivate: Uint8Array,
  own: StaticKey,
  presharedKey: Uint8Array,
  ephemeral: Uint8Array,
  encryptedPayload: Uint8Array,
): { payload: Uint8Array; transcript: Transcript } | undefined => {
  const ee = primitives.dh(ephemeralPrivate, ephemeral);
  const se = primitives.dh(own.privateKey, ephemeral);
  const mixed = mixResponse(primitives, before, ephemeral, ee, se, presharedKey);
  wipe(ee, se);
  if (mixed === undefined) return undefined;
  const { key, transcript } = mixed;
  const payload = primitives.open(key, 0n, encryptedPayload, transcript.hash);
  wipe(key);
  if (payload !== undefined)
    return { payload, transcript: mixHash(primitives, transcript, encryptedPayload) };
  wipe(transcript.chainingKey);
  return undefined;
};

/** The transport keys: what the initiator seals with, then what the responder seals with. */
export const split = (primitives: Primitives, transcript: Transcript): [Uint8Array, Uint8Array] =>
  kdf2(primitives, transcript.chainingKey, new Uint8Array(0));

const begin = (primitives: Primitives, prologue: Uint8Array, responderStatic: Uint8Array): Transcript => {
  const chainingKey = primitives.hash(CONSTRUCTION);
  const hash = primitives.hash(primitives.hash(chainingKey, prologue), responderStatic);
  return { chainingKey, hash };
};

const mixHash = (
  primitives: Primitives,
  { chainingKey, hash }: Transcript,
  data: Uint8Array,
): Transcript => ({
  chainingKey,
  hash: primitives.hash(hash, data),
});

/** In a pattern with a preshared key the token `e` goes into the chaining key too (Noise section 9.2). */
const mixEphemeral = (primitives: Primitives, before: Transcript, ephemeral: Uint8Array): Transcript => ({
  chainingKey: kdf1(primitives, before.chainingKey, ephemeral),
  hash: primitives.hash(before.hash, ephemeral),
});

const mixSecret = (
  primitives: Primitives,
  { chainingKey, hash }: Transcript,
  secret: Uint8Array,
): { transcript: Transcript; key: Uint8Array } => {
  const [next, key] = kdf2(primitives, chainingKey, secret);
  return { transcript: { chainingKey: next, hash }, key };
};

/** The tokens e, ee, se, psk, which read the same from both ends. Undefined without both secrets. */
const mixResponse = (
  primitives: Primitives,
  before: Transcript,
  ephemeral: Uint8Array,
  ee: Uint8Array | undefined,
  se: Uint8Array | undefined,
  presharedKey: Uint8Array,
): { transcript: Transcript; key: Uint8Array } | undefined => {
  if (ee === undefined || se === undefined) return undefined;
  const { chainingKey, hash } = mixEphemeral(primitives, before, ephemeral);
  const afterEe = kdf1(primitives, chainingKey, ee);
  const afterSe = kdf1(primitives, afterEe, se);
  const [next, tau, key] = kdf3(primitives, afterSe, presharedKey);
  const transcript = { chainingKey: next, hash: primitives.hash(hash, tau) };
  wipe(chainingKey, afterEe, afterSe, tau);
  return { transcript, key };
};
