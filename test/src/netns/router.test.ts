import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { ensureRouter, ensureRouterNamespace, listRouters, readRouter } from '../../../src/netns/router.ts';
import { ensureAttachment } from '../../../src/netns/veth.ts';
import { BreakingRunner, RecordingRunner } from './failing-runner.ts';
import { Fixture, TUN } from './fixture.ts';

let fixture: Fixture;

beforeEach(() => {
  fixture = new Fixture();
});

afterEach(() => fixture[Symbol.dispose]());

const works = (pod: string): boolean => fixture.pings(pod, '10.60.1.1') && fixture.pings(pod, 'fd00:60::1:1');

describe('ensureRouter', () => {
  test('run twice changes nothing', async () => {
    await fixture.makeRouter();
    await ensureAttachment(fixture.tools, fixture.attachment(fixture.makePod('a'), 2));
    const before = fixture.dump(fixture.router);
    const recorder = new RecordingRunner(fixture.tools);
    await ensureRouter(recorder, fixture.routerSpec);
    expect(fixture.dump(fixture.router)).toBe(before);
    // Settings and rules, each a no-op.
    expect(recorder.lines).toEqual([1, 1]);
  });

  test('run after a crash at any step heals', async () => {
    await fixture.makeBareRouter();
    const recorder = new RecordingRunner(fixture.tools);
    await ensureRouter(recorder, fixture.routerSpec);
    const whole = fixture.shape(fixture.router);
    expect(recorder.points.length).toBeGreaterThan(8);
    for (const point of recorder.points) {
      using other = new Fixture();
      await other.makeBareRouter();
      const crashing = new BreakingRunner(other.tools, point, 'crash');
      await expect(ensureRouter(crashing, other.routerSpec)).rejects.toThrow();
      await ensureRouter(other.tools, other.routerSpec);
      expect(other.shape(other.router), JSON.stringify(point)).toBe(whole);
    }
  });

  test('heals what was broken by hand, and pods keep their way in', async () => {
    await fixture.makeRouter();
    const pod = fixture.makePod('a');
    await ensureAttachment(fixture.tools, fixture.attachment(pod, 2));
    const whole = fixture.shape(fixture.router);
    for (const command of [
      'nft flush chain inet vl3 forward',
      'nft delete chain inet vl3 guard',
      'ip route delete 10.60.0.0/16',
      'ip route delete unreachable fd00:60::1:0/112',
      `ip address flush dev ${TUN}`,
      `ip link set dev ${TUN} down`,
      `ip link set dev ${TUN} mtu 1280`,
      'ip link set dev lo down',
      `ip route add 10.60.77.0/24 dev ${TUN} proto 118`,
      `ip address add 10.60.1.99/32 dev ${TUN}`,
    ]) {
      fixture.inside(fixture.router, ...command.split(' '));
      expect(fixture.shape(fixture.router), command).not.toBe(whole);
      await ensureRouter(fixture.tools, fixture.routerSpec);
      expect(fixture.shape(fixture.router), command).toBe(whole);
      expect(works(pod), command).toBe(true);
    }
  });

  test('follows the node to another prefix', async () => {
    await fixture.makeRouter();
    const spec = { ...fixture.routerSpec, prefixes: ['10.60.1.0/24', '10.60.9.0/24'].map(parsePrefix) };
    await ensureRouter(fixture.tools, spec);
    const routes = fixture.inside(fixture.router, 'ip', 'route', 'show');
    expect(routes).toContain('unreachable 10.60.9.0/24');
    expect(fixture.inside(fixture.router, 'ip', '-6', 'route', 'show')).not.toContain('unreachable');
    await ensureRouter(fixture.tools, fixture.routerSpec);
    expect(fixture.inside(fixture.router, 'ip', 'route', 'show')).not.toContain('10.60.9.0/24');
  });

  test('takes out the rules of a pod that went away', async () => {
    await fixture.makeRouter();
    const before = fixture.shape(fixture.router);
    const attached = await ensureAttachment(fixture.tools, fixture.attachment(fixture.makePod('a'), 2));
    fixture.inside(fixture.router, 'ip', 'link', 'delete', 'dev', attached.hostInterface);
    expect(fixture.shape(fixture.router)).not.toBe(before);
    await ensureRouter(fixture.tools, fixture.routerSpec);
    expect(fixture.shape(fixture.router)).toBe(before);
  });

  test('inherits nothing: settings are the same in a namespace that started out hostile', async () => {
    await fixture.makeBareRouter();
    await ensureRouter(fixture.tools, fixture.routerSpec);
    using other = new Fixture();
    await ensureRouterNamespace(other.tools, other.router);
    other.inside(other.router, 'sh', '-c', HOSTILE);
    await other.makeBareRouter();
    await ensureRouter(other.tools, other.routerSpec);
    const [a, b] = [fixture.makePod('a'), other.makePod('b')];
    await ensureAttachment(fixture.tools, { ...fixture.attachment(a, 2), attachmentId: 'same' });
    await ensureAttachment(other.tools, { ...other.attachment(b, 2), attachmentId: 'same' });
    for (const names of [['10.60.1.1'], ['fd00:60::1:1']])
      for (const to of names) expect(other.pings(b, to)).toBe(true);
    const settings = (of: Fixture): string[] =>
      of
        .dump(of.router)
        .split('\n')
        .filter((line) => CHOSEN.test(line));
    expect(settings(other).length).toBeGreaterThan(80);
    expect(settings(other)).toEqual(settings(fixture));
    expect(settings(other)).toContain(`/proc/sys/net/ipv4/conf/${TUN}/accept_redirects:0`);
    expect(settings(other)).toContain(`/proc/sys/net/ipv6/conf/${TUN}/accept_ra:0`);
    expect(settings(other)).toContain(`/proc/sys/net/ipv6/conf/${TUN}/forwarding:1`);
  });

  test('without a TUN is refused with a sentence', async () => {
    await ensureRouterNamespace(fixture.tools, fixture.router);
    try {
      await expect(ensureRouter(fixture.tools, fixture.routerSpec)).rejects.toMatchObject({
        code: 'failed-precondition',
        message: expect.stringContaining('has no TUN'),
      });
    } finally {
      await fixture.makeBareRouter();
    }
  });

  test('of one family knows nothing of the other', async () => {
    await fixture.makeBareRouter();
    const spec = fixture.routerSpec;
    await ensureRouter(fixture.tools, {
      ...spec,
      gateways: [parseAddress('fd00:60::1:1')],
      pools: spec.pools.slice(1),
      prefixes: spec.prefixes.slice(1),
    });
    expect(fixture.inside(fixture.router, 'ip', 'route', 'show')).toBe('');
    expect(fixture.inside(fixture.router, 'ip', '-6', 'route', 'show', 'dev', TUN)).toContain('fd00:60::/48');
  });
});

