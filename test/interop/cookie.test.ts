// vl3 and Debian's wireguard-go under load: each is flooded with initiations whose mac1 is right, answers the other's
// initiation by a cookie reply, and lets the next pass because it carries that cookie.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CookieJar } from '../../native-free/noise/cookie.ts';
import { COOKIE_REPLY_TYPE, Initiation, messageType, RESPONSE_TYPE } from '../../native-free/wire/message.ts';
import { opensslPrimitives } from '../../src/noise/openssl-primitives.ts';
import { Capture } from '../lab/capture.ts';
import { Lab } from '../lab/lab.ts';
import { ping } from '../lab/ping.ts';
import { Eve } from '../src/datapath/eve.ts';
import { type Hosts, INSIDE, makeHosts, OUTSIDE, other, Pair, PORTS, type Side } from './scene.ts';

/** More than an eighth of a queue of 1024, but not all of it. */
const BURST = 500;
const PAUSE_MS = 100;

const lab = Lab.create();
let hosts: Hosts;

beforeAll(async () => {
  hosts = await makeHosts(lab);
});
afterAll(async () => await lab.close());

/** Initiations of nobody, for the holder of `publicKey` (base64): dear to look at, were it not for cookies. */
const forge = (publicKey: string): Uint8Array[] => {
  const jar = new CookieJar(opensslPrimitives, new Uint8Array(Buffer.from(publicKey, 'base64')));
  return Array.from({ length: 64 }, (_, i) => {
    const message = Initiation.create(i);
    message.ephemeral.fill(i + 1);
    jar.writeMacs(message.macs, 0);
    return message.bytes;
  });
};

const kindOf = (bytes: Uint8Array): string => {
  const initiation = Initiation.parse(bytes);
  if (initiation?.macs.mac2.some((byte) => byte !== 0)) return 'initiation with cookie';
  if (initiation !== undefined) return 'initiation';
  if (messageType(bytes) === COOKIE_REPLY_TYPE) return 'cookie reply';
  return messageType(bytes) === RESPONSE_TYPE ? 'response' : 'data';
};

/** Floods `target` from the other side's host, from another port, until it is told to stop. */
const flood = async (pair: Pair, target: Side, stop: AbortSignal): Promise<void> => {
  const eve = new Eve(hosts[other(target)]);
  const messages = forge(pair.keys[target].publicKey);
  const to = { address: OUTSIDE[target].v4, port: PORTS[target] };
  try {
    while (!stop.aborted) {
      for (let i = 0; i < BURST; i++) eve.send(messages[i % messages.length] ?? new Uint8Array(), to);
      await sleep(PAUSE_MS);
    }
  } finally {
    eve.close();
  }
};

test.each(['stock', 'vl3'] as const)(
  'while %s is flooded, the other side reaches it with its cookie',
  async (target) => {
    const initiator = other(target);
    await using pair = await Pair.start(lab, hosts, { initiators: [initiator] });
    const between = `udp and port ${PORTS.vl3} and port ${PORTS.stock}`;
    const capture = await Capture.start(hosts[initiator], 'eth0', [between]);
    // So that the flood does not wait for the neighbour's address.
    await ping(hosts[initiator], OUTSIDE[target].v4);
    const stop = new AbortController();
    const flooding = flood(pair, target, stop.signal);
    // Long enough for the target to notice; a flood that fails fails the test.
    await Promise.race([sleep(500), flooding]);
    const { received } = await ping(hosts[initiator], INSIDE[target].v4, { wait: 30 });
    expect({ received, ...(await pair.seenByVl3()) }).toMatchObject({ received: 1 });
    stop.abort();
    await flooding;

    const seen = (await capture.stop()).map(({ payload }) => kindOf(payload));
    // A flood may well cost an initiation its place in the queue; it is sent again.
    const answered = seen.slice(seen.lastIndexOf('initiation', seen.indexOf('cookie reply')));
    expect(answered.slice(0, 2)).toEqual(['initiation', 'cookie reply']);
    const later = answered.slice(2, answered.indexOf('response') + 1);
    expect(new Set(later.slice(0, -1))).toEqual(new Set(['initiation with cookie']));
    expect(later.at(-1)).toBe('response');

    const { counts } = await pair.seenByVl3();
    expect(counts['handshake dropped:bad-cookie']).toBeUndefined();
    if (target === 'vl3') expect(counts['handshake dropped:cookie-required']).toBeGreaterThan(100);
  },
);
