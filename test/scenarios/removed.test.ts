// Somebody removes what the agent made, under the running agent: it notices, makes it anew, and packets flow again.

import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';

let domain: Domain;
let a1: Node;
let web: Pod;
let far: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  a1 = await domain.startNode('a1', { networks: ['red'] });
  const a2 = await domain.startNode('a2', { networks: ['red'] });
  web = await a1.pod('web', 'red');
  far = await a2.pod('far', 'red');
  await a1.meets('red', [a2]);
}, 120_000);

afterAll(() => domain?.close());

/** Both families, and nothing wrong in the status. */
const heals = async (): Promise<void> => {
  await vi.waitFor(async () => {
    expect((await a1.status()).problems).toEqual([]);
    for (const address of [far.v4('red'), far.v6('red')])
      expect((await ping(web.host, address)).received, a1.agent.output()).toBe(1);
  }, SOON);
};

const logged = (message: string): boolean => a1.log().some(({ msg }) => msg === message);

test('a removed TUN is made anew', async () => {
  await heals();
  await a1.router('red').ip('link delete dev vl3');
  await vi.waitFor(() => expect(logged('TUN lost')).toBe(true), SOON);
  await vi.waitFor(() => expect(logged('opened anew')).toBe(true), SOON);
  await heals();
});

test('a removed router namespace is made anew, with the pods in it', async () => {
  const before = web.on('red').addresses;
  await domain.lab.run(['ip', 'netns', 'delete', `${a1.netnsPrefix}red`]);
  await vi.waitFor(() => expect(logged('router namespace lost')).toBe(true), SOON);
  await heals();
  expect((await a1.attach(web, 'red')).addresses).toEqual(before);
});

test("a pod's removed interface is made anew: at once when it is attached again", async () => {
  const before = web.on('red').addresses;
  await web.host.ip('link delete dev red');
  expect((await a1.attach(web, 'red')).addresses).toEqual(before);
  await heals();
});

test("a pod's removed interface is made anew: soon when nobody asks", async () => {
  await web.host.ip('link delete dev red');
  await heals();
  expect(logged('interface is not there')).toBe(true);
});

test("a pod's interface that cannot be made anew is a problem until it can, and logged once", async () => {
  // Other reasons there may be, too: while its router namespace was made anew, or when it was looked for before the other was
  // there.
  const told = () =>
    a1
      .log()
      .filter(({ msg }) => msg === 'workload has no interface, and it cannot be made')
      .filter(({ reason }) => /already has an interface "red"/.test(String(reason)));
  await web.host.ip('link delete dev red', 'link add red type veth peer name red-x');
  const failures = async () => (await a1.status()).problems.filter((one) => /it cannot be made/.test(one));
  await vi.waitFor(
    async () =>
      expect(await failures()).toEqual([
        expect.stringMatching(
          /^network red: web has no interface, and it cannot be made \(it is tried again\): .* already has an interface "red"/,
        ),
      ]),
    SOON,
  );
  expect(await a1.tryVl3('status', '--no-probe')).toMatchObject({
    code: 4,
    stdout: expect.stringContaining('problem: network red: web has no interface'),
  });
  // It was tried again meanwhile: every 15 s.
  await setTimeout(20_000);
  expect(await failures()).toHaveLength(1);
  expect(told()).toEqual([expect.objectContaining({ again: 0 })]);
  await web.host.ip('link delete dev red');
  await heals();
});

test('a mistyped network is refused and leaves the node healthy', async () => {
  const result = await a1.tryVl3('attach', '--network', 'rde', '--netns', web.host.netns);
  expect(result).toMatchObject({ code: 1, stderr: expect.stringMatching(/there is no network "rde"/) });
  expect(await a1.status()).toMatchObject({ problems: [], networks: [{ name: 'red' }] });
});
