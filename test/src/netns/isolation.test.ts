import { type ChildProcess, spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureRouter, readRouter } from '../../../src/netns/router.ts';
import type { DropCounts } from '../../../src/netns/rules.ts';
import { ensureAttachment, removeAttachment } from '../../../src/netns/veth.ts';
import { Fixture, MTU, TUN } from './fixture.ts';

const fixture = new Fixture();
let a: string;
let b: string;

beforeAll(async () => {
  await fixture.makeRouter();
  a = fixture.makePod('a');
  b = fixture.makePod('b');
  await Promise.all([
    ensureAttachment(fixture.tools, fixture.attachment(a, 2)),
    ensureAttachment(fixture.tools, fixture.attachment(b, 3)),
  ]);
});

afterAll(() => fixture[Symbol.dispose]());

const dropped = async (): Promise<DropCounts> => {
  const state = await readRouter(fixture.tools, fixture.router);
  if (state?.rules === undefined) throw new Error('the router has no rules');
  return state.rules.dropped;
};

/** A listener on all addresses of the router namespace; says "ready" first. */
const listen = (protocol: 'tcp' | 'udp'): Promise<ChildProcess> => {
  const program =
    protocol === 'tcp'
      ? `require('net').createServer((s) => s.end('reached')).listen(7000, '::', () => console.log('ready'))`
      : `const s = require('dgram').createSocket('udp6'); s.on('message', (m, r) => s.send('reached', r.port, r.address)); s.bind(7000, () => console.log('ready'))`;
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', [`--net=/run/netns/${fixture.router}`, process.execPath, '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child.once('error', reject);
    child.stdout.once('data', () => resolve(child));
  });
};

/** What a client hears. The UDP question is long enough to be fragmented. */
const ask = (namespace: string, protocol: 'tcp' | 'udp', address: string): string =>
  fixture.inside(
    namespace,
    process.execPath,
    '-e',
    protocol === 'tcp'
      ? `const s = require('net').connect(7000, '${address}'); s.on('data', (d) => console.log(String(d))); s.on('error', (e) => console.log(e.code)); setTimeout(() => { console.log('silence'); process.exit() }, 400).unref(); s.setTimeout(300, () => { console.log('silence'); s.destroy() })`
      : `const s = require('dgram').createSocket('${address.includes(':') ? 'udp6' : 'udp4'}'); s.on('message', (m) => { console.log(String(m)); s.close() }); s.send('hello '.repeat(500), 7000, '${address}'); setTimeout(() => { console.log('silence'); process.exit() }, 600).unref(); s.on('message', () => process.exit())`,
  );

describe('two pods on one router', () => {
  test('ping each other through the kernel, v4 and v6, tiny and fragmented', () => {
    for (const address of ['10.60.1.3', 'fd00:60::1:3']) {
      expect(fixture.pings(a, address, '-s', '0')).toBe(true);
      expect(fixture.pings(a, address, '-s', '8000')).toBe(true);
      expect(fixture.pings(b, address === '10.60.1.3' ? '10.60.1.2' : 'fd00:60::1:2')).toBe(true);
    }
  });

  test('ping the gateway, v4 and v6, also fragmented', () => {
    for (const address of ['10.60.1.1', 'fd00:60::1:1']) {
      expect(fixture.pings(a, address)).toBe(true);
      expect(fixture.pings(a, address, '-s', '8000')).toBe(true);
    }
    expect(fixture.pings(a, 'fe80::1%red')).toBe(true);
  });

  test('have nothing counted as spoofed by their ordinary traffic', async () => {
    const { spoofed, spoofedArp, forward } = await dropped();
    expect({ spoofed, spoofedArp, forward }).toEqual({ spoofed: 0, spoofedArp: 0, forward: 0 });
  });

  test('still reach the gateway and each other when they forget their neighbours', () => {
    fixture.inside(a, 'ip', 'link', 'set', 'dev', 'red', 'down');
    fixture.inside(a, 'ip', 'link', 'set', 'dev', 'red', 'up');
    const [, link = ''] =
      /inet6 (fe80::[^ ]+)/.exec(fixture.inside(b, 'ip', 'address', 'show', 'dev', 'red')) ?? [];
    expect(link).not.toBe('');
    fixture.inside(b, 'ip', 'neighbour', 'delete', '10.60.1.1', 'dev', 'red');
    fixture.inside(b, 'ip', 'neighbour', 'delete', 'fe80::1', 'dev', 'red');
    expect(fixture.pings(b, '10.60.1.1')).toBe(true);
    expect(fixture.pings(b, 'fd00:60::1:1')).toBe(true);
  });

  test('are healed by another ensureAttachment', async () => {
    await ensureAttachment(fixture.tools, fixture.attachment(a, 2));
    await ensureAttachment(fixture.tools, fixture.attachment(b, 3));
    expect(fixture.pings(a, '10.60.1.3')).toBe(true);
    expect(fixture.pings(a, 'fd00:60::1:3')).toBe(true);
    const { spoofed, spoofedArp } = await dropped();
    expect({ spoofed, spoofedArp }).toEqual({ spoofed: 0, spoofedArp: 0 });
  });
});

