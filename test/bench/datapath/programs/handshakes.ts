// Whole handshakes from many peers with one device, as fast as it answers and no faster: so many are under way at once, too few
// for any responder to think itself under load. What it costs the responder is the caller's to measure.
//
//   handshakes.ts ADDRESS PORT PUBLIC_KEY SECONDS MOST < private keys of the peers, a line each
//
// 1. make the initiations (not timed)    2. send them, each once there is room for it    3. open a sample of the responses: they
// must verify    4. print how many were answered, in how many seconds

import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { CookieJar } from '../../../../native-free/noise/cookie.ts';
import {
  consumeResponse,
  createInitiation,
  type InitiatorState,
  remoteStatic,
} from '../../../../native-free/noise/handshake.ts';
import { timestampAt } from '../../../../native-free/noise/tai64n.ts';
import { type Initiation, Response } from '../../../../native-free/wire/message.ts';
import { opensslPrimitives } from '../../../../src/noise/openssl-primitives.ts';

const AT_ONCE = 32;
const GIVE_UP_MS = 500;
const SAMPLE = 16;
const NO_PSK = new Uint8Array(32);
/** Timestamps have to grow by a whitened step, and a peer is heard 50 times a second at most. */
const ROUND_MS = 40;

const [address = '', port = '', publicKey = '', seconds = '', most = ''] = process.argv.slice(2);
const keys = (await text(process.stdin))
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => new Uint8Array(Buffer.from(line, 'base64')));

interface Call {
  readonly message: Initiation;
  readonly state: InitiatorState;
  readonly key: Uint8Array;
  response: Uint8Array | undefined;
}

const responder = new Uint8Array(Buffer.from(publicKey, 'base64'));
const peers = keys.map((privateKey) => {
  const own = { privateKey, publicKey: opensslPrimitives.publicKey(privateKey) };
  return {
    own,
    remote: remoteStatic(opensslPrimitives, own, responder),
    jar: new CookieJar(opensslPrimitives, responder),
  };
});
const now = Date.now();
const calls: Call[] = [];
for (let i = 0; i < Number(most); i++) {
  const peer = peers[i % peers.length];
  if (peer === undefined) throw new Error('no keys');
  const { own, remote, jar } = peer;
  const timestamp = timestampAt(now + Math.floor(i / peers.length) * ROUND_MS);
  const made = createInitiation(
    opensslPrimitives,
    own,
    remote,
    i,
    new Uint8Array(randomBytes(32)),
    timestamp,
  );
  if (made === undefined) throw new Error('the responder has no proper key');
  jar.writeMacs(made.message.macs, 0);
  calls.push({ ...made, key: own.privateKey, response: undefined });
}

const socket = createSocket('udp4');
socket.bind(0);
await once(socket, 'listening');
socket.connect(Number(port), address);
await once(socket, 'connect');

const began = performance.now();
const end = began + Number(seconds) * 1000;
const underWay = new Map<number, number>();
let next = 0;
let answered = 0;
let lost = 0;
let cookies = 0;
let lastAnswer = began;
const done = Promise.withResolvers<void>();

const fill = (): void => {
  while (underWay.size < AT_ONCE) {
    const call = calls[next];
    if (call === undefined || performance.now() >= end) {
      if (underWay.size === 0) done.resolve();
      return;
    }
    underWay.set(next, performance.now());
    next += 1;
    socket.send(call.message.bytes);
  }
};

socket.on('message', (datagram) => {
  const response = Response.parse(datagram);
  if (response === undefined) cookies += 1;
  else if (underWay.delete(response.receiver)) {
    const call = calls[response.receiver];
    if (call !== undefined) call.response = datagram;
    answered += 1;
    lastAnswer = performance.now();
  }
  fill();
});
// A connected socket is told of a port that is closed: nobody answers there.
socket.on('error', () => {});
const looking = setInterval(() => {
  for (const [i, at] of underWay) {
    if (performance.now() - at < GIVE_UP_MS) continue;
    underWay.delete(i);
    lost += 1;
  }
  fill();
}, 50);
fill();
await done.promise;
clearInterval(looking);
socket.close();

let wrong = 0;
for (let i = 0; i < next; i += SAMPLE) {
  const call = calls[i];
  const response = call?.response === undefined ? undefined : Response.parse(call.response);
  if (call === undefined || response === undefined) continue;
  const own = { privateKey: call.key, publicKey: opensslPrimitives.publicKey(call.key) };
  if (consumeResponse(opensslPrimitives, own, NO_PSK, call.state, response) === undefined) wrong += 1;
}
console.log(JSON.stringify({ answered, lost, cookies, wrong, seconds: (lastAnswer - began) / 1000 }));
