// What a device knows of one peer: its keys, where it can be reached, its keypairs, its timers, and the initiation
// under way. State only; device.ts decides.

import { KEY_LENGTH } from '../noise/constants.ts';
import { CookieJar } from '../noise/cookie.ts';
import type { InitiatorState, RemoteStatic } from '../noise/handshake.ts';
import { Keypairs } from '../noise/keypair.ts';
import type { Primitives } from '../noise/primitives.ts';
import type { PeerId } from './data-plane.ts';
import type { Endpoints } from './endpoints.ts';
import { type Session, Timers } from './timers.ts';

/** A keypair without its keys, which only the data plane holds. */
export interface SessionKeypair extends Session {
  readonly localIndex: number;
  readonly remoteIndex: number;
}

/** An initiation waiting for its response, repeated until it is answered or given up. */
export interface HandshakeAttempt {
  /** Undefined when it could not be sent, for want of an endpoint. */
  readonly state: InitiatorState | undefined;
  readonly retryAt: number;
  readonly giveUpAt: number;
  /** A response came that did not verify. */
  readonly isForged?: boolean;
}

export class Peer {
  readonly id: PeerId;
  readonly remote: RemoteStatic;
  readonly endpoints: Endpoints;
  readonly timers: Timers;
  readonly cookies: CookieJar;
  readonly keypairs = new Keypairs<SessionKeypair>();
  /** 32 B; all zero when there is none. */
  presharedKey: Uint8Array = new Uint8Array(KEY_LENGTH);
  attempt: HandshakeAttempt | undefined;
  /** An initiation that has to wait, because the last handshake message is too fresh. */
  initiateAt: number | undefined;
  /** When to look whether a young session is really of no use. */
  lookAgainAt: number | undefined;
  /** When we last sent an initiation or a response. */
  handshakeSentAt = Number.NEGATIVE_INFINITY;
  /** When we last accepted an initiation. */
  initiationAcceptedAt = Number.NEGATIVE_INFINITY;
  /** The greatest timestamp received in an initiation, and the last one sent. */
  receivedTimestamp: Uint8Array | undefined;
  sentTimestamp: Uint8Array | undefined;
  /** The last completed handshake, on the monotonic and on the wall clock. */
  lastHandshake: { readonly at: number; readonly wallclock: number } | undefined;

  constructor(
    id: PeerId,
    remote: RemoteStatic,
    endpoints: Endpoints,
    primitives: Primitives,
    jitter: () => number,
  ) {
    this.id = id;
    this.remote = remote;
    this.endpoints = endpoints;
    this.timers = new Timers(jitter);
    this.cookies = new CookieJar(primitives, remote.publicKey);
  }
}
