// N8 and N10: clouds whose private ranges are identical, one of them behind a port-restricted NAT, are one network all
// the same; and what crosses the internet between them is ciphertext.

import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Capture, type Packet } from '../lab/capture.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';

const UNDERLAY = '10.0.0';

let domain: Domain;
let b1: Node;
let c1: Node;
let c2: Node;
let pods: Pod[];

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  const beta = await domain.internet.staticNatCloud('beta', '203.0.113', UNDERLAY);
  const gamma = await domain.internet.natCloud('gamma', '192.0.2', UNDERLAY);
  const site = await beta.node('b1', 10);
  const advertise = ['--advertise', site.publicAddress ?? ''];
  await domain.startNode('a1');
  b1 = await domain.startNode('b1', { site, options: advertise });
  c1 = await domain.startNode('c1', { site: await gamma.node('c1', 10) });
  c2 = await domain.startNode('c2', { site: await gamma.node('c2', 11) });
  pods = [];
  for (const node of domain.nodes) pods.push(await node.pod(`pod-${node.name}`, 'red'));
  await domain.meet('red');
}, 120_000);

afterAll(() => domain?.close());

const pod = (name: string): Pod => {
  const found = pods.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no ${name}`);
  return found;
};

test('two nodes in different clouds have the same address', () => {
  expect(b1.site.address).toBe(c1.site.address);
});

test('every pod reaches every pod, whoever speaks first', async () => {
  const silent: string[] = [];
  await Promise.all(
    pods.map(async (from) => {
      for (const to of pods) {
        for (const address of [to.v4('red'), to.v6('red')]) {
          // The NATed nodes open their way when they learn that they are behind one; until then nobody gets in.
          if (!(await from.reaches(address))) silent.push(`${from.name} to ${address}`);
        }
      }
    }),
  );
  expect(silent).toEqual([]);
}, 120_000);

test('neighbours behind one NAT talk to each other directly', async () => {
  await vi.waitFor(async () => {
    expect((await c1.peer('red', c2))?.endpoint).toBe(`${c2.site.address}:51820`);
    expect((await c2.peer('red', c1))?.endpoint).toBe(`${c1.site.address}:51820`);
  }, SOON);
});

test('a node behind a NAT knows that it is, one with an advertised address is not held to be', async () => {
  await vi.waitFor(async () => {
    expect(await c1.status()).toMatchObject({ behindNat: true });
    expect(await b1.status()).toMatchObject({
      behindNat: false,
      endpoints: expect.arrayContaining(['203.0.113.10:51820']),
    });
  }, SOON);
});

test('all nodes are healthy', async () => {
  await vi.waitFor(async () => {
    for (const node of domain.nodes) expect(await node.status()).toMatchObject({ problems: [] });
  }, SOON);
});

test('no byte of what pods say crosses the internet in the clear', async () => {
  const word = randomBytes(8).toString('hex');
  const [client, server] = [pod('pod-c1'), pod('pod-b1')];
  const outside = await Capture.start(domain.internet.core, 'any');
  const inside = await Capture.start(client.host, 'red');

  const listener = server.host.start([process.execPath, '--eval', ECHO_SERVER, '--', server.v4('red')]);
  await listener.printed(/listening/);
  const url = `http://${server.v4('red')}:8080/`;
  const answer = await client.host.run(['curl', '-sS', '--max-time', '20', '--data', word.repeat(500), url]);
  expect(answer).toBe(word.repeat(500));
  const pattern = Buffer.from(word).toString('hex');
  for (const address of [server.v4('red'), server.v6('red')])
    await client.host.run(['ping', '-q', '-c', '2', '-i', '0.2', '-s', '3000', '-p', pattern, address]);

  const packets = await outside.stop();
  await inside.stop();
  // The control: the word is there to be found, and this search finds it.
  expect(inside.count(word)).toBeGreaterThan(100);
  expect(outside.count(word)).toBe(0);
  expect(packets.filter(isWireguard).length).toBeGreaterThan(10);
  expect(packets.filter((one) => !isWireguard(one) && !isExpected(one))).toEqual([]);
});

const ECHO_SERVER = `require('node:http')
  .createServer((request, response) => request.pipe(response))
  .listen(8080, process.argv[1], () => console.log('listening'))`;

const [TCP, UDP, ICMPV6, HOP_BY_HOP] = [6, 17, 58, 0];

/** A WireGuard message begins with its type, 1 to 4, as a little-endian u32. */
function isWireguard({ protocol, source, destination, payload }: Packet): boolean {
  const [type = 0, ...reserved] = payload.subarray(0, 4);
  const port = source === 51_820 || destination === 51_820;
  return protocol === UDP && port && type >= 1 && type <= 4 && reserved.every((byte) => byte === 0);
}

/** The registry's TLS, ARP, and what IPv6 neighbours tell each other. */
function isExpected({ protocol, source, destination }: Packet): boolean {
  if (protocol === TCP) return source === 7443 || destination === 7443;
  return protocol === undefined || protocol === ICMPV6 || protocol === HOP_BY_HOP;
}
