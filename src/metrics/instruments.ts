// A program's metrics and how they are made: each is read from the program when it is asked for, so that nothing is
// counted twice. Common to agent and registry: version, event loop, and what Node and the kernel say of the process.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { VERSION } from '../version.ts';
import type { EventLoop } from './event-loop.ts';

/** A value and the labels it stands under. */
export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

export class Instruments {
  readonly #registry = new Registry();
  #reading: Promise<string> | undefined;

  constructor(eventLoop: EventLoop) {
    collectDefaultMetrics({ register: this.#registry });
    this.gauge('vl3_build_info', 'Always 1; the version of vl3.', ['version'], () => [
      [{ version: VERSION }, 1],
    ]);
    this.gauge(
      'vl3_event_loop_lag_p99_seconds',
      'How late the event loop was, 99th percentile of the last 10 to 20 seconds.',
      [],
      () => [[{}, eventLoop.lag.p99Seconds]],
    );
    this.gauge(
      'vl3_event_loop_lag_max_seconds',
      'How late the event loop was at most in the last 10 to 20 seconds.',
      [],
      () => [[{}, eventLoop.lag.maxSeconds]],
    );
  }

  /** A value that goes up and down. */
  gauge(
    name: string,
    help: string,
    labelNames: string[],
    read: () => readonly Sample[] | Promise<readonly Sample[]>,
  ): void {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      async collect() {
        const samples = await read();
        this.reset();
        for (const [labels, value] of samples) this.set({ ...labels }, value);
      },
    });
  }

  /** A total that the program itself keeps. */
  counter(
    name: string,
    help: string,
    labelNames: string[],
    read: () => readonly Sample[] | Promise<readonly Sample[]>,
  ): void {
    new Counter({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      async collect() {
        const samples = await read();
        this.reset();
        for (const [labels, value] of samples) this.inc({ ...labels }, value);
      },
    });
  }

  /** How present values are spread: made anew each time it is read. */
  spread(
    name: string,
    help: string,
    labelNames: string[],
    buckets: number[],
    read: () => readonly Sample[],
  ): void {
    new Histogram({
      name,
      help,
      labelNames,
      buckets,
      registers: [this.#registry],
      collect() {
        const samples = read();
        this.reset();
        for (const [labels, value] of samples) this.observe({ ...labels }, value);
      },
    });
  }

  /** Durations since the start, as they are observed. */
  durations(name: string, help: string, buckets: number[]): (seconds: number) => void {
    const histogram = new Histogram({ name, help, buckets, registers: [this.#registry] });
    return (seconds) => histogram.observe(seconds);
  }

  /** Prometheus' text format. Who asks while it is being made gets the same. */
  async text(): Promise<string> {
    this.#reading ??= this.#registry.metrics().finally(() => {
      this.#reading = undefined;
    });
    return await this.#reading;
  }
}
