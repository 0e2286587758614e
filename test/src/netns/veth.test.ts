import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { formatPrefix, parseAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { Gate } from '../../../src/netns/gate.ts';
import { netnsIdentity } from '../../../src/netns/namespace.ts';
import { readPodRoutes } from '../../../src/netns/pod-routes.ts';
import { readRouter, removeRouter } from '../../../src/netns/router.ts';
import { ensureAttachment, removeAttachment } from '../../../src/netns/veth.ts';
import { isLong } from '../../lab/long.ts';
import { BreakingRunner, RecordingRunner } from './failing-runner.ts';
import { Fixture, TUN } from './fixture.ts';

/** Of four pods, each time: some for what is left over, many for what is used up. */
const ROUNDS = isLong ? 50 : 10;

let fixture: Fixture;

beforeEach(async () => {
  fixture = new Fixture();
  await fixture.makeRouter();
});

afterEach(() => fixture[Symbol.dispose]());

const pingsGateway = (pod: string): boolean =>
  fixture.pings(pod, '10.60.1.1') && fixture.pings(pod, 'fd00:60::1:1');

const percentile = (sorted: readonly number[], share: number): string =>
  (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(0);

describe('run twice', () => {
  test('a second attach changes nothing, and says that it was there', async () => {
    const pod = fixture.makePod('a');
    const first = await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
    const before = fixture.dump(pod) + fixture.dump(fixture.router);
    const recorder = new RecordingRunner(fixture.tools);
    const second = await ensureAttachment(recorder, fixture.attachment(pod, 2));
    expect(first.created).toBe(true);
    expect(second).toEqual({ ...first, created: false });
    expect(fixture.dump(pod) + fixture.dump(fixture.router)).toBe(before);
    // Settings twice and rules once, each a no-op; no link, address or route is touched.
    expect(recorder.lines).toEqual([1, 1, 1]);
  });

  test('a second detach is fine', async () => {
    const pod = fixture.makePod('a');
    const before = [fixture.shape(pod), fixture.shape(fixture.router)];
    await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
    await removeAttachment(fixture.tools, fixture.attachment(pod, 2));
    await removeAttachment(fixture.tools, fixture.attachment(pod, 2));
    expect([fixture.shape(pod), fixture.shape(fixture.router)]).toEqual(before);
  });

  test('a changed MTU and a changed address are brought about on the running interface', async () => {
    const pod = fixture.makePod('a');
    await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
    await ensureAttachment(fixture.tools, { ...fixture.attachment(pod, 7), mtu: 1300 });
    expect(fixture.inside(pod, 'ip', 'link', 'show', 'dev', 'red')).toContain('mtu 1300');
    const addresses = fixture.inside(pod, 'ip', 'address', 'show', 'dev', 'red');
    expect(addresses).toContain('10.60.1.7/32');
    expect(addresses).not.toContain('10.60.1.2/');
    expect(pingsGateway(pod)).toBe(true);
  });
});

test('what a pod has learned of a small path over IPv6 outlives that the kernel tidies up', async () => {
  const pod = fixture.makePod('a');
  await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
  // As an agent before this one had left it, and as it is to be healed.
  const [gateway] = fixture
    .inside(pod, 'ip', 'neighbour', 'show', 'fe80::1', 'nud', 'permanent')
    .split(/ router| PERMANENT/);
  fixture.inside(pod, 'ip', 'neighbour', 'replace', ...(gateway ?? '').split(' '), 'nud', 'permanent');
  await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));

  fixture.inside(fixture.router, 'ip', 'link', 'set', 'dev', TUN, 'mtu', '1280', 'up');
  const far = 'fd00:60::2:9';
  const path = (): string => fixture.inside(pod, 'ip', '-6', 'route', 'get', far);
  fixture.pings(pod, far, '-s', '1300', '-M', 'do');
  expect(path()).toContain('mtu 1280');
  // What happens every net.ipv6.route.gc_interval anyway.
  fixture.inside(pod, 'sysctl', '-qw', 'net.ipv6.route.flush=1');
  expect(path()).toContain('mtu 1280');
});

