import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ensureNamespace,
  listNamespaces,
  namedNamespace,
  netnsIdentity,
  openNamespace,
  removeNamespace,
  sameNamespace,
} from '../../../src/netns/namespace.ts';
import { Tools } from '../../../src/netns/tool.ts';

const tools = new Tools();
const name = `vl3t-${randomBytes(3).toString('hex')}-n`;
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vl3t-'));
});

afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await removeNamespace(tools, name);
});

describe('a path', () => {
  test('to a network namespace has its identity, whatever the path', async () => {
    const own = await netnsIdentity(tools, '/proc/self/ns/net');
    expect(sameNamespace(own, await netnsIdentity(tools, `/proc/${process.pid}/ns/net`))).toBe(true);
    await ensureNamespace(tools, name);
    const other = await netnsIdentity(tools, `/run/netns/${name}`);
    expect(sameNamespace(own, other)).toBe(false);
    expect(await namedNamespace(name)).toEqual(other);
  });

  test('to nothing is not found', async () => {
    for (const path of ['/run/netns/vl3t-none', '/proc/0/ns/net', '/proc/4194305/ns/net']) {
      await expect(netnsIdentity(tools, path)).rejects.toMatchObject({ code: 'not-found' });
    }
  });

  test('to a file, a folder, a FIFO, a device or another kind of namespace is refused', async () => {
    const file = join(folder, 'file');
    const fifo = join(folder, 'fifo');
    writeFileSync(file, '');
    execFileSync('sh', ['-c', 'mkfifo "$0"', fifo]);
    for (const path of [file, folder, fifo, '/dev/null', '/proc/self/ns/mnt', '/proc/self/ns/uts']) {
      await expect(netnsIdentity(tools, path), path).rejects.toMatchObject({
        code: 'invalid-argument',
        message: expect.stringContaining('is not a network namespace'),
      });
    }
  });

  test('to a guarded process is refused with what would help, also to root', async () => {
    // Where nothing is guarded, these are refused in other words: the second is the host's own.
    const guarded = await netnsIdentity(tools, '/proc/1/ns/mnt').catch((error: unknown) => error);
    expect(guarded).toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('is not a network namespace: name one like /proc/PID/ns/net'),
    });
    const refused = await netnsIdentity(tools, '/proc/1/ns/net').catch((error: unknown) => error);
    if (refused instanceof Error)
      expect(refused.message).toMatch(/may not be opened: the agent needs CAP_SYS_PTRACE/);
  });

  test('opened stays the same namespace when its name is given to another', async () => {
    await ensureNamespace(tools, name);
    await using handle = await openNamespace(tools, `/run/netns/${name}`);
    await removeNamespace(tools, name);
    await ensureNamespace(tools, name);
    expect(sameNamespace(handle, await netnsIdentity(tools, `/run/netns/${name}`))).toBe(false);
    expect(sameNamespace(handle, await netnsIdentity(tools, handle.path))).toBe(true);
  });
});

describe('a named namespace', () => {
  test('is made once and removed once, each said twice', async () => {
    await ensureNamespace(tools, name);
    const first = await namedNamespace(name);
    await ensureNamespace(tools, name);
    expect(first).toBeDefined();
    expect(await namedNamespace(name)).toEqual(first);
    expect(await listNamespaces(name)).toEqual([name]);
    await removeNamespace(tools, name);
    await removeNamespace(tools, name);
    expect(await namedNamespace(name)).toBeUndefined();
  });

  test('is made anew where a crash left an empty file in its place', async () => {
    await removeNamespace(tools, name);
    writeFileSync(`/run/netns/${name}`, '');
    expect(await namedNamespace(name)).toBeUndefined();
    await ensureNamespace(tools, name);
    expect(await namedNamespace(name)).toBeDefined();
  });

  test.each(['', '../x', 'a/b', '-x', 'a b', '.', '..'])("can't be called %j", async (bad) => {
    await expect(ensureNamespace(tools, bad)).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(removeNamespace(tools, bad)).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});

describe('a tool', () => {
  test('that refuses is quoted, with the command it refused', async () => {
    const input = 'link set dev lo up\nlink set dev nonesuch up\n';
    await expect(
      tools.run({ program: 'ip', arguments: ['-batch', '-'], netns: `/run/netns/${name}`, input }),
    ).rejects.toMatchObject({
      message: '"ip link set dev nonesuch up" failed: Cannot find device "nonesuch"',
    });
  });

  test('that hangs is ended', async () => {
    const impatient = new Tools({ timeoutMs: 50 });
    await expect(impatient.run({ program: 'sh', arguments: ['-c', 'sleep 5'] })).rejects.toMatchObject({
      code: 'unavailable',
    });
  });

  test('that is aborted is ended, also while it waits for its turn', async () => {
    const one = new Tools({ parallel: 1 });
    const controller = new AbortController();
    const calls = [1, 2].map(() =>
      one.run({ program: 'sh', arguments: ['-c', 'sleep 5'] }, controller.signal),
    );
    controller.abort();
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'aborted' });
    expect(await one.run({ program: 'sh', arguments: ['-c', 'echo still here'] })).toBe('still here\n');
  });

  test('runs in its lane one after another, and a failure there holds nobody up', async () => {
    const log = join(folder, 'log');
    const step = (text: string, status = 0): Promise<string> =>
      tools.run({
        program: 'sh',
        arguments: [
          '-c',
          'echo "begin $1" >>"$0"; sleep 0.02; echo "end $1" >>"$0"; exit "$2"',
          log,
          text,
          String(status),
        ],
        lane: 'one',
      });
    const results = await Promise.allSettled([step('a'), step('b', 1), step('c')]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    const lines = execFileSync('cat', [log], { encoding: 'utf8' }).trim().split('\n');
    expect(lines).toEqual(['begin a', 'end a', 'begin b', 'end b', 'begin c', 'end c']);
  });

  test('that is not installed is named', async () => {
    const missing = tools.run({ program: 'nonesuch' as 'ip', arguments: [] });
    await expect(missing).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringContaining('"nonesuch" is not installed'),
    });
    const inside = tools.run({ program: 'nonesuch' as 'ip', arguments: [], netns: '/proc/self/ns/net' });
    await expect(inside).rejects.toMatchObject({ code: 'failed-precondition' });
  });
});
