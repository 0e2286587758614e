// An admin deletes a node whose agent runs: it says so, once and with the remedy, and a new token beside the old identity
// brings it back, with nothing of what it held before.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';

let domain: Domain;
let a1: Node;
let a2: Node;
let web: Pod;
let far: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  a1 = await domain.startNode('a1');
  a2 = await domain.startNode('a2', { networks: ['red'] });
  web = await a1.pod('web', 'red');
  far = await a2.pod('far', 'red');
  await domain.admin('node', 'delete', 'a1');
}, 120_000);

afterAll(() => domain?.close());

test('its status says what is the matter and what to do, and nothing of leases that hold', async () => {
  await vi.waitFor(async () => {
    const { code, stdout } = await a1.tryVl3('status');
    expect(code).toBe(4);
    expect(stdout).toContain('refuses this node');
    expect(stdout).toMatch(
      /^problem: this node was deleted at the registry: its join token is refused \(.*\): start the agent with a new join token/m,
    );
    expect(stdout.match(/^problem: .*the registry: its join token/gm), stdout).toHaveLength(1);
    expect(stdout).not.toMatch(/good|may be gone|does not answer/);
  }, SOON);
});

test('what it had attached is taken down at once, and waits: its addresses are free for others', async () => {
  await vi.waitFor(async () => {
    expect(await web.host.run(['ip', '-br', 'link'])).not.toMatch(/^red/m);
    const { stdout } = await a1.tryVl3('status');
    expect(stdout).toMatch(/^problem: network red: web waits to be attached: node "a1" was deleted/m);
    expect(stdout.match(/^network red/gm)).toHaveLength(1);
    expect(stdout).toMatch(/ago: this node was deleted at the registry: what was attached is taken down/m);
  }, SOON);
  const log = a1.log().map(({ msg }) => msg);
  for (const one of ['all prefixes lost', 'withdrawn'])
    expect(log.filter((msg) => msg === one)).toHaveLength(1);
});

test('started with a new token it is there again, and its pods with it, on prefixes leased anew', async () => {
  const before = web.on('red');
  await a1.agent.stop();
  await a1.start('--token', await domain.token('--node', 'a1'));
  await vi.waitFor(async () => {
    expect((await a1.status()).problems).toEqual([]);
    expect(a1.agent.output()).toMatch(/"enrolled anew"/);
    await a1.attach(web, 'red');
    expect(await web.reaches(far.v4('red'))).toBe(true);
  }, SOON);
  const log = a1.log().map(({ msg }) => msg);
  for (const one of ['all prefixes lost', 'left', 'joined', 'attached']) expect(log).toContain(one);
  expect(log.filter((msg) => msg === 'registry refuses this node')).toHaveLength(1);
  expect(web.on('red').id).toBe(before.id);
}, 180_000);
