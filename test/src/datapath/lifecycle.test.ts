// Starting, ending, and what outlives what: the TUN its process, the port nobody, and no process its end.

import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { Datapath } from '../../../src/datapath/datapath.ts';
import { closeTun, inNamespace, openTun, removeTun } from '../../../src/datapath/tun.ts';
import { closeUdp, openUdp } from '../../../src/datapath/udp.ts';
import type { Host } from '../../lab/host.ts';
import { Lab } from '../../lab/lab.ts';
import { ping } from '../../lab/ping.ts';
import { DEVICE, End, join, keypairs, twoHosts } from './tunnel.ts';

const DYING = fileURLToPath(new URL('./dying.ts', import.meta.url));
const ignore = { onEvent: () => {}, onDatagram: () => {}, onDeviceLost: () => {}, onFailure: () => {} };

const lab = Lab.create();
let hostA: Host;
let hostB: Host;

beforeAll(async () => {
  [hostA, hostB] = await twoHosts(lab);
});
afterAll(async () => await lab.close());

const links = async (host: Host): Promise<{ ifname: string; addr_info: { local: string }[] }[]> =>
  JSON.parse(await host.run(['ip', '-json', 'address', 'show']));

describe('a process with a datapath ends', () => {
  test.each([
    ['dispose', 0],
    ['exit', 3],
    ['throw', 1],
  ])('by %s, whatever its threads wait for', async (way, code) => {
    const result = await hostA.tryRun([process.execPath, DYING, way], { timeoutMs: 50_000 });
    expect(result.code).toBe(code);
  });

  test('by SIGTERM and by SIGKILL, and leaves its TUN, which is taken up again with its addresses', async () => {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const daemon = hostA.start([process.execPath, DYING, 'never']);
      await daemon.printed(/running/);
      await hostA.ip('address replace 10.0.0.1/24 dev tun0', 'link set tun0 up');
      await daemon.stop(signal);
      const left = (await links(hostA)).find(({ ifname }) => ifname === 'tun0');
      expect(left?.addr_info.map(({ local }) => local)).toContain('10.0.0.1');
    }
    const tun = openTun({ name: 'tun0', netns: hostA.netns, allowOffloads: true });
    closeTun(tun);
    expect((await links(hostA)).some(({ ifname }) => ifname === 'tun0')).toBe(true);
    removeTun(openTun({ name: 'tun0', netns: hostA.netns, allowOffloads: false }));
    expect((await links(hostA)).some(({ ifname }) => ifname === 'tun0')).toBe(false);
  });
});

test('a TUN keeps more packets waiting than the kernel would, unless somebody has said how many', async () => {
  const queue = async (): Promise<string | undefined> =>
    /qlen (\d+)/.exec(await hostA.run(['ip', 'link', 'show', 'tun0']))?.[1];
  const open = () => openTun({ name: 'tun0', netns: hostA.netns, allowOffloads: true });
  closeTun(open());
  expect(await queue()).toBe('2000');
  await hostA.ip('link set tun0 txqueuelen 100');
  const again = open();
  expect(await queue()).toBe('100');
  removeTun(again);
});

describe('the port', () => {
  test('that is taken is refused with a sentence, in either family', async () => {
    const taken = inNamespace(hostA.netns, () => openUdp({ port: 0, allowOffloads: false }));
    const start = (): Promise<Datapath> =>
      inNamespace(hostA.netns, () => Datapath.start({ port: taken.port }, ignore));
    await expect(start()).rejects.toThrow(`UDP port ${taken.port} is taken`);
    closeUdp(taken);
    await (await start())[Symbol.asyncDispose]();
    await (await start())[Symbol.asyncDispose]();
  });

  test('0 means any, the same in both families', () => {
    const sockets = inNamespace(hostA.netns, () => openUdp({ port: 0, allowOffloads: true }));
    expect(sockets.port).toBeGreaterThan(0);
    expect(sockets.v6).toBeGreaterThan(0);
    closeUdp(sockets);
  });

  test('opens without IPv6 where there is none', async () => {
    const old = await lab.host('old');
    await old.set({ 'ipv6/conf/all/disable_ipv6': 1 });
    const sockets = inNamespace(old.netns, () => openUdp({ port: 0, allowOffloads: true }));
    expect(sockets.port).toBeGreaterThan(0);
    closeUdp(sockets);
  });

  test('is there within seconds of CPU time', async () => {
    // Not of wall time: other tests share this machine, and what they do to its caches is paid for here, too.
    const before = process.cpuUsage();
    await using datapath = await inNamespace(hostA.netns, () => Datapath.start({ port: 0 }, ignore));
    const { user, system } = process.cpuUsage(before);
    expect(datapath.port).toBeGreaterThan(0);
    expect(user + system).toBeLessThan(3_000_000);
  });
});

