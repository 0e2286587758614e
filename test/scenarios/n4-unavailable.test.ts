// N4: a network that is not available holds up no other; it is reported as pending with the reason, and attached by itself
// later, also by an agent that was killed meanwhile. Whoever detaches, or goes, withdraws the wish.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';

const PENDING = 5;

let domain: Domain;
let a1: Node;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  await domain.createNetwork('blue', '--pool-v4', '10.80.0.0/16');
  a1 = await domain.startNode('a1', { networks: ['red'] });
  await a1.pod('first', 'red');
  await domain.stopRegistry();
}, 120_000);

afterAll(() => domain?.close());

const local = (): Promise<LocalAttachment[]> => new LocalClient(a1.socket).attachments();
const of = async (pod: Pod, network: string): Promise<LocalAttachment | undefined> =>
  (await local()).find((one) => one.netns === pod.host.netns && one.network === network);
const attach = (pod: Pod, ...options: string[]) =>
  a1.tryVl3(
    'attach',
    '--netns',
    pod.host.netns,
    '--name',
    pod.name,
    '--wait',
    '1s',
    '-o',
    'json',
    ...options,
  );

let both: Pod;

test('the network that is there is attached, the other pending with the reason', async () => {
  both = await Pod.create(domain.lab, 'both', a1);
  // Of a busy machine red may take longer than what is waited for; asked again, it is there.
  await vi.waitFor(async () => {
    const { code, stdout, stderr } = await attach(both, '--network', 'red', '--network', 'green');
    expect(stderr).toMatch(/^vl3: green is pending: .*\n$/);
    expect(code).toBe(PENDING);
    expect(JSON.parse(stdout)).toMatchObject([
      { network: 'red', ready: true, pending: '' },
      { network: 'green', ready: false, addresses: [] },
    ]);
  }, SOON);
  expect(await both.reaches('10.60.0.1')).toBe(true);
  expect(await both.host.run(['ip', '-br', 'link'])).not.toMatch(/^green\b/m);
});

test('status and the list of attachments say what is pending and why', async () => {
  await vi.waitFor(async () => {
    const { code, stdout } = await a1.tryVl3('status', '--no-probe');
    expect(stdout).toMatch(/^problem: network green: both waits to be attached: .*registry/m);
    expect(code).toBe(4);
  }, SOON);
  const list = await a1.host.tryRun(
    vl3('attachment', 'list', '--local', '--socket', a1.socket, '-o', 'json'),
  );
  expect(JSON.parse(list.stdout).map((one: LocalAttachment) => [one.network, one.ready])).toEqual(
    expect.arrayContaining([
      ['red', true],
      ['green', false],
    ]),
  );
});

test('vl3 run runs its command on what there is, and not without any network', async () => {
  const run = ['run', '--wait', '1s', '--network', 'green'];
  await vi.waitFor(async () => {
    const some = await a1.tryVl3(...run, '--network', 'red', '--', 'ip', '-br', 'address');
    expect(some).toMatchObject({ code: 0, stderr: expect.stringMatching(/^vl3: green is pending: /) });
    expect(some.stdout).toMatch(/^red\b/m);
  }, SOON);
  const none = await a1.tryVl3(...run, '--', 'echo', 'ran');
  expect(none).toMatchObject({ code: PENDING, stdout: '' });
  const all = await a1.tryVl3(...run, '--network', 'red', '--all', '--', 'echo', 'ran');
  expect(all).toMatchObject({ code: PENDING, stdout: '' });
});

test('detaching withdraws the wish, and so does the end of the namespace', async () => {
  const [brief, gone] = [await Pod.create(domain.lab, 'brief', a1), await Pod.create(domain.lab, 'gone', a1)];
  for (const pod of [brief, gone])
    expect(await attach(pod, '--network', 'blue')).toMatchObject({ code: PENDING });
  const detached = await a1.vl3('detach', '--network', 'blue', '--netns', brief.host.netns, '-o', 'json');
  expect(JSON.parse(detached)).toMatchObject([{ network: 'blue', ready: false }]);
  expect(await of(brief, 'blue')).toBeUndefined();
  await domain.lab.run(['ip', 'netns', 'delete', gone.host.netns.slice('/run/netns/'.length)]);
  await vi.waitFor(async () => expect(await of(gone, 'blue')).toBeUndefined(), SOON);
});

test('when it is available, it is attached by itself: by an agent that was killed meanwhile', async () => {
  const { id } = (await of(both, 'green')) ?? expect.fail('the wish is gone');
  await a1.agent.stop('SIGKILL');
  await a1.start();
  expect(await of(both, 'green')).toMatchObject({ id, ready: false });
  await domain.startRegistry();
  await vi.waitFor(
    async () => expect(await of(both, 'green')).toMatchObject({ id, ready: true, pending: '' }),
    SOON,
  );
  const [address = ''] = (await of(both, 'green'))?.addresses ?? [];
  expect(await both.host.run(['ip', '-br', 'address'])).toContain(address);
  expect(await both.reaches('10.70.0.1')).toBe(true);
  await vi.waitFor(async () => {
    const { problems } = await a1.status();
    expect(problems).toEqual([]);
  }, SOON);
});

test('a network that does not exist is refused, or waited for when asked to', async () => {
  const pod = await Pod.create(domain.lab, 'early', a1);
  await vi.waitFor(async () => {
    const refused = await attach(pod, '--network', 'later', '--network', 'red');
    expect(refused.stderr).toMatch(/there is no network "later"/);
    expect(refused.code).toBe(1);
    expect((await of(pod, 'red'))?.ready).toBe(true);
  }, SOON);
  expect(await of(pod, 'later')).toBeUndefined();
  expect(await attach(pod, '--network', 'later', '--await-network')).toMatchObject({ code: PENDING });
  await domain.createNetwork('later', '--pool-v4', '10.90.0.0/16');
  await vi.waitFor(async () => expect(await of(pod, 'later')).toMatchObject({ ready: true }), SOON);
});
