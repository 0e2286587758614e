// Bytes as base64 text and back: for JSON, and for WireGuard's keys. What is parsed has passed a schema before.

/** Borrows `bytes`. */
export const toBase64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');

/** The bytes are the caller's. */
export const fromBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