describe('broken off', () => {
  test('after a crash at any step, the next attach heals everything', async () => {
    const pod = fixture.makePod('a');
    const spec = fixture.attachment(pod, 2);
    const recorder = new RecordingRunner(fixture.tools);
    await ensureAttachment(recorder, spec);
    const whole = [fixture.shape(pod), fixture.shape(fixture.router)];
    expect(recorder.points.length).toBeGreaterThan(15);
    for (const point of recorder.points) {
      await removeAttachment(fixture.tools, spec);
      const crashing = new BreakingRunner(fixture.tools, point, 'crash');
      await expect(ensureAttachment(crashing, spec)).rejects.toThrow();
      expect(crashing.broken).toBe(true);
      await ensureAttachment(fixture.tools, spec);
      expect([fixture.shape(pod), fixture.shape(fixture.router)], JSON.stringify(point)).toEqual(whole);
      expect(pingsGateway(pod), JSON.stringify(point)).toBe(true);
    }
  });

  test('a failure at any step leaves nothing behind', async () => {
    const pod = fixture.makePod('a');
    const spec = fixture.attachment(pod, 2);
    const before = [fixture.shape(pod), fixture.shape(fixture.router)];
    const recorder = new RecordingRunner(fixture.tools);
    await ensureAttachment(recorder, spec);
    await removeAttachment(fixture.tools, spec);
    for (const point of recorder.points) {
      await expect(
        ensureAttachment(new BreakingRunner(fixture.tools, point, 'failure'), spec),
      ).rejects.toThrow('broken off');
      expect([fixture.shape(pod), fixture.shape(fixture.router)], JSON.stringify(point)).toEqual(before);
    }
  });

  test('an attach that is given up leaves nothing behind', async () => {
    const pod = fixture.makePod('a');
    const before = [fixture.shape(pod), fixture.shape(fixture.router)];
    for (let step = 0; step < 4; step++) {
      const controller = new AbortController();
      let calls = 0;
      const aborting = {
        run: (...[call, signal]: Parameters<typeof fixture.tools.run>): Promise<string> => {
          if (calls++ === step) controller.abort();
          return fixture.tools.run(call, signal);
        },
      };
      await expect(
        ensureAttachment(aborting, fixture.attachment(pod, 2), controller.signal),
      ).rejects.toMatchObject({ code: 'aborted' });
      expect([fixture.shape(pod), fixture.shape(fixture.router)]).toEqual(before);
    }
  });

  test('a half-made attachment can be detached', async () => {
    const pod = fixture.makePod('a');
    const before = [fixture.shape(pod), fixture.shape(fixture.router)];
    const crashing = new BreakingRunner(fixture.tools, { call: 0, lines: 1 }, 'crash');
    await expect(ensureAttachment(crashing, fixture.attachment(pod, 2))).rejects.toThrow();
    await removeAttachment(fixture.tools, fixture.attachment(pod, 2));
    expect([fixture.shape(pod), fixture.shape(fixture.router)]).toEqual(before);
  });

  test('an attachment whose interface moved to another pod is made anew in the right one', async () => {
    const [a, b] = [fixture.makePod('a'), fixture.makePod('b')];
    await ensureAttachment(fixture.tools, { ...fixture.attachment(a, 2), attachmentId: 'same' });
    await ensureAttachment(fixture.tools, { ...fixture.attachment(b, 2), attachmentId: 'same' });
    expect(fixture.succeeds(a, 'ip', 'link', 'show', 'dev', 'red')).toBe(false);
    expect(pingsGateway(b)).toBe(true);
  });
});