describe('readRouter', () => {
  test('shows attachments, rules and counts; listRouters finds it by prefix', async () => {
    await fixture.makeRouter();
    const spec = fixture.attachment(fixture.makePod('a'), 2);
    const { hostInterface } = await ensureAttachment(fixture.tools, spec);
    const state = await readRouter(fixture.tools, fixture.router);
    expect(state?.attachments).toEqual([{ attachmentId: spec.attachmentId, hostInterface, running: true }]);
    expect(state?.rules?.pods).toEqual([hostInterface]);
    expect(state?.rules?.sources).toHaveLength(3);
    expect(state?.rules?.sources).toContainEqual({
      interface: hostInterface,
      address: parseAddress('10.60.1.2'),
    });
    expect(await listRouters(fixture.id)).toContain(fixture.router);
    expect(await listRouters(`${fixture.id}-none`)).toEqual([]);
    expect(await readRouter(fixture.tools, `${fixture.id}-none`)).toBeUndefined();
  });

  test('a router without rules says so', async () => {
    await fixture.makeBareRouter();
    expect((await readRouter(fixture.tools, fixture.router))?.rules).toBeUndefined();
  });
});

/** The settings that decide what a router does. */
const CHOSEN =
  /\/(forwarding|accept_ra|autoconf|accept_redirects|secure_redirects|send_redirects|accept_source_route|rp_filter|arp_\w+|proxy_\w+|route_localnet|accept_local|log_martians|disable_ipv6|accept_dad|dad_transmits|addr_gen_mode|seg6_enabled|ignore_routes_with_linkdown):/;

const HOSTILE = `
put() { for c in all default lo; do [ -e /proc/sys/net/$1/conf/$c/$2 ] && echo $3 >/proc/sys/net/$1/conf/$c/$2; done; true; }
for s in arp_ignore arp_announce; do put ipv4 $s 2; done
for s in rp_filter accept_local proxy_arp accept_redirects secure_redirects send_redirects accept_source_route; do put ipv4 $s 1; done
for s in route_localnet log_martians arp_filter ignore_routes_with_linkdown; do put ipv4 $s 1; done
for s in accept_ra accept_dad dad_transmits; do put ipv6 $s 2; done
for s in proxy_ndp accept_redirects seg6_enabled ignore_routes_with_linkdown autoconf; do put ipv6 $s 1; done
put ipv4 forwarding 0; put ipv6 forwarding 0; put ipv6 addr_gen_mode 3; put ipv6 disable_ipv6 1`;
