// The constants of the WireGuard protocol, each with the section of the whitepaper that it comes from.
// Times are in milliseconds. Not here: offsets and lengths of messages (wire/message.ts).

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

// Section 5.4: labels.
export const CONSTRUCTION = ascii('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s');
export const IDENTIFIER = ascii('WireGuard v1 zx2c4 Jason@zx2c4.com');
export const LABEL_MAC1 = ascii('mac1----');
export const LABEL_COOKIE = ascii('cookie--');

export const KEY_LENGTH = 32;
export const TAG_LENGTH = 16;
export const MAC_LENGTH = 16;
export const TIMESTAMP_LENGTH = 12;
export const COOKIE_NONCE_LENGTH = 24;

// Section 6.1: counters and times after which a session is renewed or ends.
export const REKEY_AFTER_TIME = 120_000;
export const REJECT_AFTER_TIME = 180_000;
export const REKEY_ATTEMPT_TIME = 90_000;
export const REKEY_TIMEOUT = 5_000;
export const KEEPALIVE_TIMEOUT = 10_000;

/** 2^64 - 2^13 - 1 as two u32 halves; a counter from here on is refused. */
export const REJECT_AFTER_MESSAGES_HIGH = 0xffffffff;
export const REJECT_AFTER_MESSAGES_LOW = 0xffffdfff;

/**
 * The specification says 2^60. Our send counters are Numbers, exact to 2^53, so we renew at 2^52 and stop sealing at
 * 2^53 - 1: no peer can tell, since at 100 million packets a second REKEY_AFTER_TIME comes 375000 times sooner.
 */
export const REKEY_AFTER_MESSAGES = 2 ** 52;
export const SEND_AFTER_MESSAGES_LIMIT = Number.MAX_SAFE_INTEGER;
/** Nor are counters from 2^53 on taken: the upper half of the first that is not. */
export const RECEIVE_LIMIT_HIGH = 0x20_0000;

/** Section 6.1: retries are spread by up to a third of a second, so that two ends don't collide for ever. */
export const REKEY_TIMEOUT_JITTER = 333;

/** Section 6.2: on receive, the initiator renews once when the session has less than this left. */
export const REKEY_ON_RECEIVE_AFTER_TIME = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;

/** Section 6.5: data sent and nothing heard for this long means a new handshake. */
export const NEW_HANDSHAKE_TIMEOUT = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT;

/** Section 5.1 (denial of service): the kernel and wireguard-go take at most 50 initiations a second from a peer. */
export const INITIATION_INTERVAL = 20;

/** Section 5.4.7: how long a cookie's secret lasts, and how long its receiver uses the cookie. */
export const COOKIE_LIFETIME = 120_000;

/**
 * Section 5.3, and wireguard-go: a responder is under load while an eighth of its queue of handshake messages is full,
 * and for a second after that. Messages that proved their address are then let through at this rate an address.
 */
export const HANDSHAKE_QUEUE_LENGTH = 1024;
export const UNDER_LOAD_QUEUE_LENGTH = HANDSHAKE_QUEUE_LENGTH / 8;
export const UNDER_LOAD_TIME = 1_000;
export const HANDSHAKES_PER_SECOND = 20;
export const HANDSHAKES_BURST = 5;

/** Section 5.4.6: packets are padded to a multiple of this. */
export const PADDING_MULTIPLE = 16;
