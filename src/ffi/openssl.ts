// The parts of OpenSSL inside the node binary that the AEAD tiers use, through the FFI library. They are internals of
// that binary and may be missing: each set is looked up as a whole and is undefined when one of its names is not
// there. The known-answer tests that decide whether a set may be used are in src/datapath/aead.ts.

import koffi from 'koffi';

const POINTER = 'uintptr_t';

type Address = number;

export interface LowLevelOpenssl {
  /** Streams `length` bytes; `counter` points to a u32 block counter and the 12-byte nonce. */
  readonly chacha20: (
    out: Address,
    input: Address,
    length: number,
    key: Address,
    counter: Address,
  ) => undefined;
  readonly poly1305ContextSize: () => number;
  readonly poly1305Init: (context: Address, key: Address) => undefined;
  readonly poly1305Update: (context: Address, input: Address, length: number) => undefined;
  /** Writes 16 B and wipes the context. */
  readonly poly1305Final: (context: Address, tag: Address) => undefined;
}

export interface EvpOpenssl {
  readonly newContext: () => Address;
  readonly chacha20Poly1305: () => Address;
  readonly cipherInit: (
    context: Address,
    cipher: Address,
    engine: Address,
    key: Address,
    iv: Address,
    encrypt: number,
  ) => number;
  readonly cipherUpdate: (
    context: Address,
    out: Address,
    outLength: Address,
    input: Address,
    length: number,
  ) => number;
  readonly cipherFinal: (context: Address, out: Address, outLength: Address) => number;
  readonly control: (context: Address, command: number, value: number, pointer: Address) => number;
}

/** Curve25519 on 32-byte arrays. */
export interface X25519Openssl {
  /** 1, or 0 when the shared secret is all zero. */
  readonly x25519: (secret: Uint8Array, privateKey: Uint8Array, publicKey: Uint8Array) => number;
  readonly publicFromPrivate: (publicKey: Uint8Array, privateKey: Uint8Array) => undefined;
}

/**
 * One set of functions a thread: code that V8 has compiled for one is thrown away when it meets another, though both call
 * the same.
 */
const once = <T>(load: () => T): (() => T) => {
  let loaded: { readonly value: T } | undefined;
  return () => {
    loaded ??= { value: load() };
    return loaded.value;
  };
};

/** X25519 as bare functions, or undefined when this binary does not export them. */
export const loadX25519 = once((): X25519Openssl | undefined => {
  try {
    const binary = koffi.load(null);
    const BYTES = 'uint8_t *';
    return {
      x25519: binary.func('ossl_x25519', 'int', [BYTES, BYTES, BYTES]),
      publicFromPrivate: binary.func('ossl_x25519_public_from_private', 'void', [BYTES, BYTES]),
    };
  } catch {
    return undefined;
  }
});

/** ChaCha20 and Poly1305 as bare functions, or undefined when this binary does not export them. */
export const loadLowLevel = once((): LowLevelOpenssl | undefined => {
  try {
    const binary = koffi.load(null);
    return {
      chacha20: binary.func('ChaCha20_ctr32', 'void', [POINTER, POINTER, 'size_t', POINTER, POINTER]),
      poly1305ContextSize: binary.func('Poly1305_ctx_size', 'size_t', []),
      poly1305Init: binary.func('Poly1305_Init', 'void', [POINTER, POINTER]),
      poly1305Update: binary.func('Poly1305_Update', 'void', [POINTER, POINTER, 'size_t']),
      poly1305Final: binary.func('Poly1305_Final', 'void', [POINTER, POINTER]),
    };
  } catch {
    return undefined;
  }
});

/** The public EVP interface, or undefined when this binary does not export it. */
export const loadEvp = once((): EvpOpenssl | undefined => {
  try {
    const binary = koffi.load(null);
    return {
      newContext: binary.func('EVP_CIPHER_CTX_new', POINTER, []),
      chacha20Poly1305: binary.func('EVP_chacha20_poly1305', POINTER, []),
      cipherInit: binary.func('EVP_CipherInit_ex', 'int', [
        POINTER,
        POINTER,
        POINTER,
        POINTER,
        POINTER,
        'int',
      ]),
      cipherUpdate: binary.func('EVP_CipherUpdate', 'int', [POINTER, POINTER, POINTER, POINTER, 'int']),
      cipherFinal: binary.func('EVP_CipherFinal_ex', 'int', [POINTER, POINTER, POINTER]),
      control: binary.func('EVP_CIPHER_CTX_ctrl', 'int', [POINTER, 'int', 'int', POINTER]),
    };
  } catch {
    return undefined;
  }
});
