// The connections between nodes and the registry, as TCP gives them: a call is carried out once or not at all, and its
// answer may get lost all the same; a stream brings its messages in order until it breaks. A partition in either direction
// stalls both, and whoever waits gives up after a while.

import { Vl3Error } from '../error.ts';
import type { StorePosition } from '../reconcile/seen-store.ts';
import { Counters } from './counters.ts';
import type { Internet } from './internet.ts';
import { attempt, type Outcome } from './outcome.ts';
import type { Random } from './random.ts';
import type { RegistryProcess } from './registry.ts';
import type { WatchMessage } from './registry-feed.ts';
import type { Scheduler } from './scheduler.ts';
import type { SimulatedIdentity } from './signer.ts';
import { WatchGaps } from './watch-gaps.ts';

/** The registries' names on the internet: of the networks' home, and of the partner. */
export const REGISTRY_HOST = 'registry';
export const PARTNER_HOST = 'partner registry';

const CALL_TIMEOUT_MS = 10_000;
/** How long TCP waits before it tries a stalled message again. */
const RETRANSMIT_MS = 1000;
const LONGEST_RETRANSMIT_MS = 60_000;

export interface WatchClient {
  onMessage(message: WatchMessage): void;
  onEnd(reason: Vl3Error): void;
}

export interface ControlPlaneDependencies {
  /** The registry's name on the internet. */
  readonly host: string;
  readonly scheduler: Scheduler;
  readonly internet: Internet;
  readonly random: Random;
  /** A stream that says nothing for this long is dead: src/agent/watch.ts. */
  readonly silenceMs: number;
  /** The running process, if any. */
  readonly registry: () => RegistryProcess | undefined;
  /** Runs work in the registry's process, so that it can die of it; undefined when it did. */
  readonly enter: <T>(work: () => T) => T | undefined;
  /** An answer reached whoever asked: what it says must never be lost again. */
  readonly acknowledged: (revision: number) => void;
}

interface Stream {
  readonly node: string;
  readonly close: () => void;
  readonly break: () => void;
}

export class ControlPlane {
  readonly counters = new Counters();
  readonly watchGaps: WatchGaps;
  readonly #dependencies: ControlPlaneDependencies;
  readonly #streams = new Set<Stream>();

  constructor(dependencies: ControlPlaneDependencies) {
    this.#dependencies = dependencies;
    this.watchGaps = new WatchGaps(() => dependencies.scheduler.now);
  }

  get streams(): number {
    return this.#streams.size;
  }

