// Primitives on OpenSSL: what the agent uses for handshakes. X25519 and the AEAD are OpenSSL's own functions where the binary
// exports them (32 and 1 µs; by node:crypto's objects 123 and 15, in @noble 3000 and 12); BLAKE2s is noise/blake2s (an HMAC
// takes 2 µs, by node:crypto 14). Not for transport data: that is the business of src/datapath/aead.

import { blake2s, hmacBlake2s, MacKey } from '../../native-free/noise/blake2s.ts';
import { noblePrimitives } from '../../native-free/noise/noble-primitives.ts';
import type { Primitives } from '../../native-free/noise/primitives.ts';
import { bareAead } from './bare-aead.ts';
import { bareX25519 } from './bare-x25519.ts';
import { objectAead } from './object-aead.ts';
import { objectX25519 } from './object-x25519.ts';

const x25519 = bareX25519(objectX25519) ?? objectX25519;
const { xseal, xopen } = noblePrimitives;
const known = { ...objectAead, xseal, xopen };
const aead = bareAead(known) ?? known;

export const opensslPrimitives: Primitives = {
  name: 'openssl',
  publicKey: x25519.publicKey,
  dh: x25519.dh,
  hash: blake2s,
  mac: (key, data) => new MacKey(key).mac(data),
  macKey: (key) => new MacKey(key),
  hmac: hmacBlake2s,
  seal: aead.seal,
  open: aead.open,
  xseal: aead.xseal,
  xopen: aead.xopen,
};
