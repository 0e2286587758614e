// The lab itself: its clouds behave as real ones do, and whatever happens to a run, nothing of it stays.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Capture } from './capture.ts';
import type { Host } from './host.ts';
import { type Cloud, Internet, type Site } from './internet.ts';
import { iperf3 } from './iperf3.ts';
import { Lab } from './lab.ts';
import { MARK, removeKept } from './ledger.ts';
import { ping } from './ping.ts';
import { processesMarked } from './processes.ts';
import { WireguardGo, wireguardKeys } from './wireguard-go.ts';

const UNDERLAY = '10.0.0';

describe('an internet of three clouds', () => {
  let lab: Lab;
  let internet: Internet;
  let open: Site;
  let translated: Site;
  let hidden: Site;
  let hiddenCloud: Cloud;

  beforeAll(async () => {
    lab = Lab.create();
    internet = await Internet.create(lab);
    open = await (await internet.publicCloud('198.51.100', '2001:db8:1::')).node('open', 10);
    translated = await (await internet.staticNatCloud('translated', '203.0.113', UNDERLAY)).node(
      'translated',
      10,
    );
    hiddenCloud = await internet.natCloud('hidden', '192.0.2', UNDERLAY);
    hidden = await hiddenCloud.node('hidden', 10);
  });
  afterAll(async () => await lab.close());

  test('a node behind one-to-one NAT reaches a public one and is reached at its public address', async () => {
    expect(await reaches(translated, open.address)).toBe(true);
    expect(await reaches(open, translated.publicAddress ?? '')).toBe(true);
  });

  test('a node behind port-restricted NAT reaches public ones and is not reached', async () => {
    expect(await reaches(hidden, open.address)).toBe(true);
    expect(await reaches(hidden, translated.publicAddress ?? '')).toBe(true);
    expect(await isCutOff(open, '192.0.2.2')).toBe(true);
    expect(await udpArrives(open, hidden, '192.0.2.2', BRIEFLY_MS)).toBe(false);
    expect(await udpArrives(hidden, open, open.address)).toBe(true);
  });

  test('identical underlay ranges do not see each other', async () => {
    expect(hidden.address).toBe(translated.address);
    const neighbour = await hiddenCloud.node('neighbour', 20);
    expect(await reaches(hidden, neighbour.address)).toBe(true);
    expect(await isCutOff(translated, neighbour.address)).toBe(true);
    expect(await isCutOff(open, neighbour.address)).toBe(true);
  });

  test('a capture on the internet sees what crosses it, and iperf3 measures it', async () => {
    const capture = await Capture.start(internet.core, 'any', ['udp', 'port', '7777']);
    await sendDatagram(open.host, translated.publicAddress ?? '', 7777, 'seen-by-all');
    await sleep(100);
    const packets = await capture.stop();
    expect(capture.count('seen-by-all')).toBeGreaterThan(0);
    expect(capture.count('never-sent')).toBe(0);
    expect(packets.every((p) => p.protocol === 17 && p.destination === 7777)).toBe(true);
    expect(packets.some((p) => Buffer.from(p.payload).toString() === 'seen-by-all')).toBe(true);
    const result = await iperf3(hidden.host, open.host, open.address, { seconds: 1 });
    expect(result.bitsPerSecond).toBeGreaterThan(1e6);
  });

  test("Debian's wireguard-go connects two hosts, also from behind the NAT, v4 and v6", async () => {
    const [a, b] = [wireguardKeys(), wireguardKeys()];
    await WireguardGo.start(lab, open.host, {
      keys: a,
      listenPort: 51999,
      addresses: ['10.99.0.1/32', 'fd99::1/128'],
      peers: [{ publicKey: b.publicKey, allowedIps: ['10.99.0.2/32', 'fd99::2/128'] }],
    });
    const other = await WireguardGo.start(lab, hidden.host, {
      keys: b,
      addresses: ['10.99.0.2/32', 'fd99::2/128'],
      peers: [
        {
          publicKey: a.publicKey,
          endpoint: `${open.address}:51999`,
          allowedIps: ['10.99.0.1/32', 'fd99::1/128'],
        },
      ],
    });
    expect((await ping(hidden.host, '10.99.0.1', { count: 2, wait: 5 })).received).toBe(2);
    expect((await ping(hidden.host, 'fd99::1', { count: 2, wait: 5 })).received).toBe(2);
    const peer = (await other.dump())[1] ?? [];
    expect(peer[0]).toBe(a.publicKey);
    expect(Number(peer[4])).toBeGreaterThan(0);
  });
});

