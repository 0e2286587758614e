// The cryptographic primitives the protocol needs, as one small interface that is passed in.
// The reference implementation on @noble is noble-primitives.ts; the agent's own is in src/ (node:crypto's
// X25519 and OpenSSL's AEAD). One contract suite runs against both. WireGuard whitepaper, section 5.4.

export interface Primitives {
  /** Names the implementation in logs and `vl3 status`, e.g. "noble". */
  readonly name: string;
  /** The public key (32 B) of a private key (32 B, clamped or not). */
  publicKey(privateKey: Uint8Array): Uint8Array;
  /** X25519. Undefined when the result is all zero (a low-order public key). */
  dh(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
  /** BLAKE2s-256 over the concatenation of the parts: 32 B. */
  hash(...parts: Uint8Array[]): Uint8Array;
  /** Keyed BLAKE2s with a 16-byte output (mac1, mac2). `key` is 16 or 32 B. */
  mac(key: Uint8Array, data: Uint8Array): Uint8Array;
  /** The same, for many messages under one key. Borrows it. */
  macKey(key: Uint8Array): MacKey;
  /** HMAC-BLAKE2s: 32 B. */
  hmac(key: Uint8Array, ...parts: Uint8Array[]): Uint8Array;
  /** ChaCha20-Poly1305 (RFC 8439), nonce = 32 zero bits and the counter in 64 bits LE. Returns ciphertext and tag. */
  seal(key: Uint8Array, counter: bigint, plaintext: Uint8Array, associated: Uint8Array): Uint8Array;
  /** Undefined when the tag does not verify. */
  open(key: Uint8Array, counter: bigint, sealed: Uint8Array, associated: Uint8Array): Uint8Array | undefined;
  /** XChaCha20-Poly1305 with a 24-byte nonce (cookie replies). */
  xseal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array;
  xopen(
    key: Uint8Array,
    nonce: Uint8Array,
    sealed: Uint8Array,
    associated: Uint8Array,
  ): Uint8Array | undefined;
}

/** A mac's key, made ready. What it keeps is as secret as the key's bytes. */
export interface MacKey {
  /** The mac of `data`, which is not empty: 16 B. */
  mac(data: Uint8Array): Uint8Array;
  /** Whether the 16 bytes at `macAt` are the mac of the `length` (above 0) at `at`. Takes the same time wherever they differ. */
  verify(bytes: Uint8Array, at: number, length: number, macAt: number): boolean;
  /** It is of no use any more. */
  wipe(): void;
}

/** A source of random bytes; deterministic under the simulator. */
export type RandomBytes = (length: number) => Uint8Array;
