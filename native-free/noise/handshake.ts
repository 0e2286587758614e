// WireGuard's handshake messages out of Noise's IKpsk2 (whitepaper sections 5.4.2, 5.4.3 and 5.4.5). Pure: keys,
// indices, timestamps and randomness are arguments; what is decided about them (replay, rates, retries) is the
// device's business. What is created lacks nothing but its macs (cookie.ts). Functions stand in the order of the flow.
//
//   initiator                    responder
//   createInitiation      -->    identifyInitiator, then consumeInitiation
//   consumeResponse       <--    createResponse

import { Initiation, Response } from '../wire/message.ts';
import { IDENTIFIER } from './constants.ts';
import {
  readInitiationPayload,
  readInitiationStatic,
  readResponse,
  type StaticKey,
  split,
  type Transcript,
  writeInitiation,
  writeResponse,
} from './ikpsk2.ts';
import type { Primitives } from './primitives.ts';
import { wipe } from './wipe.ts';

const NOTHING = new Uint8Array(0);

/** What a handshake needs to know of the other side. */
export interface RemoteStatic {
  readonly publicKey: Uint8Array;
  /** dh(own static, theirs); undefined for a key of low order, with which no handshake succeeds. */
  readonly staticStatic: Uint8Array | undefined;
}

/** Computes once what every handshake with this peer uses. */
export const remoteStatic = (
  primitives: Primitives,
  own: StaticKey,
  publicKey: Uint8Array,
): RemoteStatic => ({
  publicKey,
  staticStatic: primitives.dh(own.privateKey, publicKey),
});

/** What the initiator keeps until the response comes. Secret: `wipeInitiator` when done with. */
export interface InitiatorState {
  readonly localIndex: number;
  readonly ephemeralPrivate: Uint8Array;
  readonly transcript: Transcript;
}

export const wipeInitiator = (state: InitiatorState): void => {
  wipe(state.ephemeralPrivate, state.transcript.chainingKey);
};

/** Undefined when the peer's key is of low order. Keeps `ephemeralPrivate` (32 random bytes) in the state. */
export const createInitiation = (
  primitives: Primitives,
  own: StaticKey,
  remote: RemoteStatic,
  localIndex: number,
  ephemeralPrivate: Uint8Array,
  timestamp: Uint8Array,
): { message: Initiation; state: InitiatorState } | undefined => {
  if (remote.staticStatic === undefined) return undefined;
  const written = writeInitiation(
    primitives,
    IDENTIFIER,
    own,
    ephemeralPrivate,
    remote.publicKey,
    remote.staticStatic,
    timestamp,
  );
  if (written === undefined) {
    wipe(ephemeralPrivate);
    return undefined;
  }
  const message = Initiation.create(localIndex);
  message.ephemeral.set(written.ephemeral);
  message.encryptedStatic.set(written.encryptedStatic);
  message.encryptedTimestamp.set(written.encryptedPayload);
  return { message, state: { localIndex, ephemeralPrivate, transcript: written.transcript } };
};

export interface IdentifiedInitiator {
  readonly publicKey: Uint8Array;
  readonly transcript: Transcript;
}

/** Who an initiation claims to be from. Nothing but the claim: mac1 is checked before, the rest after. */
export const identifyInitiator = (
  primitives: Primitives,
  own: StaticKey,
  message: Initiation,
): IdentifiedInitiator | undefined => {
  const read = readInitiationStatic(primitives, IDENTIFIER, own, message.ephemeral, message.encryptedStatic);
  return read && { publicKey: read.initiatorStatic, transcript: read.transcript };
};

export interface ConsumedInitiation {
  readonly timestamp: Uint8Array;
  readonly transcript: Transcript;
}

/** Undefined when the claim does not hold. The secret of what it returns, as of `identified`, is the caller's to wipe. */
export const consumeInitiation = (
  primitives: Primitives,
  remote: RemoteStatic,
  identified: IdentifiedInitiator,
  message: Initiation,
): ConsumedInitiation | undefined => {
  if (remote.staticStatic === undefined) return undefined;
  const read = readInitiationPayload(
    primitives,
    identified.transcript,
    remote.staticStatic,
    message.encryptedTimestamp,
  );
  return read && { timestamp: read.payload, transcript: read.transcript };
};

/** The keys of the new session, from our side. */
export interface SessionKeys {
  readonly remoteIndex: number;
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
}

/** Undefined when the initiator's ephemeral key is of low order. Wipes `ephemeralPrivate`. */
export const createResponse = (
  primitives: Primitives,
  remote: RemoteStatic,
  presharedKey: Uint8Array,
  initiation: Initiation,
  consumed: ConsumedInitiation,
  localIndex: number,
  ephemeralPrivate: Uint8Array,
): { message: Response; keys: SessionKeys } | undefined => {
  const written = writeResponse(
    primitives,
    consumed.transcript,
    ephemeralPrivate,
    initiation.ephemeral,
    remote.publicKey,
    presharedKey,
    NOTHING,
  );
  wipe(ephemeralPrivate);
  if (written === undefined) return undefined;
  const message = Response.create(localIndex, initiation.sender);
  message.ephemeral.set(written.ephemeral);
  message.encryptedNothing.set(written.encryptedPayload);
  const [receiveKey, sendKey] = split(primitives, written.transcript);
  wipe(written.transcript.chainingKey);
  return { message, keys: { remoteIndex: initiation.sender, sendKey, receiveKey } };
};

/** Undefined when it does not verify: not from this peer, not for this initiation, or another preshared key. */
export const consumeResponse = (
  primitives: Primitives,
  own: StaticKey,
  presharedKey: Uint8Array,
  state: InitiatorState,
  message: Response,
): SessionKeys | undefined => {
  const read = readResponse(
    primitives,
    state.transcript,
    state.ephemeralPrivate,
    own,
    presharedKey,
    message.ephemeral,
    message.encryptedNothing,
  );
  if (read === undefined) return undefined;
  const [sendKey, receiveKey] = split(primitives, read.transcript);
  wipe(read.transcript.chainingKey);
  return { remoteIndex: message.sender, sendKey, receiveKey };
};
