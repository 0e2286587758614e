// All objects of one kind as the API server has them: listed, then watched from there, and listed anew after whatever went
// wrong. While the server is away, what was seen last stays: nothing is ever taken for deleted that nobody said is.

import { Vl3Error } from '../../native-free/error.ts';
import { readWatchEvent } from '../../native-free/kube/watch-event.ts';
import { Backoff, pause } from '../agent/backoff.ts';
import type { KubernetesApi, Resource } from './kubernetes-api.ts';

export interface ReflectorOptions<T> {
  readonly resource: Resource;
  /** Undefined: it is none, and left out. */
  readonly read: (object: unknown) => T | undefined;
  readonly keyOf: (one: T) => string;
}

export interface ReflectorDeps {
  readonly api: Pick<KubernetesApi, 'list' | 'watch'>;
  readonly changed: () => void;
  readonly failed: (error: unknown) => void;
  readonly clock: { readonly monotonic: () => number };
  readonly backoff?: { readonly firstMs: number; readonly capMs: number };
}

/** Said by a watch: list anew. */
class Relist extends Error {}

/** A watch that ends sooner was not worth its connection. */
const SHORT_MS = 5_000;

export class Reflector<T> {
  readonly #options: ReflectorOptions<T>;
  readonly #deps: ReflectorDeps;
  readonly #backoff: Backoff;
  #items = new Map<string, T>();
  /** Where to watch from; undefined: list first. */
  #version: string | undefined;
  #wasListed = false;
  #problem = '';

  constructor(options: ReflectorOptions<T>, deps: ReflectorDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#backoff = new Backoff(deps.backoff ?? { firstMs: 500, capMs: 15_000 });
  }

  get items(): ReadonlyMap<string, T> {
    return this.#items;
  }

  /** Whether everything has been seen once. */
  get wasListed(): boolean {
    return this.#wasListed;
  }

  /** Why it is not in sync now, in a sentence; empty: it is. */
  get problem(): string {
    if (this.#problem !== '') return this.#problem;
    return this.#wasListed ? '' : `the ${this.#options.resource} have not been listed yet`;
  }

  /** In place of what was seen, unless something newer has been seen since. */
  amend(seen: T, amended: T): void {
    const key = this.#options.keyOf(seen);
    if (this.#items.get(key) === seen) this.#items.set(key, amended);
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, failed } = this.#deps;
    while (!signal.aborted) {
      let watchedSince = Number.POSITIVE_INFINITY;
      // What came meanwhile is no sign of health: a server may say something new and 410 again and again.
      const wasLong = (): boolean => clock.monotonic() - watchedSince >= SHORT_MS;
      try {
        if (this.#version === undefined) await this.#list();
        watchedSince = clock.monotonic();
        await this.#watch(this.#version ?? '');
        if (wasLong()) this.#backoff.reset();
        else await this.#backoff.wait(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#version = undefined;
        const isGone = error instanceof Relist || (error instanceof Vl3Error && error.code === 'aborted');
        if (!isGone) {
          this.#problem = error instanceof Error ? error.message : String(error);
          failed(error);
        }
        if (wasLong()) this.#backoff.reset();
        await pause(this.#backoff.next(), signal);
      }
    }
  }

  async #list(): Promise<void> {
    const { resource, read, keyOf } = this.#options;
    const items = new Map<string, T>();
    let more = '';
    let version: string;
    do {
      const page = await this.#deps.api.list(resource, more);
      for (const object of page.items) {
        const one = read(object);
        if (one !== undefined) items.set(keyOf(one), one);
      }
      ({ more, resourceVersion: version } = page);
    } while (more !== '');
    if (version === '')
      throw new Vl3Error(
        'unavailable',
        `the API server listed ${resource} without a version: it is tried again`,
      );
    this.#items = items;
    this.#version = version;
    this.#wasListed = true;
    this.#problem = '';
    this.#deps.changed();
  }

  /** Returns when the server ended it in order. */
  async #watch(version: string): Promise<void> {
    const failure: { error: Error | undefined } = { error: undefined };
    await this.#deps.api.watch(this.#options.resource, version, (type, object) => {
      failure.error = this.#take(type, object);
      return failure.error === undefined;
    });
    if (failure.error !== undefined) throw failure.error;
  }

  /** Answers what ends this watch. */
  #take(type: string, object: unknown): Error | undefined {
    const event = readWatchEvent(type, object);
    if (event.kind === 'gone') return new Relist();
    if (event.kind === 'failed')
      return new Vl3Error('unavailable', `the watch of ${this.#options.resource} failed: ${event.message}`);
    this.#version = event.resourceVersion;
    if (event.kind === 'bookmark') return undefined;
    const { read, keyOf } = this.#options;
    const one = read(event.object);
    if (one === undefined) return undefined;
    if (event.kind === 'present') this.#items.set(keyOf(one), one);
    else this.#items.delete(keyOf(one));
    this.#deps.changed();
    return undefined;
  }
}
