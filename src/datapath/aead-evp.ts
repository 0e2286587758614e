// The second AEAD tier: OpenSSL's public EVP interface with one reused context a direction.

import type { Arena } from '../ffi/memory.ts';
import type { EvpOpenssl } from '../ffi/openssl.ts';
import type { Aead } from './aead.ts';

const TAG = 16;
const CTRL_AEAD_GET_TAG = 0x10;
const CTRL_AEAD_SET_TAG = 0x11;

export class EvpAead implements Aead {
  readonly tier = 'openssl-evp';
  readonly #evp: EvpOpenssl;
  readonly #view: DataView;
  readonly #base: number;
  readonly #context: number;
  readonly #cipher: number;
  readonly #nonce: number;
  readonly #outLength: number;

  static create(arena: Arena, evp: EvpOpenssl): EvpAead | undefined {
    const context = evp.newContext();
    const cipher = evp.chacha20Poly1305();
    if (context === 0 || cipher === 0) return undefined;
    return new EvpAead(arena, evp, context, cipher);
  }

  private constructor(arena: Arena, evp: EvpOpenssl, context: number, cipher: number) {
    this.#evp = evp;
    this.#view = arena.view;
    this.#base = arena.address;
    this.#context = context;
    this.#cipher = cipher;
    this.#nonce = arena.allocate(16);
    this.#outLength = arena.address + arena.allocate(16);
  }

  seal(key: number, counter: number, from: number, length: number, to: number): void {
    const base = this.#base;
    this.#init(key, counter, 1);
    this.#evp.cipherUpdate(this.#context, base + to, this.#outLength, base + from, length);
    this.#evp.cipherFinal(this.#context, base + to + length, this.#outLength);
    this.#evp.control(this.#context, CTRL_AEAD_GET_TAG, TAG, base + to + length);
  }

  open(key: number, counter: number, from: number, length: number, to: number): boolean {
    const base = this.#base;
    this.#init(key, counter, 0);
    this.#evp.control(this.#context, CTRL_AEAD_SET_TAG, TAG, base + from + length);
    this.#evp.cipherUpdate(this.#context, base + to, this.#outLength, base + from, length);
    return this.#evp.cipherFinal(this.#context, base + to + length, this.#outLength) === 1;
  }

  #init(key: number, counter: number, encrypt: 0 | 1): void {
    const high = Math.floor(counter / 0x1_0000_0000);
    this.#view.setUint32(this.#nonce + 4, counter - high * 0x1_0000_0000, true);
    this.#view.setUint32(this.#nonce + 8, high, true);
    const base = this.#base;
    this.#evp.cipherInit(this.#context, this.#cipher, 0, base + key, base + this.#nonce, encrypt);
  }
}
