// Network namespaces as files: their identity, a handle that keeps one alive and unmistakable while work goes on
// (a PID may be taken by another process meanwhile), and the named ones in /run/netns.

import { constants } from 'node:fs';
import { open, readdir, readFile, readlink, stat } from 'node:fs/promises';
import { Vl3Error } from '../../native-free/error.ts';
import { checkNamespaceName } from './names.ts';
import { ToolFailure, type ToolRunner } from './tool.ts';

const NAMED = '/run/netns';

/** What makes two paths the same namespace. */
export interface NamespaceIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
}

/** An open network namespace: `path` means it, and nothing else, until the handle is disposed of. */
export interface NamespaceHandle extends NamespaceIdentity, AsyncDisposable {
  readonly path: string;
}

/** The path of a namespace made by `ip netns add`. */
export const namedNamespacePath = (name: string): string => {
  checkNamespaceName(name);
  return `${NAMED}/${name}`;
};

export const sameNamespace = (a: NamespaceIdentity, b: NamespaceIdentity): boolean =>
  a.dev === b.dev && a.ino === b.ino;

/** The identity of whatever file is at `path`. Throws as stat does. */
const identityOf = async (path: string): Promise<NamespaceIdentity> => {
  const { dev, ino } = await stat(path, { bigint: true });
  return { dev, ino };
};

/**
 * Opens the network namespace at `path` (/proc/PID/ns/net, /run/netns/NAME ...). Throws Vl3Error: 'not-found' when
 * nothing is there, 'invalid-argument' when it is no network namespace.
 */
export const openNamespace = async (tools: ToolRunner, path: string): Promise<NamespaceHandle> => {
  // O_NONBLOCK: a FIFO in its place must not hold us up.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw cannotOpen(path, error);
  });
  try {
    const { dev, ino } = await file.stat({ bigint: true });
    const handle = `/proc/${process.pid}/fd/${file.fd}`;
    if (dev !== (await identityOf('/proc/self/ns/net')).dev) throw notANamespace(path);
    if (!(await isKnownNetwork(handle, ino))) {
      // A bind mount this mount namespace doesn't show: entering it tells.
      await tools.run({ program: 'true', arguments: [], netns: handle }).catch((error: unknown) => {
        const wrongKind = error instanceof ToolFailure && error.code === 'invalid-argument';
        throw wrongKind ? notANamespace(path, error) : error;
      });
    }
    return { path: handle, dev, ino, [Symbol.asyncDispose]: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
};

/** nsfs names a namespace "net:[INODE]": in its own link, or, of a bind mount, in the list of mounts. */
const isKnownNetwork = async (handle: string, ino: bigint): Promise<boolean> => {
  const name = `net:[${ino}]`;
  if ((await readlink(handle)) === name) return true;
  return (await readFile('/proc/self/mountinfo', 'utf8')).includes(` ${name} `);
};

/** The identity of the network namespace at `path`. Throws as openNamespace does. */
export const netnsIdentity = async (tools: ToolRunner, path: string): Promise<NamespaceIdentity> => {
  await using handle = await openNamespace(tools, path);
  return { dev: handle.dev, ino: handle.ino };
};

/** Throws Vl3Error('invalid-argument') when it is the namespace of the agent or of the machine itself. */
export const refuseHostNamespace = async (identity: NamespaceIdentity, path: string): Promise<void> => {
  for (const own of ['/proc/self/ns/net', '/proc/1/ns/net']) {
    const host = await identityOf(own).catch(() => undefined);
    if (host !== undefined && sameNamespace(host, identity)) {
      throw new Vl3Error(
        'invalid-argument',
        `${path} is the host's own network namespace: give the workload a namespace of its own, e.g. with "vl3 run"`,
      );
    }
  }
};

/** Creates the named namespace unless it is there; also after a crash that left an empty file in its place. */
export const ensureNamespace = async (tools: ToolRunner, name: string): Promise<void> => {
  const path = namedNamespacePath(name);
  const nsfs = (await identityOf('/proc/self/ns/net')).dev;
  const found = await identityOf(path).catch(() => undefined);
  if (found?.dev === nsfs) return;
  if (found !== undefined) await tools.run({ program: 'ip', arguments: ['netns', 'delete', name] });
  await tools.run({ program: 'ip', arguments: ['netns', 'add', name] });
};

/** Removes the named namespace and what is in it; one that is not there is fine. */
export const removeNamespace = async (tools: ToolRunner, name: string): Promise<void> => {
  const path = namedNamespacePath(name);
  if ((await identityOf(path).catch(() => undefined)) === undefined) return;
  await tools.run({ program: 'ip', arguments: ['netns', 'delete', name] });
};

/** The identity of the named namespace; undefined when there is none. */
export const namedNamespace = async (name: string): Promise<NamespaceIdentity | undefined> => {
  const found = await identityOf(namedNamespacePath(name)).catch(() => undefined);
  return found?.dev === (await identityOf('/proc/self/ns/net')).dev ? found : undefined;
};

/** The names in /run/netns that begin with `prefix`, sorted. */
export const listNamespaces = async (prefix: string): Promise<string[]> => {
  const names = await readdir(NAMED).catch(() => []);
  return names.filter((name) => name.startsWith(prefix)).sort();
};

const cannotOpen = (path: string, error: unknown): Vl3Error => {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'ESRCH' || code === 'ENOTDIR') {
    const sentence = `there is no network namespace at ${path}: the workload may have ended, or the path is wrong`;
    return new Vl3Error('not-found', sentence, { cause: error });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    if (OF_ANOTHER_KIND.test(path)) return notANamespace(path, error);
    return new Vl3Error('permission-denied', `${path} may not be opened: ${remedyOfRefusal()}`, {
      cause: error,
    });
  }
  return new Vl3Error(
    'invalid-argument',
    `${path} can't be opened as a network namespace (${String(code)})`,
    {
      cause: error,
    },
  );
};

/** /proc/PID/ns/mnt and the like. */
const OF_ANOTHER_KIND = /\/ns\/(?!net$)[a-z_]+$/;

/** Root is refused, too, where a process is guarded from others: of another container, or by a security module. */
const remedyOfRefusal = (): string =>
  process.geteuid?.() === 0
    ? 'the agent needs CAP_SYS_PTRACE in the namespaces of that process, or the namespace by a name in /run/netns'
    : 'run as root';

const notANamespace = (path: string, cause?: unknown): Vl3Error =>
  new Vl3Error(
    'invalid-argument',
    `${path} is not a network namespace: name one like /proc/PID/ns/net or /run/netns/NAME`,
    cause === undefined ? undefined : { cause },
  );