describe('spoofing', () => {
  test.each([
    ['another address of the pool, v4', '10.60.1.77', 32, '10.60.1.3'],
    ["another pod's address, v4", '10.60.1.3', 32, '10.60.1.1'],
    ['another address of the pool, v6', 'fd00:60::1:77', 128, 'fd00:60::1:3'],
    ['an address of no network, v6', '2001:db8::1', 128, 'fd00:60::1:3'],
  ])('a packet with %s as source is dropped and counted', async (_, source, length, target) => {
    const before = (await dropped()).spoofed;
    const nodad = source.includes(':') ? ['nodad'] : [];
    fixture.inside(a, 'ip', 'address', 'add', `${source}/${length}`, 'dev', 'red', ...nodad);
    if (source === '10.60.1.3') fixture.inside(a, 'ip', 'route', 'replace', '10.60.1.1', 'dev', 'red');
    try {
      expect(fixture.pings(a, target, '-I', source)).toBe(false);
      expect((await dropped()).spoofed).toBeGreaterThan(before);
    } finally {
      fixture.inside(a, 'ip', 'address', 'delete', `${source}/${length}`, 'dev', 'red');
      await ensureAttachment(fixture.tools, fixture.attachment(a, 2));
    }
    expect(fixture.pings(a, target)).toBe(true);
  });

  test('an ARP request that claims another address is dropped and counted', async () => {
    const before = (await dropped()).spoofedArp;
    fixture.inside(a, 'ip', 'address', 'add', '10.60.1.3/32', 'dev', 'red');
    try {
      fixture.inside(a, 'ip', 'neighbour', 'delete', '10.60.1.1', 'dev', 'red');
      fixture.succeeds(a, 'ping', '-c', '1', '-W', '1', '-I', '10.60.1.3', '10.60.1.1');
      expect((await dropped()).spoofedArp).toBeGreaterThan(before);
    } finally {
      fixture.inside(a, 'ip', 'address', 'delete', '10.60.1.3/32', 'dev', 'red');
      await ensureAttachment(fixture.tools, fixture.attachment(a, 2));
    }
  });

  test("a detached pod's address admits nobody any more", async () => {
    const c = fixture.makePod('c');
    await ensureAttachment(fixture.tools, fixture.attachment(c, 4));
    await removeAttachment(fixture.tools, fixture.attachment(c, 4));
    const rules = fixture.inside(fixture.router, 'nft', 'list', 'ruleset');
    expect(rules).not.toContain('10.60.1.4');
    expect(rules).not.toContain('fd00:60::1:4');
  });
});

