// The names of a network as they are served, on an address of this machine's loopback.

import { randomInt } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode, encode } from '@leichtgewicht/dns-packet';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { NamesBook } from '../../../native-free/names/names-book.ts';
import { encodeNames } from '../../../native-free/names/signed-names.ts';
import { exchange } from '../../../src/names/exchange.ts';
import { type NamingPeer, NetworkNames } from '../../../src/names/network-names.ts';
import { OwnNames } from '../../../src/names/own-names.ts';
import { eventually } from '../../lab/eventually.ts';

const NOW = 1_800_000_000_000;
const logger = pino({ level: 'silent' });
const at = () => ({ wall: NOW, boot: 1, bootId: 'b1' });

let address: string;
let peers: NamingPeer[];
let book: NamesBook;
let names: NetworkNames;
let monotonic: number;

beforeEach(() => {
  address = `127.${randomInt(64, 128)}.${randomInt(256)}.${randomInt(1, 255)}`;
  peers = [];
  monotonic = 0;
  const verify = (chain: readonly Uint8Array[]) => ({
    trustDomain: 'a.example',
    node: `n${chain[0]?.[0] ?? 0}`,
    notAfter: NOW + 1000,
  });
  const saved = { list: () => [], put: () => {}, delete: () => {} };
  book = new NamesBook(
    { network: 'red', networkUid: 'u', home: 'a.example', node: 'n0' },
    { saved, verifierOf: () => verify, report: () => {} },
  );
  const own = new OwnNames({
    network: 'red',
    networkUid: 'u',
    home: 'a.example',
    attachments: () => [],
    mayName: () => true,
    sign: () => {
      throw new Error('nothing is announced here');
    },
    svidId: () => '',
    nextSequence: () => 1,
    heardSequence: () => 0,
  });
  names = new NetworkNames(
    { node: 'n0', network: 'red', netns: '/proc/self/ns/net' },
    {
      pools: () => [parsePrefix('10.60.0.0/16')],
      gateways: () => [parseAddress(address)],
      own,
      book,
      peers: () => peers,
      networks: () => ['red'],
      clock: { monotonic: () => monotonic, moment: at },
      logger,
    },
  );
});

afterEach(() => names[Symbol.asyncDispose]());

/** What the node signed, as the registry gives it. */
const announce = (node: number, said: Record<string, string[]>): void => {
  const record = encodeNames({
    trustDomain: 'a.example',
    network: 'red',
    networkUid: 'u',
    node: `n${node}`,
    sequence: 1,
    notBefore: NOW - 1,
    notAfter: NOW + 1000,
    names: Object.entries(said).map(([name, all]) => ({ name, addresses: all.map(parseAddress) })),
  });
  book.offer(`n${node}`, {
    record,
    signature: new Uint8Array(64),
    certificateChain: [Uint8Array.of(node)],
  });
};

const tick = (): void => {
  monotonic += 1000;
  names.tick();
};

const ask = async (name: string): Promise<string[]> => {
  const query = encode({ type: 'query', id: 1, questions: [{ name, type: 'A' }] });
  const server = { address, port: 53, netns: undefined };
  let found: string[] = [];
  await eventually(
    async () => {
      const response = await exchange(query, server, 'udp', 5000);
      if (response === undefined) throw new Error('no answer');
      found = (decode(response).answers ?? []).map((one) => String('data' in one ? one.data : ''));
    },
    { timeout: 20_000, interval: 50 },
  );
  return found;
};

describe('the names of other nodes', () => {
  test('lead to addresses of their own prefixes and to no others', async () => {
    peers = [
      { node: 'n1', prefixes: [parsePrefix('10.60.1.0/24')] },
      { node: 'n2', prefixes: [parsePrefix('10.60.2.0/24')] },
    ];
    announce(1, { web: ['10.60.1.5'] });
    announce(2, { forged: ['10.60.1.5'], web: ['10.60.1.6', '10.60.2.5'] });
    tick();
    expect((await ask('web.red.vl3')).sort()).toEqual(['10.60.1.5', '10.60.2.5']);
    expect(await ask('forged.red.vl3')).toEqual([]);
  });

  test('count while the node is there with a prefix of its own', async () => {
    announce(1, { web: ['10.60.1.5'] });
    tick();
    expect(await ask('web.red.vl3')).toEqual([]);
    peers = [{ node: 'n1', prefixes: [parsePrefix('10.60.1.0/24')] }];
    tick();
    expect(await ask('web.red.vl3')).toEqual(['10.60.1.5']);
    peers = [{ node: 'n1', prefixes: [parsePrefix('10.60.7.0/24')] }];
    tick();
    expect(await ask('web.red.vl3')).toEqual([]);
  });
});

describe('a connection', () => {
  test('takes several queries, also byte by byte, and is ended by one that is none', async () => {
    tick();
    const query = encode({ type: 'query', id: 1, questions: [{ name: 'red.vl3', type: 'A' }] });
    const framed = Uint8Array.of(0, query.length, ...query);
    const socket = connect({ host: address, port: 53 });
    const received: number[] = [];
    socket.on('data', (chunk) => received.push(...chunk));
    for (const byte of framed) {
      socket.write(Uint8Array.of(byte));
      await sleep(1);
    }
    socket.write(Uint8Array.of(...framed, ...framed));
    const length = 2 + query.length + 16;
    await eventually(async () => expect(received).toHaveLength(3 * length), {
      timeout: 20_000,
      interval: 20,
    });
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write(Uint8Array.of(0xff, 0xff));
    await closed;
  });

  test('is refused to whoever has eight', async () => {
    tick();
    const sockets = Array.from({ length: 9 }, () => connect({ host: address, port: 53 }));
    let ended = 0;
    for (const socket of sockets) {
      socket.on('error', () => {});
      socket.on('close', () => ended++);
    }
    await eventually(async () => expect(ended).toBe(1), { timeout: 20_000, interval: 20 });
    for (const socket of sockets) socket.destroy();
  });
});
