import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { ensureRouter } from '../../../src/netns/router.ts';
import { ensureAttachment } from '../../../src/netns/veth.ts';
import { Fixture } from './fixture.ts';

// Pods on red (10.60/16), on green (10.61/16) and on both; the last forwards whatever it gets.

const red = new Fixture();
const green = new Fixture();
let redPod: string;
let bothPod: string;
let greenPod: string;

const GREEN_POOLS = ['10.61.0.0/16', 'fd00:61::/48'].map(parsePrefix);
const GREEN_GATEWAYS = ['10.61.1.1', 'fd00:61::1:1'].map(parseAddress);

const onGreen = (pod: string, n: number) => ({
  ...green.attachment(pod, n),
  attachmentId: `${pod}-green`,
  podInterface: 'green',
  addresses: [`10.61.1.${n}`, `fd00:61::1:${n}`].map(parseAddress),
  gateways: GREEN_GATEWAYS,
  pools: GREEN_POOLS,
});

beforeAll(async () => {
  await red.makeRouter();
  await green.makeBareRouter();
  await ensureRouter(green.tools, {
    ...green.routerSpec,
    gateways: GREEN_GATEWAYS,
    pools: GREEN_POOLS,
    prefixes: ['10.61.1.0/24', 'fd00:61::1:0/112'].map(parsePrefix),
  });
  redPod = red.makePod('red');
  bothPod = red.makePod('both');
  greenPod = green.makePod('green');
  const forward = 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding';
  red.inside(bothPod, 'sh', '-c', `${forward}; echo 1 >/proc/sys/net/ipv4/conf/all/accept_source_route`);
  await ensureAttachment(red.tools, red.attachment(redPod, 2));
  await ensureAttachment(red.tools, red.attachment(bothPod, 3));
  await ensureAttachment(green.tools, onGreen(bothPod, 3));
  await ensureAttachment(green.tools, onGreen(greenPod, 4));
});

afterAll(() => {
  red[Symbol.dispose]();
  green[Symbol.dispose]();
});

test('the router of one network is no workload for the other', async () => {
  const spec = { ...red.attachment('router', 9), podNetns: `/run/netns/${green.router}` };
  await expect(ensureAttachment(red.tools, spec)).rejects.toThrow(/is a router namespace of vl3/);
});

test('a pod on both networks reaches the pods of both, and they reach it', () => {
  for (const [from, to] of [
    [bothPod, '10.60.1.2'],
    [bothPod, 'fd00:60::1:2'],
    [bothPod, '10.61.1.4'],
    [bothPod, 'fd00:61::1:4'],
    [redPod, '10.60.1.3'],
    [greenPod, '10.61.1.3'],
    [greenPod, 'fd00:61::1:3'],
  ] as const) {
    expect(red.pings(from, to), `${from} ${to}`).toBe(true);
  }
});

test.each([
  ['the gateway', 'via 10.60.1.1 dev red onlink', 'via fe80::1 dev red'],
  ['the pod on both', 'via 10.60.1.3 dev red onlink', 'via fd00:60::1:3 dev red onlink'],
  ['the wire', 'dev red', 'dev red'],
])('a red pod reaches no green pod through %s', (_, hop4, hop6) => {
  const routes = [
    ['10.61.0.0/16', hop4],
    ['fd00:61::/48', hop6],
  ] as const;
  for (const [pool, hop] of routes) red.inside(redPod, 'ip', 'route', 'add', pool, ...hop.split(' '));
  // Straight to the router's end, also where nobody would answer for the next hop.
  const mac =
    /link\/ether (\S+)/.exec(red.inside(red.router, 'ip', 'link', 'show', 'type', 'veth'))?.[1] ?? '';
  for (const hop of ['10.60.1.3', 'fd00:60::1:3', '10.61.1.4', 'fd00:61::1:4']) {
    red.inside(redPod, 'ip', 'neighbour', 'replace', hop, 'dev', 'red', 'lladdr', mac);
  }
  try {
    for (const to of ['10.61.1.4', 'fd00:61::1:4', '10.61.1.1', '10.61.1.3'])
      expect(red.pings(redPod, to), to).toBe(false);
  } finally {
    for (const [pool] of routes) red.inside(redPod, 'ip', 'route', 'delete', pool);
  }
});

test('a red pod reaches no green pod with a green source address', () => {
  red.inside(redPod, 'ip', 'address', 'add', '10.61.1.9/32', 'dev', 'red');
  red.inside(redPod, 'ip', 'route', 'add', '10.61.0.0/16', 'via', '10.60.1.1', 'dev', 'red', 'onlink');
  try {
    expect(red.pings(redPod, '10.61.1.4', '-I', '10.61.1.9')).toBe(false);
    expect(red.pings(redPod, '10.60.1.3', '-I', '10.61.1.9')).toBe(false);
  } finally {
    red.inside(redPod, 'ip', 'route', 'delete', '10.61.0.0/16');
    red.inside(redPod, 'ip', 'address', 'delete', '10.61.1.9/32', 'dev', 'red');
  }
});

test('the pod on both takes no source-routed packet from either', () => {
  for (const name of ['red', 'green']) {
    const path = `/proc/sys/net/ipv4/conf/${name}/accept_source_route`;
    expect(red.inside(bothPod, 'cat', path).trim()).toBe('0');
  }
});
