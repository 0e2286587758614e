// ChaCha20-Poly1305 (RFC 8439) by node:crypto's public interface, where a cipher object a message costs 15 µs. Where OpenSSL's own
// functions are not to be had, and to check them against.

import { createCipheriv, createDecipheriv } from 'node:crypto';
import { TAG_LENGTH } from '../../native-free/noise/constants.ts';
import type { Primitives } from '../../native-free/noise/primitives.ts';

const CIPHER = 'chacha20-poly1305';

export const objectAead: Pick<Primitives, 'seal' | 'open'> = {
  seal(key, counter, plaintext, associated) {
    const cipher = createCipheriv(CIPHER, key, nonce(counter), { authTagLength: TAG_LENGTH });
    cipher.setAAD(associated, { plaintextLength: plaintext.length });
    const sealed = new Uint8Array(plaintext.length + TAG_LENGTH);
    sealed.set(cipher.update(plaintext));
    cipher.final();
    sealed.set(cipher.getAuthTag(), plaintext.length);
    return sealed;
  },

  open(key, counter, sealed, associated) {
    const length = sealed.length - TAG_LENGTH;
    if (length < 0) return undefined;
    const decipher = createDecipheriv(CIPHER, key, nonce(counter), { authTagLength: TAG_LENGTH });
    decipher.setAAD(associated, { plaintextLength: length });
    decipher.setAuthTag(sealed.subarray(length));
    const plaintext = new Uint8Array(decipher.update(sealed.subarray(0, length)));
    try {
      decipher.final();
      return plaintext;
    } catch {
      plaintext.fill(0);
      return undefined;
    }
  },
};

const nonce = (counter: bigint): Uint8Array => {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, counter, true);
  return bytes;
};