describe('what a run leaves behind', () => {
  test('closing it leaves no namespace, process, file or directory', async () => {
    await using lab = Lab.create();
    const host = await lab.host('one');
    const daemon = host.start(['sleep', '1000']);
    await host.run(['ip', 'netns', 'add', `${lab.owns(`${lab.name}-by-agent-`)}red`]);
    expect(traces(lab.name)).toContain(`netns ${lab.name}-one`);
    expect(traces(lab.name)).toContain(`netns ${lab.name}-by-agent-red`);
    expect(traces(lab.name)).toContain(`process ${daemon.pid}`);
    await lab.close();
    expect(traces(lab.name)).toEqual([]);
  });

  test('a program that ignores SIGTERM, and what it started, end too', async () => {
    await using lab = Lab.create();
    const host = await lab.host('one');
    const daemon = host.start([
      'bash',
      '-c',
      'trap "" TERM; (setsid sleep 1001 &); echo ready; exec sleep 1002',
    ]);
    await daemon.printed(/ready/);
    await expect.poll(() => processesMarked(`${MARK}=${lab.name}`).length).toBe(2);
    expect(daemon.running).toBe(true);
    await lab.close();
    expect(traces(lab.name)).toEqual([]);
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`a run ended by ${signal} leaves nothing`, async () => {
      const run = await startRun();
      process.kill(run.pid, signal);
      expect(await run.ended).toBe(signal);
      expect(traces(run.lab)).toEqual([]);
    });
  }

  test('what a killed run left is removed by the next one, which leaves running and kept ones alone', async () => {
    const [killed, running, kept] = await Promise.all([
      startRun(),
      startRun(),
      startRun('lab.keep(); process.exit()'),
    ]);
    await kept.ended;
    process.kill(killed.pid, 'SIGKILL');
    await killed.ended;
    expect(traces(killed.lab).length).toBeGreaterThanOrEqual(2);
    const [before, keptBefore] = [traces(running.lab), traces(kept.lab)];

    await Lab.create().close();
    expect(traces(killed.lab)).toEqual([]);
    expect(traces(running.lab)).toEqual(before);
    expect(traces(kept.lab)).toEqual(keptBefore);
    expect(before.length).toBeGreaterThanOrEqual(2);

    process.kill(running.pid, 'SIGTERM');
    await running.ended;
    expect(removeKept(kept.lab)).toEqual([kept.lab]);
    expect([...traces(running.lab), ...traces(kept.lab)]).toEqual([]);
  });
});

/** A run in a process of its own, with a host and a program in it; then it does what `then` says. */
async function startRun(then = ''): Promise<{ pid: number; lab: string; ended: Promise<unknown> }> {
  const source = `
    import { Lab } from ${JSON.stringify(import.meta.resolve('./lab.ts'))};
    const lab = Lab.create();
    const host = await lab.host('one');
    host.start(['sleep', '1000']);
    console.log(lab.name);
    setInterval(() => {}, 1000);
    ${then}`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit').then(([code, signal]) => signal ?? code);
  const [line] = await once(child.stdout, 'data');
  return { pid: child.pid ?? 0, lab: String(line).trim(), ended };
}

function traces(lab: string): string[] {
  const namespaces = readdirSync('/run/netns').filter((name) => name.startsWith(lab));
  const processes = processesMarked(`${MARK}=${lab}`);
  const directory = existsSync(`/run/vl3-lab/${lab}`) ? ['directory'] : [];
  return [...namespaces.map((n) => `netns ${n}`), ...processes.map((p) => `process ${p}`), ...directory];
}

/** Sooner or later: a busy machine takes its time. */
async function reaches(from: Site, address: string): Promise<boolean> {
  return (await ping(from.host, address, { patience: 20 })).received === 1;
}

async function isCutOff(from: Site, address: string): Promise<boolean> {
  return (await ping(from.host, address, { wait: 1 })).received === 0;
}

/** For what is not to come at all. */
const BRIEFLY_MS = 500;

/** Whether a datagram from one to the other at `address` arrives. */
async function udpArrives(from: Site, to: Site, address: string, patienceMs = 20_000): Promise<boolean> {
  const receiver = `require('dgram').createSocket('udp4').on('message', (m) => console.log('got ' + m)).bind(7000, () => console.log('bound'))`;
  const daemon = to.host.start([process.execPath, '-e', receiver]);
  try {
    await daemon.printed(/bound/);
    await sendDatagram(from.host, address, 7000, 'hello');
    return await daemon.printed(/got hello/, patienceMs).then(
      () => true,
      () => false,
    );
  } finally {
    await daemon.stop();
  }
}

async function sendDatagram(from: Host, address: string, port: number, text: string): Promise<void> {
  await from.run(['bash', '-c', `printf ${text} >/dev/udp/${address}/${port}`]);
}
