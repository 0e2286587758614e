// A pod's interface: made, broken off and taken away again, in real namespaces.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ensureAttachment, removeAttachment } from '../../../src/netns/veth.ts';
import { BreakingRunner, RecordingRunner } from './failing-runner.ts';
import { Fixture, TUN } from './fixture.ts';

let fixture: Fixture;

beforeEach(async () => {
  fixture = new Fixture();
  await fixture.makeRouter();
});

afterEach(() => fixture[Symbol.dispose]());

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
    expect(fixture.pingsGateway(pod)).toBe(true);
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
      expect(fixture.pingsGateway(pod), JSON.stringify(point)).toBe(true);
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
    expect(fixture.pingsGateway(b)).toBe(true);
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
    expect(fixture.pingsGateway(pod)).toBe(true);
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
