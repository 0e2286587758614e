// Loaded before a program (node --import): on its main thread, what @noble offers for handshakes only throws. The
// workers of the datapath keep it: they compare their AEAD with it at start.

import { registerHooks } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const REFUSE = "() => { throw new Error('@noble was asked to do what OpenSSL should'); }";
const SOURCES: readonly [end: string, source: string][] = [
  [
    '/@noble/curves/ed25519.js',
    `export const x25519 = { getPublicKey: ${REFUSE}, getSharedSecret: ${REFUSE} };`,
  ],
  [
    '/@noble/ciphers/chacha.js',
    `export const chacha20poly1305 = ${REFUSE}; export const xchacha20poly1305 = ${REFUSE};`,
  ],
];

if (isMainThread)
  registerHooks({
    load(url, context, next) {
      const [, source] = SOURCES.find(([end]) => url.endsWith(end)) ?? [];
      return source === undefined ? next(url, context) : { format: 'module', shortCircuit: true, source };
    },
  });
