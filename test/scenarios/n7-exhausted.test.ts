// N7: a node whose prefix is used up gets another, and gives it back when it has not needed it for a while. A pool that is
// used up is a clear error and leaks nothing. Addresses come back, the oldest first. And addresses that were asked for.

import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';

const PENDING = 5;

let domain: Domain;
let a1: Node;

beforeAll(async () => {
  domain = await Domain.start();
  // Two /30 of one pod address each; one /29 of five; and plenty.
  await domain.createNetwork('tiny', '--pool-v4', '10.60.0.0/29', '--node-prefix-length-v4', '30');
  await domain.createNetwork('small', '--pool-v4', '10.61.0.0/29', '--node-prefix-length-v4', '29');
  await domain.createNetwork('wide', '--pool-v4', '10.62.0.0/16', '--pool-v6', 'fd00:62::/48');
  a1 = await domain.startNode('a1', { options: ['--prefix-rest', '1s'] });
}, 120_000);

afterAll(() => domain?.close());

const attach = (pod: Pod, ...options: string[]) =>
  a1.tryVl3('attach', '--netns', pod.host.netns, '--name', pod.name, '-o', 'json', ...options);
const detach = (pod: Pod, network: string) =>
  a1.vl3('detach', '--network', network, '--netns', pod.host.netns);
const prefixes = async (network: string): Promise<string[]> =>
  (await a1.status()).networks.find(({ name }) => name === network)?.prefixes ?? [];
const leased = async (network: string): Promise<string[]> => {
  const shown = await domain.adminJson<{ leases: { prefix: string }[] }>('network', 'show', network);
  return shown.leases.map(({ prefix }) => prefix).sort();
};
const local = async (pod: Pod): Promise<LocalAttachment[]> =>
  (await new LocalClient(a1.socket).attachments()).filter(({ netns }) => netns === pod.host.netns);

describe('a prefix that is used up', () => {
  let first: Pod;
  let second: Pod;
  let third: Pod;

  test('is followed by another', async () => {
    first = await a1.pod('first', 'tiny');
    second = await a1.pod('second', 'tiny');
    expect([first.v4('tiny'), second.v4('tiny')]).toEqual(['10.60.0.2', '10.60.0.6']);
    expect(await prefixes('tiny')).toEqual(['10.60.0.0/30', '10.60.0.4/30']);
    expect(await first.reaches(second.v4('tiny'))).toBe(true);
  });

  test('with no other in the pool is said in a sentence, and nothing is left half-done', async () => {
    third = await Pod.create(domain.lab, 'third', a1);
    const { code, stderr } = await attach(third, '--network', 'tiny');
    expect(stderr).toMatch(/^vl3: tiny is pending: the pool 10\.60\.0\.0\/29 .* has no free \/30: .*\n$/);
    expect(code).toBe(PENDING);
    expect(await third.host.run(['ip', '-br', 'link'])).toMatch(/^lo\b.*\n$/);
    expect(await leased('tiny')).toEqual(['10.60.0.0/30', '10.60.0.4/30']);
    const run = await a1.tryVl3('run', '--network', 'tiny', '--', 'echo', 'ran');
    expect(run).toMatchObject({ code: PENDING, stdout: '' });
  });

  test('has an address for who waits as soon as one is given back', async () => {
    await detach(first, 'tiny');
    await vi.waitFor(
      async () => expect(await local(third)).toMatchObject([{ ready: true, addresses: ['10.60.0.2'] }]),
      SOON,
    );
    expect(await third.reaches(second.v4('tiny'))).toBe(true);
  });

  test('stays while a further one that is empty goes back, and grows again', async () => {
    await detach(second, 'tiny');
    await pause(8_000);
    // The other has no room: a workload that comes and goes moves no prefix to and fro.
    expect(await prefixes('tiny')).toHaveLength(2);
    await detach(third, 'tiny');
    await vi.waitFor(async () => expect(await prefixes('tiny')).toEqual(['10.60.0.0/30']), SOON);
    await vi.waitFor(async () => expect(await local(third)).toEqual([]), SOON);
    const again = [await a1.pod('fourth', 'tiny'), await a1.pod('fifth', 'tiny')];
    // What rests goes last, when there is no other prefix to be had.
    expect(again.map((pod) => pod.v4('tiny'))).toEqual(['10.60.0.6', '10.60.0.2']);
    expect(await again[0]?.reaches('10.60.0.2')).toBe(true);
  });
});