describe('refused with a sentence', () => {
  test("a network interface that is somebody else's", async () => {
    const pod = fixture.makePod('a');
    fixture.inside(pod, 'ip', 'link', 'add', 'name', 'red', 'type', 'veth', 'peer', 'name', 'other');
    const before = [fixture.shape(pod), fixture.shape(fixture.router)];
    await expect(ensureAttachment(fixture.tools, fixture.attachment(pod, 2))).rejects.toMatchObject({
      code: 'already-exists',
      message: expect.stringMatching(/already has an interface "red".*--interface/),
    });
    expect([fixture.shape(pod), fixture.shape(fixture.router)]).toEqual(before);
  });

  test("a name that is another interface's alternative name", async () => {
    const pod = fixture.makePod('a');
    fixture.inside(pod, 'ip', 'link', 'add', 'name', 'one', 'type', 'veth', 'peer', 'name', 'other');
    fixture.inside(pod, 'ip', 'link', 'property', 'add', 'dev', 'one', 'altname', 'red');
    await expect(ensureAttachment(fixture.tools, fixture.attachment(pod, 2))).rejects.toMatchObject({
      code: 'already-exists',
    });
  });

  test('the interface of another attachment of vl3', async () => {
    const pod = fixture.makePod('a');
    await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
    const other = { ...fixture.attachment(pod, 3), attachmentId: 'another' };
    await expect(ensureAttachment(fixture.tools, other)).rejects.toMatchObject({ code: 'already-exists' });
    expect(pingsGateway(pod)).toBe(true);
  });

  test.each(['lo', 'eth0', 'all', '', 'a b', 'a/b', '../x', '-red', 'sixteen-letters-', 'x;reboot', 'red\n'])(
    'the interface name %j',
    async (podInterface) => {
      const pod = fixture.makePod('a');
      await expect(
        ensureAttachment(fixture.tools, { ...fixture.attachment(pod, 2), podInterface }),
      ).rejects.toMatchObject({ code: 'invalid-argument' });
    },
  );

  test('the namespace of the host, by any path', async () => {
    const pod = fixture.makePod('a');
    for (const podNetns of ['/proc/self/ns/net', `/proc/${process.pid}/ns/net`]) {
      await expect(
        ensureAttachment(fixture.tools, { ...fixture.attachment(pod, 2), podNetns }),
      ).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringContaining("host's own") });
    }
  });

  test('another namespace that came to be at the path since', async () => {
    const pod = fixture.makePod('a');
    const spec = fixture.attachment(pod, 2);
    const { dev, ino } = await netnsIdentity(fixture.tools, spec.podNetns);
    const before = fixture.shape(fixture.router);
    await expect(
      ensureAttachment(fixture.tools, { ...spec, podNetnsId: `${dev}:${ino + 1n}` }),
    ).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringMatching(/^another network namespace/),
    });
    expect(fixture.shape(fixture.router)).toEqual(before);
    await ensureAttachment(fixture.tools, { ...spec, podNetnsId: `${dev}:${ino}` });
    expect(pingsGateway(pod)).toBe(true);
  });

  test('a router namespace', async () => {
    const spec = { ...fixture.attachment('x', 2), podNetns: `/run/netns/${fixture.router}` };
    await expect(ensureAttachment(fixture.tools, spec)).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  test('a network whose router is not there', async () => {
    const pod = fixture.makePod('a');
    const spec = { ...fixture.attachment(pod, 2), router: `${fixture.id}-none` };
    await expect(ensureAttachment(fixture.tools, spec)).rejects.toMatchObject({
      code: 'failed-precondition',
    });
  });
});

