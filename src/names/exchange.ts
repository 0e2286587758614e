// One query carried to a name server and its response back, from this namespace or another. Each goes from a socket of its
// own, hence from a port that nobody can guess, under an id of its own, and only what repeats its question is believed.

import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { isIPv6, Socket } from 'node:net';
import { parseAddress } from '../../native-free/ipam/prefix.ts';
import { HEADER_BYTES, QR } from '../../native-free/names/query.ts';
import type { Transport } from '../../native-free/names/response.ts';
import { bindIn } from './namespace-socket.ts';

export interface NameServerAddress {
  readonly address: string;
  readonly port: number;
  /** Path of the namespace to ask from; undefined: this one. */
  readonly netns: string | undefined;
}

const LENGTH_BYTES = 2;
const ANY = { 4: parseAddress('0.0.0.0'), 6: parseAddress('::') };

/** The response, under the query's id; undefined: none came in time. `query` has one question. Never throws. */
export const exchange = async (
  query: Uint8Array,
  server: NameServerAddress,
  transport: Transport,
  timeoutMs: number,
): Promise<Uint8Array | undefined> => {
  const id = randomInt(0x1_0000);
  const asked = Uint8Array.from(query);
  new DataView(asked.buffer).setUint16(0, id);
  const signal = AbortSignal.timeout(timeoutMs);
  const response = await (transport === 'udp' ? byUdp : byTcp)(asked, server, signal).catch(() => undefined);
  if (response === undefined) return undefined;
  response.set(query.subarray(0, 2));
  return response;
};

/** Whether it answers this very question. */
const answers = (response: Uint8Array, query: Uint8Array): boolean => {
  if (response.length < HEADER_BYTES || response[0] !== query[0] || response[1] !== query[1]) return false;
  if ((((response[2] ?? 0) << 8) & QR) === 0) return false;
  // An error may come without the question.
  const hasQuestion = response[5] === 1;
  return !hasQuestion || sameQuestion(response, query);
};

/** Letters may differ in case only where a server does not keep to 0x20: that one is not believed. */
const sameQuestion = (response: Uint8Array, query: Uint8Array): boolean => {
  let end = HEADER_BYTES;
  for (let length = query[end] ?? 0; length !== 0; length = query[end] ?? 0) end += 1 + length;
  end += 1 + 4;
  for (let i = HEADER_BYTES; i < end; i++) if (response[i] !== query[i]) return false;
  return true;
};

const byUdp = async (
  query: Uint8Array,
  { address, port, netns }: NameServerAddress,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> => {
  const family = isIPv6(address) ? 6 : 4;
  const socket = createSocket({
    type: `udp${family}`,
    lookup: (host, _, callback) => callback(null, host, family),
  });
  try {
    return await new Promise<Uint8Array>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
      socket.on('error', reject);
      socket.on('message', (message, from) => {
        if (from.port === port && answers(message, query)) resolve(new Uint8Array(message));
      });
      const ask = (): void => socket.send(query, port, address, (error) => error && reject(error));
      if (netns === undefined) ask();
      else socket.bind({ fd: bindIn(netns, 'udp', ANY[family], 0) }, ask);
    });
  } finally {
    socket.close();
  }
};

const byTcp = async (
  query: Uint8Array,
  { address, port, netns }: NameServerAddress,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> => {
  const family = isIPv6(address) ? 6 : 4;
  // A socket that Node takes over is thought to be connected, and read at once, unless it is told to wait.
  const started = { signal, manualStart: true };
  const socket = new Socket(
    netns === undefined ? started : { ...started, fd: bindIn(netns, 'tcp', ANY[family], 0) },
  );
  try {
    socket.connect({ host: address, port });
    const framed = new Uint8Array(LENGTH_BYTES + query.length);
    new DataView(framed.buffer).setUint16(0, query.length);
    framed.set(query, LENGTH_BYTES);
    socket.write(framed);
    let received = new Uint8Array(0);
    for await (const chunk of socket) {
      received = Uint8Array.from([...received, ...chunk]);
      if (received.length < LENGTH_BYTES) continue;
      const length = new DataView(received.buffer).getUint16(0);
      if (received.length < LENGTH_BYTES + length) continue;
      const response = received.slice(LENGTH_BYTES, LENGTH_BYTES + length);
      return answers(response, query) ? response : undefined;
    }
    return undefined;
  } finally {
    socket.destroy();
  }
};
