import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { closeTun, openTun, type Tun } from '../../../src/datapath/tun.ts';
import { poll, read, write } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { namedNamespacePath } from '../../../src/netns/namespace.ts';
import { ensureRouter } from '../../../src/netns/router.ts';
import { ensureAttachment } from '../../../src/netns/veth.ts';
import { Fixture, MTU, TUN } from './fixture.ts';

// Two nodes: what one router's TUN gives goes into the other's as it is, virtio_net_hdr first.

const VNET_HEADER = 10;
const BUFFER = 128 * 1024;
const POLLIN = 1;

const nodes = [new Fixture(1), new Fixture(2)] as const;
const tuns: Tun[] = [];

beforeAll(async () => {
  for (const node of nodes) {
    await node.makeBareRouter();
    tuns.push(openTun({ name: TUN, netns: namedNamespacePath(node.router), allowOffloads: true }));
    await ensureRouter(node.tools, node.routerSpec);
    await ensureAttachment(node.tools, node.attachment(node.makePod('a'), 2));
  }
});

afterAll(() => {
  for (const tun of tuns) closeTun(tun);
  for (const node of nodes) node[Symbol.dispose]();
});

/** Bytes carried in packets, by direction, and those of them in packets larger than the MTU. */
interface Carried {
  bytes: number;
  inSuperPackets: number;
}

/** Carries packets both ways until the signal. */
const carry = async (signal: AbortSignal): Promise<readonly [Carried, Carried]> => {
  const [there, back] = tuns;
  if (there === undefined || back === undefined) throw new Error('two TUNs are needed');
  const arena = new Arena(BUFFER + 64);
  const buffer = arena.address + arena.allocate(BUFFER);
  const fds = arena.allocate(16);
  arena.view.setInt32(fds, there.fd, true);
  arena.view.setInt16(fds + 4, POLLIN, true);
  arena.view.setInt32(fds + 8, back.fd, true);
  arena.view.setInt16(fds + 12, POLLIN, true);
  const carried = [
    { bytes: 0, inSuperPackets: 0 },
    { bytes: 0, inSuperPackets: 0 },
  ] as const;
  const drain = (from: Tun, to: Tun, count: Carried): void => {
    for (let n = 0; n < 64; n++) {
      const length = read(from.fd, buffer, BUFFER);
      if (length <= 0) return;
      write(to.fd, buffer, length);
      count.bytes += length - VNET_HEADER;
      if (length - VNET_HEADER > MTU) count.inSuperPackets += length - VNET_HEADER;
    }
  };
  while (!signal.aborted) {
    poll(arena.address + fds, 2, 2);
    drain(there, back, carried[0]);
    drain(back, there, carried[1]);
    await turn();
  }
  arena.unmap();
  return carried;
};

const inPod = (node: Fixture, ...command: string[]) =>
  spawn('nsenter', [`--net=/run/netns/${node.id}-a`, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });

test.each([
  ['v4', '10.60.2.2', []],
  ['v6', 'fd00:60::2:2', []],
  ['v4, the other way', '10.60.2.2', ['--reverse']],
])('a TCP stream between pods reaches the TUN as super-packets (%s)', async (_, address, more) => {
  const [near, far] = nodes;
  const stop = new AbortController();
  const carrying = carry(stop.signal);
  const server = inPod(far, 'iperf3', '--server', '--one-off', '--forceflush');
  try {
    await once(server.stdout, 'data');
    const client = inPod(near, 'iperf3', '--client', address, '--bytes', '64M', '--json', ...more);
    let report = '';
    client.stdout.on('data', (text) => {
      report += String(text);
    });
    const [status] = await once(client, 'close');
    expect(status, report).toBe(0);
  } finally {
    stop.abort();
    server.kill();
  }
  const [there, back] = await carrying;
  const stream = more.length === 0 ? there : back;
  console.log(`${(100 * stream.inSuperPackets) / stream.bytes} % of ${stream.bytes} B in super-packets`);
  expect(stream.bytes).toBeGreaterThan(32 << 20);
  expect(stream.inSuperPackets / stream.bytes).toBeGreaterThan(0.99);
  const rules = near.inside(near.router, 'nft', 'list', 'counters');
  expect(rules).not.toMatch(/packets [1-9]/);
});

test('a packet that comes out of the tunnel for another node is not sent back into it', () => {
  const [near] = nodes;
  const [tun] = tuns;
  if (tun === undefined) throw new Error('a TUN is needed');
  // From 10.60.3.3 to 10.60.2.2, put into node 1's TUN: an echo request of 28 bytes.
  const packet = Buffer.from(
    `${'00'.repeat(VNET_HEADER)}4500001c000000004001645b0a3c03030a3c0202${'0800f7ff00000000'}`,
    'hex',
  );
  const arena = new Arena(packet.length);
  arena.bytes.set(packet);
  // The header checksum, so that nothing else drops it.
  let sum = 0;
  arena.view.setUint16(VNET_HEADER + 10, 0);
  for (let at = 0; at < 20; at += 2) sum += arena.view.getUint16(VNET_HEADER + at);
  arena.view.setUint16(VNET_HEADER + 10, ~((sum & 0xffff) + (sum >> 16)));
  expect(write(tun.fd, arena.address, packet.length)).toBe(packet.length);
  arena.unmap();
  expect(near.inside(near.router, 'nft', 'list', 'counter', 'inet', 'vl3', 'hairpin')).toContain(
    'packets 1 ',
  );
});
