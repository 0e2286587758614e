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
const there = new Set(['/run/netns/one', '/proc/77/ns/net']);

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-cri-'));
  const path = join(directory, 'cri.sock');
  cri = await Cri.listen(path);
  const identify = async (one: string) => (there.has(one) ? `id of ${one}` : undefined);
  runtime = new ContainerRuntime({ endpoint: `unix://${path}` }, { identify });
});
afterEach(() => {
  runtime[Symbol.dispose]();
  cri.close();
  rmSync(directory, { recursive: true, force: true });
});

const find = async (...uids: string[]) => Object.fromEntries(await runtime.find(new Set(uids)));

test('only pods that are asked for and run are found, each looked at once', async () => {
  cri.run('u1', '/run/netns/one');
  cri.run('u2', '/gone', 'cri-o', 77);
  cri.run('u3', '/run/netns/one');
  cri.run('u4', '/run/netns/one');
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
  cri.run('u1', '/run/netns/one');
  await find('u1');
  cri.run('u1', '', 'pid', 77);
  expect(await find('u1')).toEqual({ u1: { path: '/proc/77/ns/net', id: 'id of /proc/77/ns/net' } });
});

test('a namespace that is not there is looked for again', async () => {
  cri.run('u1', '/nowhere', 'containerd', 1);
  expect(await find('u1')).toEqual({});
  expect(await find('u1')).toEqual({});
  expect(cri.calls['PodSandboxStatus']).toBe(2);
});

test('a runtime that does not answer is a sentence, and asked anew when it is back', async () => {
  const path = join(directory, 'later.sock');
  using late = new ContainerRuntime({ endpoint: path }, { identify: async () => 'x' });
  await expect(late.find(new Set(['u1']))).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/runtime at .*later\.sock does not tell.*--container-runtime-endpoint/),
  });
  const back = await Cri.listen(path);
  back.run('u1', '/run/netns/one');
  expect(await late.find(new Set(['u1']))).toEqual(new Map([['u1', { path: '/run/netns/one', id: 'x' }]]));
  back.close();
});
