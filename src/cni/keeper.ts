// Keeps the plugin's entry in the cluster's CNI configuration while that is rewritten: by upgrades, by its own daemon. Who
// takes the entry out again and again does so on purpose (Cilium with cni.exclusive does): that is said, not fought. An entry
// without its program fails every pod of the node: one that is lost is put back, or else the entry goes.

import { watch } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Vl3Error } from '../../native-free/error.ts';
import {
  type EntryPut,
  hasCiliumBackups,
  hasProgram,
  installEntry,
  installProgram,
  type ProgramOptions,
  removeEntry,
} from './installer.ts';

export interface KeeperOptions {
  readonly netDirectory: string;
  readonly socket: string | undefined;
}

export interface KeeperDeps {
  /** One line for people. */
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
  /** Milliseconds that only grow. */
  readonly now: () => number;
}

/** Several writes of a program that is at it are one. */
const SETTLE_MS = 200;
/** For what no watch tells, as of some file systems. */
const LOOK_MS = 10_000;
/** An entry that is taken out this often within so long is not wanted. */
const TIMES = 5;
const WITHIN_MS = 60_000;
/** How long Cilium has to take a new entry out. */
const TRIAL_MS = 3_000;
const CILIUM = 'cilium-cni';

const exclusive = (why: string): Vl3Error =>
  new Vl3Error(
    'failed-precondition',
    `${why}: set cni.exclusive=false in Cilium's Helm values and install again, or leave the plugin out: the agent attaches pods by its informer alone`,
  );

/** Puts the entry in once; with Cilium it stays and watches whether it is let be. Throws Vl3Error. */
export const putEntry = async (
  { netDirectory, socket }: KeeperOptions,
  { signal }: Pick<KeeperDeps, 'signal'>,
): Promise<EntryPut> => {
  const put = installEntry(netDirectory, socket);
  if (put.owner !== CILIUM || put.changed.length === 0) return put;
  await sleep(TRIAL_MS, undefined, { signal });
  if (installEntry(netDirectory, socket).changed.length === 0) return put;
  const kept = hasCiliumBackups(netDirectory) ? ', and sets the files of others aside,' : '';
  throw exclusive(`Cilium on this node takes vl3's entry out of ${put.main}${kept} at once`);
};

/**
 * Puts the program and the entry back whenever they are missing, until `signal` aborts. Throws Vl3Error when somebody takes the
 * entry out for good.
 */
export const keepEntry = async (
  options: KeeperOptions & { readonly program: ProgramOptions },
  deps: KeeperDeps,
): Promise<void> => {
  const { netDirectory, socket, program } = options;
  const { say, signal, now } = deps;
  let put: number[] = [];
  let waiting = '';
  for await (const _ of changesOf(netDirectory, signal)) {
    try {
      const lost = hasProgram(program) ? [] : putProgram(program, netDirectory);
      for (const path of lost) say(`wrote ${path}, which was not there`);
      const { main, owner, changed } = installEntry(netDirectory, socket);
      waiting = '';
      if (changed.length === 0) continue;
      say(`${main} had no entry of vl3: put in`);
      put = [...put.filter((at) => now() - at < WITHIN_MS), now()];
      if (put.length < TIMES) continue;
      const what = `somebody took vl3's entry out of ${main} ${TIMES} times within ${WITHIN_MS / 1000} s`;
      if (owner === CILIUM) throw exclusive(what);
      throw new Vl3Error('aborted', `${what}: find out who, and install again`);
    } catch (error) {
      // A configuration that is not there yet, or is being written, is waited for.
      if (!(error instanceof Vl3Error) || error.code !== 'failed-precondition' || put.length >= TIMES)
        throw error;
      if (error.message !== waiting) say(`waiting: ${error.message}`);
      waiting = error.message;
    }
  }
};

/** Answers what was written. Throws Vl3Error when it cannot be; then there is no entry without a program, either. */
export const putProgram = (program: ProgramOptions, netDirectory: string): string[] => {
  try {
    return installProgram(program);
  } catch (error) {
    if (!hasProgram(program)) removeEntry(netDirectory);
    throw error;
  }
};

/** Once at the beginning, after changes in the directory, and now and then. Ends when `signal` aborts. */
async function* changesOf(directory: string, signal: AbortSignal): AsyncGenerator<undefined> {
  let wake = (): void => undefined;
  using watcher = watchDirectory(directory, () => wake());
  while (!signal.aborted) {
    const changed = new Promise<void>((resolve) => {
      wake = resolve;
    });
    yield undefined;
    const looking = new AbortController();
    const over = AbortSignal.any([signal, looking.signal]);
    // A watch that could not be had, as of a directory that is not there yet, is tried again with each look.
    await Promise.race([changed, sleep(watcher.isOn() ? LOOK_MS : 1_000, undefined, { signal: over })]).catch(
      () => {},
    );
    looking.abort();
    await sleep(SETTLE_MS, undefined, { signal }).catch(() => {});
    watcher.renew();
  }
}

const watchDirectory = (directory: string, changed: () => void) => {
  let watcher: ReturnType<typeof watch> | undefined;
  const close = (): void => {
    watcher?.close();
    watcher = undefined;
  };
  const renew = (): void => {
    if (watcher !== undefined) return;
    try {
      watcher = watch(directory, changed);
      watcher.on('error', close);
    } catch {
      watcher = undefined;
    }
  };
  renew();
  return { isOn: () => watcher !== undefined, renew, [Symbol.dispose]: close };
};
