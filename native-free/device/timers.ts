// The timers of one peer (whitepaper section 6, wireguard-go's device/timers.go) as deadlines, computed from the
// peer's activity polled at each tick and from handshake messages. No clock and no callbacks: the device asks what
// is due. Precise to one tick. Not here: the retries of an initiation (handshake-attempt.ts) and the ends of keypairs.
//
//   data sent, nothing heard since            new handshake after 15 s + jitter
//   data received, nothing sent since         passive keepalive after 10 s; keepalives don't count as data
//   nothing either way for the set interval   persistent keepalive
//   initiator sends past 120 s, or past the message limit        rekey
//   initiator receives past 165 s             rekey, once a session

import {
  KEEPALIVE_TIMEOUT,
  NEW_HANDSHAKE_TIMEOUT,
  REKEY_AFTER_MESSAGES,
  REKEY_AFTER_TIME,
  REKEY_ON_RECEIVE_AFTER_TIME,
} from '../noise/constants.ts';
import type { Activity } from './data-plane.ts';

/** What the timers need to know of the keypair in use. */
export interface Session {
  readonly isInitiator: boolean;
  readonly createdAt: number;
}

const NEVER = Number.POSITIVE_INFINITY;

export class Timers {
  /** Milliseconds; 0: off. */
  #persistentKeepalive = 0;
  #newHandshakeAt = NEVER;
  #passiveKeepaliveAt = NEVER;
  /** When the persistent keepalive counts from: the last authenticated packet either way. */
  #traversedAt = Number.NEGATIVE_INFINITY;
  /** The last authenticated message heard, handshakes included. */
  #heardAt = 0;
  #rekeyedOnReceive = false;
  #sentAt = 0;
  #dataSentAt = 0;
  #receivedAt = 0;
  #dataReceivedAt = 0;
  readonly #jitter: () => number;

  /** `jitter` gives 0 to 333 ms. */
  constructor(jitter: () => number) {
    this.#jitter = jitter;
  }

  set persistentKeepalive(interval: number) {
    if (this.#persistentKeepalive === 0) this.#traversedAt = Number.NEGATIVE_INFINITY;
    this.#persistentKeepalive = interval;
  }

  /** Takes in what has moved since the last call. True when the session in use wants to be renewed. */
  observe(activity: Activity, session: Session | undefined): boolean {
    const { sentAt, dataSentAt, receivedAt, dataReceivedAt } = activity;
    const sent = sentAt > this.#sentAt;
    const dataSent = dataSentAt > this.#dataSentAt;
    const received = receivedAt > this.#receivedAt;
    const dataReceived = dataReceivedAt > this.#dataReceivedAt;
    this.#sentAt = sentAt;
    this.#dataSentAt = dataSentAt;
    this.#receivedAt = receivedAt;
    this.#dataReceivedAt = dataReceivedAt;

    if (received) this.#heard(receivedAt);
    if (dataSent && dataSentAt > this.#heardAt && this.#newHandshakeAt === NEVER)
      this.#newHandshakeAt = dataSentAt + NEW_HANDSHAKE_TIMEOUT + this.#jitter();

    if (sent) this.#sent(sentAt);
    // In the same millisecond nobody knows what came first: a keepalive too many costs nothing.
    if (dataReceived && dataReceivedAt >= sentAt && this.#passiveKeepaliveAt === NEVER)
      this.#passiveKeepaliveAt = dataReceivedAt + KEEPALIVE_TIMEOUT;

    return session !== undefined && this.#wantsRekey(activity, session, sent, received);
  }

  #wantsRekey(activity: Activity, session: Session, sent: boolean, received: boolean): boolean {
    if (sent && activity.sendCounter >= REKEY_AFTER_MESSAGES) return true;
    if (!session.isInitiator) return false;
    if (sent && activity.sentAt - session.createdAt >= REKEY_AFTER_TIME) return true;
    if (!received || this.#rekeyedOnReceive) return false;
    if (activity.receivedAt - session.createdAt < REKEY_ON_RECEIVE_AFTER_TIME) return false;
    this.#rekeyedOnReceive = true;
    return true;
  }

  /** A handshake message went out. */
  handshakeSent(now: number): void {
    this.#sent(now);
  }

  /** A handshake message that verified came in. */
  handshakeHeard(now: number): void {
    this.#heard(now);
  }

  sessionStarted(): void {
    this.#rekeyedOnReceive = false;
  }

  /** Nothing is owed any more. A persistent keepalive is due at once when time goes on. */
  restart(): void {
    this.#newHandshakeAt = NEVER;
    this.#passiveKeepaliveAt = NEVER;
    this.#traversedAt = Number.NEGATIVE_INFINITY;
    this.#rekeyedOnReceive = false;
  }

  #sent(at: number): void {
    this.#passiveKeepaliveAt = NEVER;
    this.#traversedAt = Math.max(this.#traversedAt, at);
  }

  #heard(at: number): void {
    this.#newHandshakeAt = NEVER;
    this.#heardAt = Math.max(this.#heardAt, at);
    this.#traversedAt = Math.max(this.#traversedAt, at);
  }

  get #persistentKeepaliveAt(): number {
    return this.#persistentKeepalive === 0 ? NEVER : this.#traversedAt + this.#persistentKeepalive;
  }

  /** Whether a new handshake is due; if so, not again until armed again. */
  takeNewHandshake(now: number): boolean {
    if (now < this.#newHandshakeAt) return false;
    this.#newHandshakeAt = NEVER;
    return true;
  }

  /** Which keepalive is due; if so, not again until armed again. */
  takeKeepalive(now: number): 'passive' | 'persistent' | undefined {
    if (now >= this.#persistentKeepaliveAt) {
      this.#sent(now);
      return 'persistent';
    }
    if (now < this.#passiveKeepaliveAt) return undefined;
    this.#passiveKeepaliveAt = NEVER;
    return 'passive';
  }

  get nextDeadline(): number {
    return Math.min(this.#newHandshakeAt, this.#passiveKeepaliveAt, this.#persistentKeepaliveAt);
  }
}
