// The watches of networks: a snapshot or the changes since where a watcher stood, then what follows, and a sign of life
// when nothing does. One ends with an error as soon as the node is deleted, leaves, or its certificate runs out.
//
// A watch's first step goes through the framework, which opens the stream; after it, streams of gRPC are given one frame
// that all of them share (watch-stream.ts). Others, JSON among them, go on through the framework.

import type { Writable } from 'node:stream';
import { createContextKey } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import { foreignDomainOf } from '../../native-free/registry/foreign-key.ts';
import { check, name as nameSchema } from '../../native-free/registry/model.ts';
import { notEnrolled } from '../../native-free/registry/rules.ts';
import type { WatchNetworkRequest, WatchNetworkResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { RegistryContext } from './context.ts';
import { progressMessage } from './messages.ts';
import { Pace } from './pace.ts';
import { Rounds } from './rounds.ts';
import { SharedMessage } from './shared-message.ts';
import { Turns } from './turns.ts';
import { isLast, sharedFrames } from './watch-stream.ts';

/** Of all nodes together: each costs a stream and a little memory. */
const MAX_WATCHERS = 20_000;

/** Of all nodes of one partner, that the domain's own find a place however many those are. */
const MAX_OF_PARTNER = 4096;

/** Of one node on one network: a connection that it lost may still seem to be there, but nobody gets the places of all. */
const MAX_OF_NODE = 4;

/** Of a frame. */
const SMALL_BYTES = 4096;

/** Of the HTTP/2 stream that the call is on; undefined on HTTP/1.1. */
export const streamKey = createContextKey<Writable | undefined>(undefined, {
  description: 'HTTP/2 stream',
});

export interface Watcher {
  readonly name: string;
  readonly serial: string;
  readonly notAfter: number;
}

/** How the steps go out. */
export interface Carrier {
  /** Of a call whose frames are gRPC's; undefined: everything goes through the framework. */
  readonly stream: Writable | undefined;
  readonly isJson: boolean;
}

export class Watches {
  readonly #context: RegistryContext;
  readonly #pace = new Pace();
  readonly #rounds = new Map<string, Rounds>();
  /** By node and network, the oldest first. */
  readonly #ofNode = new Map<string, AbortController[]>();
  /**
   * A snapshot of a large network takes a megabyte, and after a restart everybody wants one: so many are under way at
   * once, each until its stream has taken it.
   */
  readonly #snapshots = new Turns({ atOnce: 32, longestMs: 5000 });
  #progress: SharedMessage | undefined;
  /** Watches by domain. */
  readonly #ofPartner = new Map<string, number>();

  constructor(context: RegistryContext) {
    this.#context = context;
  }

  async *watch(
    request: WatchNetworkRequest,
    watcher: Watcher,
    carrier: Carrier,
    callSignal: AbortSignal,
  ): AsyncGenerator<WatchNetworkResponse> {
    const { counters, stopping } = this.#context;
    const { network } = request;
    check(nameSchema, network, 'network');
    if (counters.watchers >= MAX_WATCHERS) {
      throw new Vl3Error(
        'resource-exhausted',
        `the registry serves ${MAX_WATCHERS} watches, which is the most`,
      );
    }
    const domain = foreignDomainOf(watcher.name);
    if (domain !== undefined && (this.#ofPartner.get(domain) ?? 0) >= MAX_OF_PARTNER) {
      throw new Vl3Error(
        'resource-exhausted',
        `the nodes of ${domain} have ${MAX_OF_PARTNER} watches open, which is the most of one partner`,
      );
    }
    const place = this.#takePlace(`${watcher.name} ${network}`);
    this.#countOfPartner(domain, 1);
    const signal = AbortSignal.any([callSignal, stopping, place.displaced]);
    counters.watchers++;
    const rounds = this.#roundsOf(network);
    const leave = rounds.join(() => {});
    try {
      yield* this.#steps(request, watcher, carrier, rounds, signal);
      if (stopping.aborted) {
        throw new Vl3Error('unavailable', 'the registry is stopping: connect again in a moment');
      }
      if (place.displaced.aborted) {
        throw new Vl3Error(
          'aborted',
          `node "${watcher.name}" has begun ${MAX_OF_NODE} later watches of "${network}"`,
        );
      }
    } finally {
      place.leave();
      this.#countOfPartner(domain, -1);
      counters.watchers--;
      leave();
      this.#forgetEmpty(network, rounds);
    }
  }

  #countOfPartner(domain: string | undefined, change: 1 | -1): void {
    if (domain === undefined) return;
    const count = (this.#ofPartner.get(domain) ?? 0) + change;
    if (count === 0) this.#ofPartner.delete(domain);
    else this.#ofPartner.set(domain, count);
  }

  #takePlace(key: string): { readonly displaced: AbortSignal; readonly leave: () => void } {
    const mine = new AbortController();
    const places = this.#ofNode.get(key) ?? [];
    this.#ofNode.set(key, places);
    places.push(mine);
    if (places.length > MAX_OF_NODE) places.shift()?.abort();
    const leave = () => {
      const at = places.indexOf(mine);
      if (at >= 0) places.splice(at, 1);
      if (places.length === 0) this.#ofNode.delete(key);
    };
    return { displaced: mine.signal, leave };
  }

  async *#steps(
    request: WatchNetworkRequest,
    watcher: Watcher,
    { stream, isJson }: Carrier,
    rounds: Rounds,
    signal: AbortSignal,
  ): AsyncGenerator<WatchNetworkResponse> {
    const { feed, store, progressMs } = this.#context;
    const { network } = request;
    const mustStill = () => mustStillWatch(this.#context, network, watcher);
    // Whatever the watcher wrote before it asked is in what it gets.
    const { revision: present } = await store.read([]);
    if (!(await feed.caughtUp(present, signal))) return;
    mustStill();
    const resumes =
      request.storeId === store.identity &&
      request.afterRevision > 0n &&
      request.afterRevision <= BigInt(present);
    let seen = resumes ? Number(request.afterRevision) : undefined;
    let signOfLifeDue = 0;
    // Those who come together are served together.
    rounds.want();
    for (;;) {
      await rounds.next(signal);
      if (signal.aborted) return;
      mustStill();
      const due = performance.now() >= signOfLifeDue;
      const shared = feed.next(network, watcher.name, seen) ?? (due ? this.#signOfLife() : undefined);
      if (shared === undefined) continue;
      const { message } = shared;
      const giveBack = message.step.case === 'snapshot' ? await this.#snapshots.take() : undefined;
      try {
        if (signal.aborted) return;
        yield isJson ? message : shared.encoded;
      } finally {
        giveBack?.();
      }
      if (isLast(message)) return;
      seen = Number(message.revision);
      signOfLifeDue = performance.now() + progressMs;
      if (stream === undefined) continue;
      // As long as the framework waits for the next message it keeps the last one, several times: it gets a small one.
      if (shared.frame.length > SMALL_BYTES) yield this.#signOfLifeAt(seen).encoded;
      const from = { seen, progressMs };
      const next = (after: number) => feed.next(network, watcher.name, after);
      const source = { next, signOfLife: () => this.#signOfLife(), mustStill };
      await sharedFrames(stream, from, source, rounds, signal);
      return;
    }
  }

  #signOfLife(): SharedMessage {
    return this.#signOfLifeAt(this.#context.feed.view.revision);
  }

  #signOfLifeAt(revision: number): SharedMessage {
    const { store, stamps } = this.#context;
    if (this.#progress === undefined || this.#progress.message.revision !== BigInt(revision)) {
      const position = { storeId: store.identity, stamp: stamps.of(revision) };
      this.#progress = new SharedMessage(progressMessage(position, revision));
    }
    return this.#progress;
  }

  #roundsOf(network: string): Rounds {
    let rounds = this.#rounds.get(network);
    if (rounds === undefined) {
      const { counters, progressMs, feed } = this.#context;
      const tickMs = Math.max(10, Math.min(1000, progressMs / 4));
      const made = new Rounds({ tickMs, watchers: () => counters.watchers }, this.#pace);
      feed.onChange(network, () => made.want());
      this.#rounds.set(network, made);
      rounds = made;
    }
    return rounds;
  }

  #forgetEmpty(network: string, rounds: Rounds): void {
    if (!rounds.isEmpty || this.#rounds.get(network) !== rounds) return;
    this.#rounds.delete(network);
    this.#context.feed.onChange(network, undefined);
    rounds[Symbol.dispose]();
  }
}

const mustStillWatch = (context: RegistryContext, network: string, watcher: Watcher): void => {
  const { view } = context.feed;
  const domain = foreignDomainOf(watcher.name);
  const node = domain === undefined ? view.node(watcher.name) : undefined;
  if (domain === undefined && (node === undefined || node.deletedAt !== undefined))
    throw notEnrolled('deleted', watcher.name);
  if (domain !== undefined && !view.isFederated(domain))
    throw new Vl3Error('permission-denied', `the federation with ${domain} has ended`);
  if (domain !== undefined && context.partners.bundleFor(domain)?.certificates.length === 0)
    throw new Vl3Error('unauthenticated', `nothing counts any more by which nodes of ${domain} are known`);
  if (node?.refused.some(({ serial }) => serial === watcher.serial)) {
    throw new Vl3Error(
      'unauthenticated',
      `node "${watcher.name}" enrolled anew: connect with its present SVID`,
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