describe('addresses that were given back', () => {
  test('come back the oldest first, also after the agent was killed', async () => {
    const pods = [];
    for (let i = 0; i < 5; i++) pods.push(await a1.pod(`old${i}`, 'small'));
    expect(pods.map((pod) => pod.v4('small'))).toEqual(
      ['2', '3', '4', '5', '6'].map((last) => `10.61.0.${last}`),
    );
    for (const i of [2, 0, 4]) await detach(pods[i] ?? expect.fail(), 'small');
    await a1.agent.stop('SIGKILL');
    await a1.start();
    const next = [];
    for (let i = 0; i < 3; i++) next.push((await a1.pod(`new${i}`, 'small')).v4('small'));
    expect(next).toEqual(['10.61.0.4', '10.61.0.2', '10.61.0.6']);
  });
});

describe('an address that was asked for', () => {
  test('is had, and kept when the agent is killed', async () => {
    const pod = await Pod.create(domain.lab, 'fixed', a1);
    const asked = ['--network', 'wide', '--address', '10.62.0.77', '--address', 'fd00:62::4d'];
    const { code, stdout } = await attach(pod, ...asked);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject([{ addresses: ['10.62.0.77', 'fd00:62::4d'] }]);
    await a1.agent.stop('SIGKILL');
    await a1.start();
    expect(await attach(pod, ...asked)).toMatchObject({ code: 0 });
    expect(await pod.host.run(['ip', '-br', 'address', 'show', 'wide'])).toContain('10.62.0.77/32');
    const other = await attach(pod, '--network', 'wide', '--address', '10.62.0.78');
    expect(other.stderr).toMatch(/is on wide already, as 10\.62\.0\.77 and .*: detach it first/);
  });

  test('goes with one of the other family that was not', async () => {
    const shown = await a1.vl3(
      'run',
      '--network',
      'wide',
      '--address',
      '10.62.0.99',
      '--',
      'ip',
      '-br',
      'address',
    );
    expect(shown).toMatch(/^wide@\S+ +UP +10\.62\.0\.99\/32 fd00:62:/m);
  });

  test.each([
    [
      'another node may have',
      ['10.62.9.9'],
      /10\.62\.9\.9 is in no prefix that this node holds \(10\.62\.0\.0\/24\)/,
    ],
    ['the pool does not have', ['10.99.0.1'], /an address on wide is in 10\.62\.0\.0\/16 and fd00:62::\/48/],
    ['somebody has', ['10.62.0.77'], /10\.62\.0\.77 is taken by attachment/],
    ['is the gateway', ['10.62.0.1'], /10\.62\.0\.1 is the gateway, network or broadcast address/],
    ['is none', ['10.62.0'], /"10\.62\.0" is not an IP address/],
    ['comes twice of a family', ['10.62.0.5', '10.62.0.6'], /addresses: give one of each family at most/],
  ])('that %s is refused, and nothing is left', async (_, addresses, sentence) => {
    const pod = await Pod.create(domain.lab, `no${Math.random().toString(36).slice(2, 8)}`, a1);
    const options = addresses.flatMap((address) => ['--address', address]);
    const { code, stderr } = await attach(pod, '--network', 'wide', ...options);
    expect(stderr).toMatch(sentence);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(code).toBe(1);
    expect(await local(pod)).toEqual([]);
    expect(await pod.host.run(['ip', '-br', 'link'])).toMatch(/^lo\b.*\n$/);
  });
});
