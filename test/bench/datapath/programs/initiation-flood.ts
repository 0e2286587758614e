// Datagrams of the size and shape of handshake initiations, forged, at a steady rate for a bounded time: what anyone who can
// reach a port can send to it. Only for namespaces of our own.
//
//   initiation-flood.ts ADDRESS PORT bad-mac1|valid-mac1 PUBLIC_KEY PER_SECOND SECONDS
//
// With a bad mac1 a responder may drop it after one hash; with a valid one, which anybody can make who knows the public key,
// it has to do more: a Diffie-Hellman, or a cookie. Prints a line a tenth of a second: how many were sent, in how many seconds.

import { randomBytes, randomInt } from 'node:crypto';
import { CookieJar } from '../../../../native-free/noise/cookie.ts';
import { Initiation } from '../../../../native-free/wire/message.ts';
import { MessageBatch } from '../../../../src/datapath/message-batch.ts';
import { encodePath, sockaddrLength } from '../../../../src/datapath/sockaddr.ts';
import { openUdp } from '../../../../src/datapath/udp.ts';
import { sendmmsg } from '../../../../src/ffi/libc.ts';
import { Arena } from '../../../../src/ffi/memory.ts';
import { opensslPrimitives } from '../../../../src/noise/openssl-primitives.ts';

const DIFFERENT = 1024;
const BATCH = 32;
const ROOM = 192;
/** Of the sender: a limit an address and port must not be all that is measured. */
const PORTS = 16;
const TURN_MS = 1;
const TELL_MS = 100;

const [address = '', port = '', kind, publicKey = '', perSecond = '', seconds = ''] = process.argv.slice(2);
const sockets = Array.from({ length: PORTS }, () => openUdp({ port: 0, allowOffloads: false }).v4);
const arena = new Arena(DIFFERENT * ROOM + (1 << 16));
const batch = new MessageBatch(arena, BATCH, 1);
const messages = arena.allocate(DIFFERENT * ROOM);
const path = encodePath({ address, port: Number(port) });
for (let i = 0; i < BATCH; i++) {
  arena.bytes.set(path, batch.pathOffset(i));
  batch.setNameLength(i, sockaddrLength(path[0] ?? 0));
  batch.setPartCount(i, 1);
  batch.setControl(i, 0, 0);
}

const jar = new CookieJar(opensslPrimitives, new Uint8Array(Buffer.from(publicKey, 'base64')));
for (let i = 0; i < DIFFERENT; i++) {
  const message = Initiation.create(randomInt(2 ** 32));
  for (const part of [message.ephemeral, message.encryptedStatic, message.encryptedTimestamp])
    part.set(randomBytes(part.length));
  if (kind === 'valid-mac1') jar.writeMacs(message.macs, 0);
  else message.macs.mac1.set(randomBytes(message.macs.mac1.length));
  arena.bytes.set(message.bytes, messages + i * ROOM);
}

const asleep = new Int32Array(new SharedArrayBuffer(4));
const began = performance.now();
const end = began + Number(seconds) * 1000;
let sent = 0;
let next = 0;
let told = 0;
for (let now = began; now < end; now = performance.now()) {
  const due = ((now - began) / 1000) * Number(perSecond);
  while (sent < due) {
    const count = Math.min(BATCH, Math.ceil(due - sent));
    for (let i = 0; i < count; i++) {
      batch.setPart(i, 0, messages + (next % DIFFERENT) * ROOM, Initiation.create(0).bytes.length);
      next += 1;
    }
    const socket = sockets[Math.floor(next / BATCH) % PORTS] ?? 0;
    // What does not leave is not made up for: a rate that cannot be kept is seen in what is told.
    const left = sendmmsg(socket, batch.addressOf(0), count, 0);
    sent += Math.max(left, 0);
    if (left < count) break;
    if (performance.now() > end) break;
  }
  if (now - told >= TELL_MS) {
    told = now;
    console.log(`sent ${sent} in ${((now - began) / 1000).toFixed(3)} s`);
  }
  Atomics.wait(asleep, 0, 0, TURN_MS);
}
console.log(`sent ${sent} in ${((performance.now() - began) / 1000).toFixed(3)} s`);