describe('overlaps', () => {
  const refused = (text: RegExp) => ({ code: 'failed-precondition', message: expect.stringMatching(text) });

  const podWithUplink = (): string => {
    const pod = fixture.makePod('a');
    fixture.inside(pod, 'ip', 'link', 'add', 'name', 'up0', 'type', 'veth', 'peer', 'name', 'up1');
    // No link-local address, which would change by itself a second later.
    for (const name of ['up0', 'up1'])
      fixture.inside(pod, 'ip', 'link', 'set', 'dev', name, 'addrgenmode', 'none', 'up');
    fixture.inside(pod, 'ip', 'address', 'add', '192.168.7.2/24', 'dev', 'up0');
    fixture.inside(pod, 'ip', 'route', 'add', 'default', 'via', '192.168.7.1');
    return pod;
  };

  test('a default route is no overlap, and stays untouched through attach and detach', async () => {
    const pod = podWithUplink();
    const before = fixture.inside(pod, 'ip', 'route', 'show', 'default');
    expect(before).toContain('192.168.7.1');
    await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
    expect(fixture.inside(pod, 'ip', 'route', 'show', 'default')).toBe(before);
    await removeAttachment(fixture.tools, fixture.attachment(pod, 2));
    expect(fixture.inside(pod, 'ip', 'route', 'show', 'default')).toBe(before);
  });

  test.each([
    [
      'a wider route',
      ['ip', 'route', 'add', '10.0.0.0/8', 'dev', 'up0'],
      /overlaps the route 10\.0\.0\.0\/8 on interface up0/,
    ],
    [
      'a narrower route',
      ['ip', 'route', 'add', '10.60.9.0/24', 'dev', 'up0'],
      /overlaps the route 10\.60\.9\.0\/24/,
    ],
    [
      'a route of another table',
      ['ip', 'route', 'add', '10.60.9.0/24', 'dev', 'up0', 'table', '77'],
      /10\.60\.9\.0\/24/,
    ],
    [
      'a v6 route',
      ['ip', 'route', 'add', 'fd00::/16', 'dev', 'up0'],
      /pool fd00:60::\/48 overlaps the route fd00::\/16/,
    ],
    [
      'an address',
      ['ip', 'address', 'add', '10.60.3.3/32', 'dev', 'up0'],
      /overlaps the address 10\.60\.3\.3/,
    ],
  ])('%s in the pod is refused', async (_, command, text) => {
    const pod = podWithUplink();
    fixture.inside(pod, ...command);
    const before = fixture.shape(pod);
    await expect(ensureAttachment(fixture.tools, fixture.attachment(pod, 2))).rejects.toMatchObject(
      refused(text),
    );
    expect(fixture.shape(pod)).toBe(before);
  });

  test('what a pod reaches can be asked for beforehand', async () => {
    const pod = podWithUplink();
    fixture.inside(pod, 'ip', 'route', 'add', '10.0.0.0/8', 'dev', 'up0');
    const taken = await readPodRoutes(fixture.tools, `/run/netns/${pod}`);
    expect(taken.map(({ prefix }) => formatPrefix(prefix))).toEqual(
      expect.arrayContaining(['10.0.0.0/8', '192.168.7.0/24', '192.168.7.2/32']),
    );
    expect(taken.every(({ prefix }) => prefix.length > 0)).toBe(true);
  });

  test('what the caller knows to be taken is refused', async () => {
    const pod = fixture.makePod('a');
    const taken = [{ prefix: parsePrefix('10.60.128.0/17'), by: "the cluster's service range" }];
    await expect(
      ensureAttachment(fixture.tools, { ...fixture.attachment(pod, 2), taken }),
    ).rejects.toMatchObject(refused(/overlaps the cluster's service range/));
  });

  test('a pod on red and green reaches both gateways; a second network with the same pool is refused', async () => {
    const pod = fixture.makePod('a');
    await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
    using other = new Fixture();
    await other.makeRouter();
    const green = {
      ...other.attachment(pod, 2),
      attachmentId: `${pod}-green`,
      podInterface: 'green',
    };
    await expect(ensureAttachment(fixture.tools, green)).rejects.toMatchObject(
      refused(/which the pod reaches by another vl3 network/),
    );
    expect(fixture.succeeds(pod, 'ip', 'link', 'show', 'dev', 'green')).toBe(false);
    const apart = {
      ...green,
      addresses: [parseAddress('10.61.1.2')],
      gateways: [parseAddress('10.61.1.1')],
      pools: [parsePrefix('10.61.0.0/16')],
    };
    await ensureAttachment(fixture.tools, apart);
    expect(fixture.inside(pod, 'ip', 'route', 'get', '10.61.9.9')).toContain('dev green src 10.61.1.2');
    expect(fixture.inside(pod, 'ip', 'route', 'get', '10.60.9.9')).toContain('dev red src 10.60.1.2');
    expect(pingsGateway(pod)).toBe(true);
  });
});

describe('a pod', () => {
  test('that is gone leaves nothing, and its detach is fine', async () => {
    const before = fixture.shape(fixture.router);
    const child = spawn('unshare', ['--net', 'sleep', '60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    const podNetns = `/proc/${child.pid}/ns/net`;
    const spec = { ...fixture.attachment('gone', 2), podNetns };
    await expect
      .poll(() =>
        ensureAttachment(fixture.tools, spec).then(
          () => 'attached',
          () => 'not yet',
        ),
      )
      .toBe('attached');
    child.kill('SIGKILL');
    await once(child, 'exit');
    await removeAttachment(fixture.tools, spec);
    await removeAttachment(fixture.tools, spec);
    expect(fixture.shape(fixture.router)).toBe(before);
    await expect(ensureAttachment(fixture.tools, spec)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('with hostile inherited settings and no IPv6 is attached all the same', async () => {
    const pod = fixture.makePod('a');
    fixture.inside(pod, 'sh', '-c', HOSTILE);
    await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
    expect(pingsGateway(pod)).toBe(true);
    const read = (name: string): string =>
      fixture.inside(pod, 'cat', `/proc/sys/net/ipv6/conf/${name}`).trim();
    expect(read('red/disable_ipv6')).toBe('0');
    expect(read('red/accept_ra')).toBe('0');
    // Only its own interface was touched.
    expect(read('default/disable_ipv6')).toBe('1');
    expect(read('lo/disable_ipv6')).toBe('1');
  });

  test('on a v4-only network gets no IPv6', async () => {
    const pod = fixture.makePod('a');
    const spec = fixture.attachment(pod, 2);
    const only4 = { ...spec, addresses: spec.addresses.slice(0, 1), pools: spec.pools.slice(0, 1) };
    await ensureAttachment(fixture.tools, only4);
    expect(fixture.pings(pod, '10.60.1.1')).toBe(true);
    expect(fixture.inside(pod, 'ip', '-6', 'address', 'show', 'dev', 'red')).toBe('');
  });

  test('on a v6-only network gets no IPv4', async () => {
    const pod = fixture.makePod('a');
    const spec = fixture.attachment(pod, 2);
    const only6 = { ...spec, addresses: spec.addresses.slice(1), pools: spec.pools.slice(1), gateways: [] };
    await ensureAttachment(fixture.tools, only6);
    expect(fixture.pings(pod, 'fd00:60::1:1')).toBe(true);
    expect(fixture.inside(pod, 'ip', '-4', 'address', 'show', 'dev', 'red')).toBe('');
  });
});

/** Everything that could disturb, as a namespace might inherit it. */
const HOSTILE = `
put() { for c in all default lo; do [ -e /proc/sys/net/$1/conf/$c/$2 ] && echo $3 >/proc/sys/net/$1/conf/$c/$2; done; true; }
put ipv4 rp_filter 1; put ipv4 arp_ignore 8; put ipv4 arp_announce 2; put ipv4 accept_redirects 1
put ipv4 accept_source_route 1; put ipv4 proxy_arp 1; put ipv4 forwarding 1; put ipv4 send_redirects 1
put ipv6 accept_ra 2; put ipv6 accept_dad 2; put ipv6 dad_transmits 10; put ipv6 forwarding 1
put ipv6 addr_gen_mode 3; put ipv6 disable_ipv6 1`;

describe('many', () => {
  test('50 pods attach in parallel, each of them reachable', async () => {
    const pods = Array.from({ length: 50 }, (_, n) => fixture.makePod(`p${n}`));
    const alone: number[] = [];
    const attach = async (pod: string, n: number, into: number[]): Promise<void> => {
      const start = performance.now();
      await ensureAttachment(fixture.tools, fixture.attachment(pod, n + 2));
      into.push(performance.now() - start);
    };
    for (const [n, pod] of pods.slice(0, 10).entries()) await attach(pod, n, alone);
    for (const [n, pod] of pods.slice(0, 10).entries()) {
      await removeAttachment(fixture.tools, fixture.attachment(pod, n + 2));
    }
    const together: number[] = [];
    const gate = new Gate(4);
    const start = performance.now();
    await Promise.all(
      pods.map(async (pod, n) => {
        await gate.pass(() => ensureAttachment(fixture.tools, fixture.attachment(pod, n + 2)));
        together.push(performance.now() - start);
      }),
    );
    const all = performance.now() - start;
    alone.sort((x, y) => x - y);
    together.sort((x, y) => x - y);
    console.log(
      `attach alone p50 ${percentile(alone, 0.5)} ms, p99 ${percentile(alone, 0.99)} ms; ` +
        `50 in parallel p50 ${percentile(together, 0.5)} ms, p99 ${percentile(together, 0.99)} ms, all in ${all.toFixed(0)} ms`,
    );
    for (const pod of pods) expect(pingsGateway(pod)).toBe(true);
    expect((await readRouter(fixture.tools, fixture.router))?.attachments).toHaveLength(50);
  });

  test(`${ROUNDS * 4} attaches and detaches leave nothing`, async () => {
    const pods = Array.from({ length: 4 }, (_, n) => fixture.makePod(`p${n}`));
    const state = (): string[] => [fixture.router, ...pods].map((name) => fixture.shape(name));
    const before = state();
    const descriptors = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < ROUNDS; round++) {
      const specs = pods.map((pod, n) => ({
        ...fixture.attachment(pod, 2 + n + round * 4),
        attachmentId: `${pod}-${round}`,
      }));
      await Promise.all(specs.map((spec) => ensureAttachment(fixture.tools, spec)));
      await Promise.all(specs.map((spec) => removeAttachment(fixture.tools, spec)));
    }
    expect(state()).toEqual(before);
    expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(descriptors + 2);
  });

  test("removing the router takes all pods' interfaces with it", async () => {
    const pods = Array.from({ length: 3 }, (_, n) => fixture.makePod(`p${n}`));
    await Promise.all(pods.map((pod, n) => ensureAttachment(fixture.tools, fixture.attachment(pod, n + 2))));
    await removeRouter(fixture.tools, fixture.router);
    await removeRouter(fixture.tools, fixture.router);
    for (const pod of pods) expect(fixture.succeeds(pod, 'ip', 'link', 'show', 'dev', 'red')).toBe(false);
    await removeAttachment(fixture.tools, fixture.attachment('p0', 2));
    expect(await readRouter(fixture.tools, fixture.router)).toBeUndefined();
  });
});
