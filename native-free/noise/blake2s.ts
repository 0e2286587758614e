// BLAKE2s (RFC 7693) as WireGuard uses it: hash, HMAC, and the keyed hash of 16 bytes that mac1 and mac2 are. For messages of a
// few hundred bytes at most, many of them: one state serves all calls (none is interrupted by another), a mac's key is
// compressed once, and `verify` allocates nothing. Not here: trees, salts, other lengths.

import type { MacKey as PreparedKey } from './primitives.ts';

const BLOCK = 64;
const HASH_LENGTH = 32;
const MAC_LENGTH = 16;

const IV = Int32Array.of(
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19,
);

/** Which word of the message goes in where, round after round (section 2.7). */
const SIGMA = Uint8Array.of(
  ...[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  ...[14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  ...[11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  ...[7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  ...[9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  ...[2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  ...[12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  ...[13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  ...[6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  ...[10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
);

/** The state (section 2.2): h, the message block at hand, and how much of it there is. */
const h = new Int32Array(8);
const m = new Int32Array(16);
const block = new Uint8Array(BLOCK);
let filled = 0;
let counted = 0;

/** Function F (section 3.2) on h and m; G is written out, two by two as the columns and the diagonals of a round. */
const compress = (last: number): void => {
  let [v0, v1, v2, v3] = [h[0] ?? 0, h[1] ?? 0, h[2] ?? 0, h[3] ?? 0];
  let [v4, v5, v6, v7] = [h[4] ?? 0, h[5] ?? 0, h[6] ?? 0, h[7] ?? 0];
  let [v8, v9, va, vb] = [0x6a09e667, 0xbb67ae85 | 0, 0x3c6ef372, 0xa54ff53a | 0];
  let [vc, vd, ve, vf] = [0x510e527f ^ counted, 0x9b05688c | 0, 0x1f83d9ab ^ last, 0x5be0cd19];
  for (let s = 0; s < 160; s += 16) {
    v0 = (v0 + v4 + (m[SIGMA[s] ?? 0] ?? 0)) | 0;
    v1 = (v1 + v5 + (m[SIGMA[s + 2] ?? 0] ?? 0)) | 0;
    v2 = (v2 + v6 + (m[SIGMA[s + 4] ?? 0] ?? 0)) | 0;
    v3 = (v3 + v7 + (m[SIGMA[s + 6] ?? 0] ?? 0)) | 0;
    vc = ((vc ^ v0) >>> 16) | ((vc ^ v0) << 16);
    vd = ((vd ^ v1) >>> 16) | ((vd ^ v1) << 16);
    ve = ((ve ^ v2) >>> 16) | ((ve ^ v2) << 16);
    vf = ((vf ^ v3) >>> 16) | ((vf ^ v3) << 16);
    v8 = (v8 + vc) | 0;
    v9 = (v9 + vd) | 0;
    va = (va + ve) | 0;
    vb = (vb + vf) | 0;
    v4 = ((v4 ^ v8) >>> 12) | ((v4 ^ v8) << 20);
    v5 = ((v5 ^ v9) >>> 12) | ((v5 ^ v9) << 20);
    v6 = ((v6 ^ va) >>> 12) | ((v6 ^ va) << 20);
    v7 = ((v7 ^ vb) >>> 12) | ((v7 ^ vb) << 20);
    v0 = (v0 + v4 + (m[SIGMA[s + 1] ?? 0] ?? 0)) | 0;
    v1 = (v1 + v5 + (m[SIGMA[s + 3] ?? 0] ?? 0)) | 0;
    v2 = (v2 + v6 + (m[SIGMA[s + 5] ?? 0] ?? 0)) | 0;
    v3 = (v3 + v7 + (m[SIGMA[s + 7] ?? 0] ?? 0)) | 0;
    vc = ((vc ^ v0) >>> 8) | ((vc ^ v0) << 24);
    vd = ((vd ^ v1) >>> 8) | ((vd ^ v1) << 24);
    ve = ((ve ^ v2) >>> 8) | ((ve ^ v2) << 24);
    vf = ((vf ^ v3) >>> 8) | ((vf ^ v3) << 24);
    v8 = (v8 + vc) | 0;
    v9 = (v9 + vd) | 0;
    va = (va + ve) | 0;
    vb = (vb + vf) | 0;
    v4 = ((v4 ^ v8) >>> 7) | ((v4 ^ v8) << 25);
    v5 = ((v5 ^ v9) >>> 7) | ((v5 ^ v9) << 25);
    v6 = ((v6 ^ va) >>> 7) | ((v6 ^ va) << 25);
    v7 = ((v7 ^ vb) >>> 7) | ((v7 ^ vb) << 25);

    v0 = (v0 + v5 + (m[SIGMA[s + 8] ?? 0] ?? 0)) | 0;
    v1 = (v1 + v6 + (m[SIGMA[s + 10] ?? 0] ?? 0)) | 0;
    v2 = (v2 + v7 + (m[SIGMA[s + 12] ?? 0] ?? 0)) | 0;
    v3 = (v3 + v4 + (m[SIGMA[s + 14] ?? 0] ?? 0)) | 0;
    vf = ((vf ^ v0) >>> 16) | ((vf ^ v0) << 16);
    vc = ((vc ^ v1) >>> 16) | ((vc ^ v1) << 16);
    vd = ((vd ^ v2) >>> 16) | ((vd ^ v2) << 16);
    ve = ((ve ^ v3) >>> 16) | ((ve ^ v3) << 16);
    va = (va + vf) | 0;
    vb = (vb + vc) | 0;
    v8 = (v8 + vd) | 0;
    v9 = (v9 + ve) | 0;
    v5 = ((v5 ^ va) >>> 12) | ((v5 ^ va) << 20);
    v6 = ((v6 ^ vb) >>> 12) | ((v6 ^ vb) << 20);
    v7 = ((v7 ^ v8) >>> 12) | ((v7 ^ v8) << 20);
    v4 = ((v4 ^ v9) >>> 12) | ((v4 ^ v9) << 20);
    v0 = (v0 + v5 + (m[SIGMA[s + 9] ?? 0] ?? 0)) | 0;
    v1 = (v1 + v6 + (m[SIGMA[s + 11] ?? 0] ?? 0)) | 0;
    v2 = (v2 + v7 + (m[SIGMA[s + 13] ?? 0] ?? 0)) | 0;
    v3 = (v3 + v4 + (m[SIGMA[s + 15] ?? 0] ?? 0)) | 0;
    vf = ((vf ^ v0) >>> 8) | ((vf ^ v0) << 24);
    vc = ((vc ^ v1) >>> 8) | ((vc ^ v1) << 24);
    vd = ((vd ^ v2) >>> 8) | ((vd ^ v2) << 24);
    ve = ((ve ^ v3) >>> 8) | ((ve ^ v3) << 24);
    va = (va + vf) | 0;
    vb = (vb + vc) | 0;
    v8 = (v8 + vd) | 0;
    v9 = (v9 + ve) | 0;
    v5 = ((v5 ^ va) >>> 7) | ((v5 ^ va) << 25);
    v6 = ((v6 ^ vb) >>> 7) | ((v6 ^ vb) << 25);
    v7 = ((v7 ^ v8) >>> 7) | ((v7 ^ v8) << 25);
    v4 = ((v4 ^ v9) >>> 7) | ((v4 ^ v9) << 25);
  }
  h[0] = (h[0] ?? 0) ^ v0 ^ v8;
  h[1] = (h[1] ?? 0) ^ v1 ^ v9;
  h[2] = (h[2] ?? 0) ^ v2 ^ va;
  h[3] = (h[3] ?? 0) ^ v3 ^ vb;
  h[4] = (h[4] ?? 0) ^ v4 ^ vc;
  h[5] = (h[5] ?? 0) ^ v5 ^ vd;
  h[6] = (h[6] ?? 0) ^ v6 ^ ve;
  h[7] = (h[7] ?? 0) ^ v7 ^ vf;
};

const load = (bytes: Uint8Array, at: number): void => {
  for (let i = 0; i < 16; i++, at += 4) {
    m[i] =
      (bytes[at] ?? 0) |
      ((bytes[at + 1] ?? 0) << 8) |
      ((bytes[at + 2] ?? 0) << 16) |
      ((bytes[at + 3] ?? 0) << 24);
  }
};

/** Starts over: the parameter block (section 2.5) says how long hash and key are. */
const begin = (length: number, keyLength: number): void => {
  for (let i = 0; i < h.length; i++) h[i] = IV[i] ?? 0;
  h[0] = (h[0] ?? 0) ^ 0x0101_0000 ^ (keyLength << 8) ^ length;
  filled = 0;
  counted = 0;
};

/** A block is only compressed when more follows, since the last one is marked. */
const update = (bytes: Uint8Array): void => {
  for (let i = 0; i < bytes.length; i++) {
    if (filled === BLOCK) {
      counted += BLOCK;
      load(block, 0);
      compress(0);
      filled = 0;
    }
    block[filled++] = bytes[i] ?? 0;
  }
};

const end = (to: Uint8Array): Uint8Array => {
  counted += filled;
  block.fill(0, filled);
  load(block, 0);
  compress(-1);
  for (let i = 0; i < to.length; i++) to[i] = (h[i >> 2] ?? 0) >>> ((i & 3) << 3);
  return to;
};

/** BLAKE2s-256 over the concatenation of the parts: 32 B. */
export const blake2s = (...parts: readonly Uint8Array[]): Uint8Array => {
  begin(HASH_LENGTH, 0);
  for (const part of parts) update(part);
  return end(new Uint8Array(HASH_LENGTH));
};

const pad = new Uint8Array(BLOCK);
const inner = new Uint8Array(HASH_LENGTH);

/** HMAC-BLAKE2s (RFC 2104): 32 B. The key is at most 64 B. */
export const hmacBlake2s = (key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array => {
  if (key.length > BLOCK) throw new RangeError(`an HMAC key of ${key.length} B is too long`);
  for (let i = 0; i < BLOCK; i++) pad[i] = (key[i] ?? 0) ^ 0x36;
  begin(HASH_LENGTH, 0);
  update(pad);
  for (const part of parts) update(part);
  end(inner);
  for (let i = 0; i < BLOCK; i++) pad[i] = (key[i] ?? 0) ^ 0x5c;
  begin(HASH_LENGTH, 0);
  update(pad);
  update(inner);
  const digest = end(new Uint8Array(HASH_LENGTH));
  forget();
  return digest;
};

/** Nothing of a key stays behind. */
const forget = (): void => {
  pad.fill(0);
  inner.fill(0);
  block.fill(0);
  m.fill(0);
  h.fill(0);
};

/** A key (1 to 32 B) of 16-byte macs, compressed. Borrows the key's bytes; what it keeps is as secret as they are. */
export class MacKey implements PreparedKey {
  readonly #state = new Int32Array(8);

  constructor(key: Uint8Array) {
    if (key.length === 0 || key.length > HASH_LENGTH)
      throw new RangeError(`a mac's key has 1 to 32 B, not ${key.length}`);
    begin(MAC_LENGTH, key.length);
    for (let i = 0; i < BLOCK; i++) block[i] = key[i] ?? 0;
    counted = BLOCK;
    load(block, 0);
    compress(0);
    for (let i = 0; i < h.length; i++) this.#state[i] = h[i] ?? 0;
    forget();
  }

  /** The mac of `data`, which is not empty: 16 B. */
  mac(data: Uint8Array): Uint8Array {
    this.#hash(data, 0, data.length);
    const mac = new Uint8Array(MAC_LENGTH);
    for (let i = 0; i < MAC_LENGTH; i++) mac[i] = (h[i >> 2] ?? 0) >>> ((i & 3) << 3);
    return mac;
  }

  /** Whether the 16 bytes at `macAt` are the mac of the `length` (above 0) at `at`. Takes the same time wherever they differ. */
  verify(bytes: Uint8Array, at: number, length: number, macAt: number): boolean {
    this.#hash(bytes, at, length);
    let difference = 0;
    for (let i = 0; i < MAC_LENGTH; i++)
      difference |= (((h[i >> 2] ?? 0) >>> ((i & 3) << 3)) ^ (bytes[macAt + i] ?? 0)) & 0xff;
    return difference === 0;
  }

  /** It is of no use any more. */
  wipe(): void {
    this.#state.fill(0);
  }

  #hash(bytes: Uint8Array, at: number, length: number): void {
    if (length <= 0) throw new RangeError('a mac is over something');
    for (let i = 0; i < h.length; i++) h[i] = this.#state[i] ?? 0;
    counted = BLOCK;
    let left = length;
    for (; left > BLOCK; left -= BLOCK, at += BLOCK) {
      counted += BLOCK;
      load(bytes, at);
      compress(0);
    }
    counted += left;
    for (let i = 0; i < BLOCK; i++) block[i] = i < left ? (bytes[at + i] ?? 0) : 0;
    load(block, 0);
    compress(-1);
  }
}