test('a peer that there is no room for is refused, the others go on, and it has room when one of them goes', async () => {
  await using a = await End.start(hostA, 'tun0', { maxPeers: 2 });
  expect(['b', 'c', 'd'].map((peer) => a.datapath.addPeer(DEVICE, peer))).toEqual([true, true, false]);
  expect(a.datapath.roomForPeers).toBe(0);
  a.allow({ b: ['10.0.0.2/32'], d: ['10.0.0.4/32'] });
  a.apply({ kind: 'set-endpoint', peer: 'd', endpoint: { address: '192.0.2.2', port: 9 } });
  expect(a.datapath.activity(DEVICE, 'b')).toBeDefined();
  expect(a.datapath.activity(DEVICE, 'd')).toBeUndefined();
  a.datapath.removePeer(DEVICE, 'c');
  expect(a.datapath.addPeer(DEVICE, 'd')).toBe(true);
});

test('all peers can be replaced again and again: places are free once the workers know that their peers have gone', async () => {
  await using a = await End.start(hostA, 'tun0', { maxPeers: 3 });
  for (let turn = 0; turn < 4; turn++) {
    const peers = ['b', 'c', 'd'].map((peer) => `${peer}${turn}`);
    expect(peers.map((peer) => a.datapath.addPeer(DEVICE, peer))).toEqual([true, true, true]);
    a.allow(Object.fromEntries(peers.map((peer, i) => [peer, [`10.0.0.${i + 2}/32`]])));
    for (const peer of peers) a.datapath.removePeer(DEVICE, peer);
    await a.datapath.settled();
  }
});

test('a datapath that is closed does nothing any more, and does not fall over', async () => {
  const a = await End.start(hostA, 'tun0');
  a.datapath.addPeer(DEVICE, 'b');
  await a.remove();
  await a.remove();
  await a.datapath[Symbol.asyncDispose]();
  const [keypair] = keypairs();
  expect(a.datapath.send(new Uint8Array(148), { address: '192.0.2.2', port: 1 })).toBe(false);
  a.apply(
    { kind: 'send', datagram: new Uint8Array(148), endpoint: { address: '192.0.2.2', port: 1 } },
    { kind: 'install-keypair', peer: 'b', keypair },
    { kind: 'use-keypair', peer: 'b', localIndex: keypair.localIndex },
    { kind: 'send-keepalive', peer: 'b' },
    { kind: 'remove-keypair', localIndex: keypair.localIndex },
  );
  expect(() => a.allow({})).toThrow(/closed/);
  expect(a.datapath.activity(DEVICE, 'b')).toMatchObject({ txBytes: 0 });
});

