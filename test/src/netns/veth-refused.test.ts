// Which interfaces are refused, and what is left as it was then.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { formatPrefix, parseAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { netnsIdentity } from '../../../src/netns/namespace.ts';
import { readPodRoutes } from '../../../src/netns/pod-routes.ts';
import { ensureAttachment, removeAttachment } from '../../../src/netns/veth.ts';
import { Fixture } from './fixture.ts';

let fixture: Fixture;

beforeEach(async () => {
  fixture = new Fixture();
  await fixture.makeRouter();
});

afterEach(() => fixture[Symbol.dispose]());

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
    expect(fixture.pingsGateway(pod)).toBe(true);
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
    expect(fixture.pingsGateway(pod)).toBe(true);
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

  const podWithUplink = async (): Promise<string> => {
    const pod = fixture.makePod('a');
    fixture.inside(pod, 'ip', 'link', 'add', 'name', 'up0', 'type', 'veth', 'peer', 'name', 'up1');
    // No link-local address, which would change by itself a second later.
    for (const name of ['up0', 'up1'])
      fixture.inside(pod, 'ip', 'link', 'set', 'dev', name, 'addrgenmode', 'none', 'up');
    fixture.inside(pod, 'ip', 'address', 'add', '192.168.7.2/24', 'dev', 'up0');
    fixture.inside(pod, 'ip', 'route', 'add', 'default', 'via', '192.168.7.1');
    // The kernel says of both that they are up a moment later.
    await expect
      .poll(() => fixture.inside(pod, 'ip', '-br', 'link', 'show', 'type', 'veth').match(/ UP /g), {
        timeout: 40_000,
      })
      .toHaveLength(2);
    return pod;
  };

  test('a default route is no overlap, and stays untouched through attach and detach', async () => {
    const pod = await podWithUplink();
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
    const pod = await podWithUplink();
    fixture.inside(pod, ...command);
    const before = fixture.shape(pod);
    await expect(ensureAttachment(fixture.tools, fixture.attachment(pod, 2))).rejects.toMatchObject(
      refused(text),
    );
    expect(fixture.shape(pod)).toBe(before);
  });

  test('what a pod reaches can be asked for beforehand', async () => {
    const pod = await podWithUplink();
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
    expect(fixture.pingsGateway(pod)).toBe(true);
  });
});
