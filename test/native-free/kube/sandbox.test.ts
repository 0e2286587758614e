// Which sandbox of a pod counts, and where runtimes say that its network namespace is.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { currentSandboxes, networkNamespacePaths } from '../../../native-free/kube/sandbox.ts';
import { readWatchEvent } from '../../../native-free/kube/watch-event.ts';

const spec = (...namespaces: object[]) => ({ linux: { namespaces } });
const paths = (info: unknown): string[] => networkNamespacePaths(JSON.stringify(info));

test('the youngest ready sandbox of a pod is it', () => {
  const one = (id: string, uid: string, createdAt: bigint, isReady = true) => ({
    id,
    uid,
    namespace: 'team-a',
    name: 'web',
    createdAt,
    isReady,
  });
  const all = [
    one('a', 'u', 1n),
    one('b', 'u', 3n),
    one('c', 'u', 2n),
    one('d', 'u', 9n, false),
    one('e', '', 1n),
  ];
  expect([...currentSandboxes(all)]).toEqual([['u', all[1]]]);
});

test('a namespace is at its path, which old hosts call otherwise, or else of the process', () => {
  const runtimeSpec = spec({ type: 'pid' }, { type: 'network', path: '/var/run/netns/cni-1' });
  expect(paths({ pid: 7, runtimeSpec })).toEqual([
    '/var/run/netns/cni-1',
    '/run/netns/cni-1',
    '/proc/7/ns/net',
  ]);
  expect(paths({ pid: 7, runtimeSpec: spec({ type: 'network' }) })).toEqual(['/proc/7/ns/net']);
  expect(paths({ pid: 7 })).toEqual(['/proc/7/ns/net']);
});

// Written after the sources of CRI-O (which runs no infra container unless it is told to) and containerd: neither could be run
// here with a kubelet.
test.each([
  ['cri-o', ['/run/netns/0d6c4b1e-52f1-4d3b-9d0b-3c4f0f5f4a11']],
  ['cri-o-infra', ['/run/netns/8f1d2c3b-0000-4111-8222-333344445555', '/proc/4211/ns/net']],
  ['cri-o-host-network', []],
  ['containerd', ['/run/netns/cni-3a1c5d7e-1111-2222-3333-444455556666', '/proc/5120/ns/net']],
])("a namespace is found in %s's words", (name, expected) => {
  const file = resolve(import.meta.dirname, `../../fixtures/cri/${name}.json`);
  const found = networkNamespacePaths(readFileSync(file, 'utf8'));
  expect(found.filter((path) => !path.startsWith('/var/run/'))).toEqual(expected);
});

test("a sandbox on its host's network has none", () => {
  expect(paths({ pid: 7, runtimeSpec: spec({ type: 'pid' }) })).toEqual([]);
});

test('what is malformed says nothing', () => {
  for (const info of [undefined, null, [], 'x', { pid: -1 }, { pid: '7' }, { runtimeSpec: 'x' }, {}])
    expect(paths(info ?? null)).toEqual([]);
  expect(paths({ runtimeSpec: spec({ type: 'network', path: '../../etc' }) })).toEqual([]);
  expect(paths({ runtimeSpec: spec({ type: 'network', path: '/a\0b' }) })).toEqual([]);
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      for (const path of networkNamespacePaths(text)) expect(path).toMatch(/^\//);
    }),
  );
});

test('a line of a watch is a change, a bookmark, the end of what can be told, or a failure', () => {
  const object = { metadata: { resourceVersion: '7' } };
  expect(readWatchEvent('ADDED', object)).toEqual({ kind: 'present', object, resourceVersion: '7' });
  expect(readWatchEvent('MODIFIED', object)).toMatchObject({ kind: 'present' });
  expect(readWatchEvent('DELETED', object)).toMatchObject({ kind: 'deleted' });
  expect(readWatchEvent('BOOKMARK', object)).toEqual({ kind: 'bookmark', resourceVersion: '7' });
  expect(readWatchEvent('ERROR', { code: 410 })).toEqual({ kind: 'gone' });
  expect(readWatchEvent('ERROR', { code: 500, message: 'no' })).toEqual({ kind: 'failed', message: 'no' });
  expect(readWatchEvent('ERROR', null)).toMatchObject({ kind: 'failed' });
  expect(readWatchEvent('ADDED', {})).toMatchObject({ kind: 'failed' });
  expect(readWatchEvent('RENAMED', object)).toMatchObject({ kind: 'failed' });
});