  /** Asks the registry; `done` is called once, possibly long after. */
  call<T>(
    node: string,
    name: string,
    work: (registry: RegistryProcess) => T,
    done: (outcome: Outcome<T>) => void,
  ): void {
    const { scheduler, registry, enter, acknowledged } = this.#dependencies;
    this.counters.add('calls');
    let isOver = false;
    const finish = (outcome: Outcome<T>): void => {
      if (isOver) return;
      isOver = true;
      timeout.cancel();
      if (!outcome.ok) this.counters.add(`calls failed: ${outcome.error.code}`);
      done(outcome);
    };
    const label = `${node} ${name}`;
    const timeout = scheduler.after(CALL_TIMEOUT_MS, `${label} timed out`, () =>
      finish(unavailable('the registry does not answer')),
    );
    this.#carry(node, 'up', `${label} asks`, () => {
      const running = registry();
      if (running === undefined) {
        this.#carry(node, 'down', `${label} is refused`, () => finish(unavailable('connection refused')));
        return;
      }
      const outcome = enter(() => attempt(() => work(running)));
      const { revision } = running;
      this.#carry(node, 'down', `${label} is answered`, () => {
        if (outcome === undefined || registry() !== running) {
          this.counters.add('answers lost');
          finish(unavailable('the connection was reset'));
          return;
        }
        if (outcome.ok) acknowledged(revision);
        finish(outcome);
      });
    });
  }

  /** Opens a stream. The client hears of its end once, whoever ended it, unless it closed it itself. */
  watch(
    node: string,
    identity: SimulatedIdentity,
    network: string,
    position: StorePosition | undefined,
    client: WatchClient,
  ): { close(): void } {
    const { scheduler, registry, enter } = this.#dependencies;
    let leave: (() => void) | undefined;
    let isOver = false;
    const label = `${node} watch of ${network}`;
    const close = (): void => {
      isOver = true;
      silence.cancel();
      leave?.();
      this.#streams.delete(stream);
    };
    const end = (reason: Vl3Error): void => {
      if (isOver) return;
      close();
      client.onEnd(reason);
    };
    const stream = { node, close, break: () => end(new Vl3Error('unavailable', 'the stream broke')) };
    this.#streams.add(stream);
    this.watchGaps.opened(node, network);
    const listen = () =>
      scheduler.after(this.#dependencies.silenceMs, `${label} went silent`, () =>
        end(new Vl3Error('unavailable', 'the watch went silent')),
      );
    let silence = listen();
    const deliver = (running: RegistryProcess, what: string, work: () => void, tries = 0): void => {
      if (isOver) return;
      this.#carry(
        node,
        'down',
        `${label} ${what}`,
        () => {
          if (isOver) return;
          if (registry() !== running) return stream.break();
          silence.cancel();
          silence = listen();
          work();
        },
        () => deliver(running, what, work, tries + 1),
        Math.min(LONGEST_RETRANSMIT_MS, RETRANSMIT_MS * 2 ** Math.min(tries, 10)),
      );
    };
    this.#carry(node, 'up', `${label} opens`, () => {
      const running = registry();
      if (isOver) return;
      if (running === undefined) {
        this.#carry(node, 'down', `${label} is refused`, () => stream.break());
        return;
      }
      const sink = {
        send: (message: WatchMessage, delivered: () => void) =>
          deliver(running, `step ${message.step?.kind ?? 'progress'} ${message.revision}`, () => {
            this.watchGaps.heard(node, network);
            client.onMessage(message);
            enter(delivered);
          }),
        end: (reason: Vl3Error) => deliver(running, 'ends', () => end(reason)),
      };
      const opened = enter(() => attempt(() => running.watch(identity, network, position, sink)));
      if (opened === undefined) return;
      if (opened.ok) leave = opened.answer;
      else deliver(running, 'is refused', () => end(opened.error));
    });
    return { close };
  }

  /** Breaks every stream. */
  breakStreams(): void {
    for (const stream of [...this.#streams]) {
      this.counters.add('streams broken');
      stream.break();
    }
  }

  /** The node's agent is dead, and its connections with it. */
  abandon(node: string): void {
    for (const stream of [...this.#streams]) if (stream.node === node) stream.close();
  }

  /** One message. TCP needs both directions; what cannot pass is given to `stalled` after a while, or lost. */
  #carry(
    node: string,
    direction: 'up' | 'down',
    label: string,
    arrive: () => void,
    stalled?: () => void,
    again = RETRANSMIT_MS,
  ): void {
    const { scheduler, internet, random, host } = this.#dependencies;
    const [from, to] = direction === 'up' ? [node, host] : [host, node];
    const [least, most] = internet.weather.delay;
    let delay = least + random.fraction() * (most - least);
    // A lost segment is sent again.
    while (random.chance(Math.min(0.9, internet.weather.loss))) delay += 200;
    scheduler.after(delay, label, () => {
      if (!internet.isBlocked(from, to)) return arrive();
      this.counters.add('control messages blocked');
      if (stalled !== undefined) scheduler.after(again, `${label}, once more`, stalled);
    });
  }
}

const unavailable = (message: string): { readonly ok: false; readonly error: Vl3Error } => ({
  ok: false,
  error: new Vl3Error('unavailable', message),
});
