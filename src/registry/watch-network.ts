// One watcher of one network: a snapshot or the changes since where it stood, then what follows, and a sign of life
// when nothing does. It ends with an error as soon as the node is deleted, leaves, or its certificate runs out.

import { setTimeout as sleep } from 'node:timers/promises';
import { Vl3Error } from '../../native-free/error.ts';
import { check, name as nameSchema } from '../../native-free/registry/model.ts';
import type { WatchNetworkRequest, WatchNetworkResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { RegistryContext } from './context.ts';
import { progressMessage } from './messages.ts';
import { Pace } from './pace.ts';
import { Turns } from './turns.ts';

/** Of all nodes together: each costs a stream and a little memory. */
const MAX_WATCHERS = 20_000;

const pace = new Pace();

/**
 * A snapshot of a large network takes a megabyte, and after a restart everybody wants one: so many are under way at once,
 * each until its stream has taken it.
 */
const snapshots = new Turns({ atOnce: 32, longestMs: 5000 });

export interface Watcher {
  readonly name: string;
  readonly serial: string;
  readonly notAfter: number;
}

export async function* watchNetwork(
  context: RegistryContext,
  request: WatchNetworkRequest,
  watcher: Watcher,
  callSignal: AbortSignal,
  /** Whether the stream carries JSON, by its content type. */
  isJson: boolean,
): AsyncGenerator<WatchNetworkResponse> {
  const { feed, store, stamps, counters, now } = context;
  const { network } = request;
  check(nameSchema, network, 'network');
  if (counters.watchers >= MAX_WATCHERS) {
    throw new Vl3Error(
      'resource-exhausted',
      `the registry serves ${MAX_WATCHERS} watches, which is the most`,
    );
  }
  const signal = AbortSignal.any([callSignal, context.stopping]);
  counters.watchers++;
  let turn: (() => void) | undefined;
  const progress = (): WatchNetworkResponse => {
    const { revision } = feed.view;
    return progressMessage({ storeId: store.identity, stamp: stamps.of(revision) }, revision);
  };
  try {
    // Whatever the watcher wrote before it asked is in what it gets.
    const { revision: present } = await store.read([]);
    if (!(await feed.caughtUp(present, signal))) return;
    const resumes =
      request.storeId === store.identity &&
      request.afterRevision > 0n &&
      request.afterRevision <= BigInt(present);
    let seen = resumes ? Number(request.afterRevision) : undefined;
    let signOfLifeDue = 0;
    let nextAt = 0;
    for (;;) {
      mustStillWatch(context, network, watcher);
      const pause = nextAt - performance.now();
      if (pause > 0) {
        await sleep(pause, undefined, { signal }).catch(() => {});
        if (signal.aborted) break;
        pace.wentOn(nextAt, performance.now());
        continue;
      }
      const due = performance.now() >= signOfLifeDue;
      const shared = feed.next(network, seen);
      if (shared?.message.step.case === 'snapshot' && turn === undefined) {
        turn = await snapshots.take();
        if (signal.aborted) break;
        // Another one by now.
        continue;
      }
      const message = shared?.message ?? (due ? progress() : undefined);
      if (message !== undefined) {
        yield shared === undefined || isJson ? message : shared.encoded;
        turn?.();
        turn = undefined;
        nextAt = pace.next(counters.watchers, performance.now());
        if (message.step.case === 'delta' && message.step.value.networkDeleted) return;
        seen = Number(message.revision);
        signOfLifeDue = performance.now() + context.progressMs;
        continue;
      }
      const remaining = Math.min(signOfLifeDue - performance.now(), watcher.notAfter - now());
      await feed.changed(network, signal, Math.max(0, Math.ceil(remaining)));
      if (signal.aborted) break;
    }
    if (context.stopping.aborted) {
      throw new Vl3Error('unavailable', 'the registry is stopping: connect again in a moment');
    }
  } finally {
    turn?.();
    counters.watchers--;
  }
}

const mustStillWatch = (context: RegistryContext, network: string, watcher: Watcher): void => {
  const { view } = context.feed;
  const node = view.node(watcher.name);
  if (
    node === undefined ||
    node.deletedAt !== undefined ||
    node.refused.some(({ serial }) => serial === watcher.serial)
  ) {
    throw new Vl3Error(
      'unauthenticated',
      `node "${watcher.name}" was deleted: enrol it with a new join token`,
    );
  }
  if (watcher.notAfter <= context.now()) {
    throw new Vl3Error('unauthenticated', 'the SVID of this watch has expired: connect with a renewed one');
  }
  if (!view.isMember(network, watcher.name)) {
    throw new Vl3Error(
      'permission-denied',
      `node "${watcher.name}" is not on network "${network}": it must join first`,
    );
  }
};