describe('the router namespace', () => {
  test.each(['tcp', 'udp'] as const)('has no %s listener that a pod can reach', async (protocol) => {
    const listener = await listen(protocol);
    try {
      // The listener is there: from inside the namespace it answers.
      expect(ask(fixture.router, protocol, '10.60.1.1')).toContain('reached');
      expect(ask(fixture.router, protocol, 'fd00:60::1:1')).toContain('reached');
      const before = (await dropped()).input;
      expect(ask(a, protocol, '10.60.1.1')).toContain('silence');
      expect(ask(a, protocol, 'fd00:60::1:1')).toContain('silence');
      expect(ask(a, protocol, 'fe80::1%red')).toContain('silence');
      expect((await dropped()).input).toBeGreaterThanOrEqual(before + 3);
    } finally {
      listener.kill();
    }
  });

  test('keeps what is put into the chain "services" when it is set up again', async () => {
    fixture.inside(
      fixture.router,
      'nft',
      'add',
      'rule',
      'inet',
      'vl3',
      'services',
      'udp',
      'dport',
      '53',
      'accept',
    );
    await ensureRouter(fixture.tools, fixture.routerSpec);
    expect(fixture.inside(fixture.router, 'nft', 'list', 'chain', 'inet', 'vl3', 'services')).toContain(
      'udp dport 53',
    );
    fixture.inside(fixture.router, 'nft', 'flush', 'chain', 'inet', 'vl3', 'services');
  });

  test('answers for an address that no pod has with "unreachable", and does not loop', () => {
    const output = (() => {
      try {
        return fixture.inside(a, 'ping', '-n', '-c', '1', '-W', '1', '10.60.1.200');
      } catch (error) {
        return String((error as { stdout?: string }).stdout);
      }
    })();
    expect(output).toContain('From 10.60.1.1');
    expect(output).toContain('Unreachable');
  });

  test('has no connection tracking', () => {
    const path = '/proc/sys/net/netfilter/nf_conntrack_count';
    const count = fixture.inside(fixture.router, 'sh', '-c', `cat ${path} 2>/dev/null || echo 0`);
    expect(count.trim()).toBe('0');
  });

  test('has no address of the host and no way to it', () => {
    expect(fixture.inside(fixture.router, 'ip', 'route', 'show', 'default')).toBe('');
    const names = fixture.inside(fixture.router, 'ip', '-brief', 'link').split('\n').filter(Boolean);
    expect(names.every((line) => /^(lo|vl3|v[0-9a-f]{14}@)/.test(line))).toBe(true);
  });

  test('cuts the MSS of a connection to the MTU of the tunnel', async () => {
    // A pod that believes in a larger MTU than it has: its SYN says 1460 and arrives as MTU - 40.
    fixture.inside(
      a,
      'ip',
      'route',
      'replace',
      '10.60.1.3',
      'via',
      '10.60.1.1',
      'dev',
      'red',
      'onlink',
      'advmss',
      '1460',
    );
    const seen = spawn(
      'nsenter',
      [
        `--net=/run/netns/${b}`,
        'tcpdump',
        '-n',
        '-l',
        '-i',
        'red',
        '-c',
        '1',
        'tcp[tcpflags] & tcp-syn != 0',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    try {
      await new Promise<void>((resolve) =>
        seen.stderr.on('data', (text) => String(text).includes('listening') && resolve()),
      );
      let output = '';
      seen.stdout.on('data', (text) => {
        output += String(text);
      });
      const closed = new Promise((resolve) => seen.once('close', resolve));
      ask(a, 'tcp', '10.60.1.3');
      await closed;
      expect(output).toContain(`mss ${MTU - 40}`);
    } finally {
      seen.kill();
      fixture.inside(a, 'ip', 'route', 'delete', '10.60.1.3', 'dev', 'red');
    }
  });

  test('knows its TUN by name only: nothing is forwarded out of the tunnel and back, but for stock peers of its own', () => {
    const chain = (name: string) =>
      fixture.inside(fixture.router, 'nft', 'list', 'chain', 'inet', 'vl3', name);
    expect(chain('forward')).toContain(`iifname "${TUN}" oifname "${TUN}" jump between`);
    expect(chain('forward')).toContain('policy drop');
    expect(chain('between').trimEnd()).toMatch(/counter name "hairpin" drop\n\t\}\n\}$/);
    const set = fixture.inside(fixture.router, 'nft', 'list', 'set', 'inet', 'vl3', 'stock4');
    expect(set).not.toContain('elements');
  });
});