describe('a TUN', () => {
  const own = (): string => inNamespace(undefined, () => JSON.stringify(process.pid));

  test('in a namespace that does not exist is refused with a sentence, and this thread stays at home', () => {
    const before = own();
    const options = { name: 'tun0', netns: '/run/netns/vl3t-none', allowOffloads: true };
    expect(() => openTun(options)).toThrow(/there is no network namespace at/);
    expect(() => openTun({ ...options, netns: '/etc/hostname' })).toThrow(/cannot be entered/);
    expect(own()).toBe(before);
  });

  test('cannot take the name of another kind of interface', () => {
    expect(() => openTun({ name: 'eth0', netns: hostA.netns, allowOffloads: true })).toThrow(
      /not a TUN of ours/,
    );
  });

  test.each(['', 'sixteen-letters-', 'a b', 'a/b'])('cannot be named "%s"', (name) => {
    expect(() => openTun({ name, netns: hostA.netns, allowOffloads: true })).toThrow(
      /cannot name an interface/,
    );
  });

  test('that is deleted is reported, and the others go on', async () => {
    const doomed = await lab.host('doomed');
    await using a = await End.start(hostA, 'tun0');
    await using b = await End.start(hostB, 'tun0');
    const { pairs: queues } = a.datapath;
    const tun = openTun({ name: 'tun1', netns: doomed.netns, allowOffloads: true, queues });
    expect(() =>
      a.datapath.addDevice('green', { ...tun, further: [3, ...(tun.further ?? [])] }, 1420),
    ).toThrow(/queues, not one for each/);
    a.datapath.addDevice('green', tun, 1420);
    await doomed.ip('link set tun1 up');
    await a.datapath.settled();
    await doomed.ip('link delete tun1');
    for (let i = 0; i < 400 && a.lost.length === 0; i++) await sleep(5);
    expect(a.lost).toEqual(['green']);
    await a.datapath.removeDevice('green');
    closeTun(tun);

    join(a, b, '192.0.2.1', '192.0.2.2');
    a.allow({ b: ['10.0.0.2/32'] });
    b.allow({ a: ['10.0.0.1/32'] });
    await a.up(['10.0.0.1/24'], []);
    await b.up(['10.0.0.2/24'], []);
    await a.datapath.settled();
    await b.datapath.settled();
    expect(await ping(hostA, '10.0.0.2', { count: 3, interval: 0.01 })).toMatchObject({ received: 3 });
  });
});

describe('two networks on one port', () => {
  test('may use the same addresses and see nothing of each other; one can leave', async () => {
    await using a = await End.start(hostA, 'tun0');
    await using b = await End.start(hostB, 'tun0');
    const ends = [];
    const greens = [];
    for (const [end, host, own, other] of [
      [a, hostA, '10.0.0.1', '10.0.0.2'],
      [b, hostB, '10.0.0.2', '10.0.0.1'],
    ] as const) {
      const green = await lab.host(`green-${host.name}`);
      const { pairs: queues } = end.datapath;
      const tun = openTun({ name: 'tun0', netns: green.netns, allowOffloads: true, queues });
      end.datapath.addDevice('green', tun, 1420);
      end.datapath.addPeer('green', 'peer');
      end.datapath.setAllowedIps('green', [{ prefix: parsePrefix(`${other}/32`), peer: 'peer' }]);
      await green.ip(`address add ${own}/24 dev tun0`, 'link set tun0 up');
      ends.push({ end, tun });
      greens.push(green);
    }
    const [greenA = hostA, greenB = hostB] = greens;
    join(a, b, '192.0.2.1', '192.0.2.2');
    a.allow({ b: ['10.0.0.2/32'] });
    b.allow({ a: ['10.0.0.1/32'] });
    await a.up(['10.0.0.1/24'], []);
    await b.up(['10.0.0.2/24'], []);
    await a.datapath.settled();
    await b.datapath.settled();

    // Red has a session, green has none yet: the same addresses answer on red alone.
    expect(await ping(hostA, '10.0.0.2')).toMatchObject({ received: 1 });
    expect(await ping(greenA, '10.0.0.2', { wait: 0.2 })).toMatchObject({ received: 0 });

    const [ofA, ofB] = keypairs();
    for (const [end, keypair, address, port] of [
      [a, ofA, '192.0.2.2', b.datapath.port],
      [b, ofB, '192.0.2.1', a.datapath.port],
    ] as const) {
      end.datapath.apply('green', [
        { kind: 'set-endpoint', peer: 'peer', endpoint: { address, port } },
        { kind: 'install-keypair', peer: 'peer', keypair },
        { kind: 'use-keypair', peer: 'peer', localIndex: keypair.localIndex },
      ]);
    }
    expect(await ping(greenA, '10.0.0.2', { count: 3, interval: 0.01 })).toMatchObject({ received: 3 });
    expect(await ping(greenB, '10.0.0.1', { count: 3, interval: 0.01 })).toMatchObject({ received: 3 });

    await a.datapath.removeDevice(DEVICE);
    expect(await ping(hostA, '10.0.0.2', { wait: 0.2 })).toMatchObject({ received: 0 });
    expect(await ping(greenA, '10.0.0.2', { count: 3, interval: 0.01 })).toMatchObject({ received: 3 });
    for (const { tun } of ends) removeTun(tun);
  });
});
