// Where pods are, by the CRI over a unix socket.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ContainerRuntime } from '../../../src/kube/container-runtime.ts';
import { Cri } from '../../lab/kube-cri.ts';

let directory: string;
let cri: Cri;
let runtime: ContainerRuntime;
let now = 0;
const there = new Set(['/run/netns/one', '/proc/77/ns/net']);

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-cri-'));
  const path = join(directory, 'cri.sock');
  cri = await Cri.listen(path);
  const identify = async (one: string) => (there.has(one) ? `id of ${one}` : undefined);
  runtime = new ContainerRuntime({ endpoint: `unix://${path}` }, { identify, now: () => now });
});
afterEach(() => {
  runtime[Symbol.dispose]();
  cri.close();
  rmSync(directory, { recursive: true, force: true });
});

const pod = (uid: string) => ({ uid, namespace: 'team-a', name: `web-${uid}` });
/** Where they are. */
const find = async (...uids: string[]) =>
  Object.fromEntries([...(await runtime.find(new Set(uids)))].map(([uid, { netns }]) => [uid, netns]));

test('only pods that are asked for and run are found, each looked at once', async () => {
  cri.run(pod('u1'), '/run/netns/one');
  cri.run(pod('u2'), '/gone', 'containerd', 77);
  cri.run(pod('u3'), '/run/netns/one', 'cri-o');
  cri.run(pod('u4'), '/run/netns/one');
  cri.stop('u4');
  const expected = {
    u1: { path: '/run/netns/one', id: 'id of /run/netns/one' },
    u2: { path: '/proc/77/ns/net', id: 'id of /proc/77/ns/net' },
  };
  expect(await find('u1', 'u2', 'u4', 'u5')).toEqual(expected);
  expect(await find('u1', 'u2', 'u4', 'u5')).toEqual(expected);
  expect(cri.calls).toEqual({ ListPodSandbox: 2, PodSandboxStatus: 2 });
});

test('a sandbox that was made anew is another', async () => {
  cri.run(pod('u1'), '/run/netns/one');
  await find('u1');
  cri.run(pod('u1'), '', 'pid', 77);
  expect(await find('u1')).toEqual({ u1: { path: '/proc/77/ns/net', id: 'id of /proc/77/ns/net' } });
});

test('a namespace that is not there is looked for again, and said', async () => {
  cri.run(pod('u1'), '/nowhere', 'containerd', 1);
  expect(await find('u1')).toEqual({ u1: undefined });
  expect(runtime.problem).toBe(
    'the container runtime does not tell where pod team-a/web-u1 is: no network namespace is at /nowhere or /proc/1/ns/net, as seen from here',
  );
  there.add('/nowhere');
  expect(await find('u1')).toEqual({ u1: { path: '/nowhere', id: 'id of /nowhere' } });
  there.delete('/nowhere');
  expect(runtime.problem).toBe('');
});

test('a sandbox that has no status holds up no other, and is not asked for all the time', async () => {
  cri.run(pod('u1'), '/run/netns/one');
  cri.run(pod('u2'), '/run/netns/one');
  cri.broken.add('u1');
  const one = { path: '/run/netns/one', id: 'id of /run/netns/one' };
  for (const _ of [1, 2]) expect(await find('u1', 'u2')).toEqual({ u1: undefined, u2: one });
  expect(cri.calls['PodSandboxStatus']).toBe(2);
  expect(runtime.problem).toMatch(/where pod team-a\/web-u1 is: .*its task is gone/);
  cri.broken.clear();
  now += 60_000;
  expect(await find('u1', 'u2')).toEqual({ u1: one, u2: one });
  expect(runtime.problem).toBe('');
});

test('of whom a sandbox is, is told with it', async () => {
  cri.run(pod('u1'), '/run/netns/one');
  expect((await runtime.find(new Set(['u1']))).get('u1')).toMatchObject({
    namespace: 'team-a',
    name: 'web-u1',
  });
});

test('a runtime that does not answer is a sentence, and asked anew when it is back', async () => {
  const path = join(directory, 'later.sock');
  using late = new ContainerRuntime({ endpoint: path }, { identify: async () => 'x', now: () => now });
  await expect(late.find(new Set(['u1']))).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/runtime at .*later\.sock does not tell.*--container-runtime-endpoint/),
  });
  const back = await Cri.listen(path);
  back.run(pod('u1'), '/run/netns/one');
  const netns = { path: '/run/netns/one', id: 'x' };
  expect(await late.find(new Set(['u1']))).toEqual(
    new Map([['u1', { namespace: 'team-a', name: 'web-u1', netns }]]),
  );
  back.close();
});
