// What runs of the simulator came to, for people.

import { Counters } from '../../native-free/simulator/counters.ts';
import type { Result } from '../../native-free/simulator/simulator.ts';

export class Statistics {
  seeds = 0;
  events = 0;
  virtualMs = 0;
  longestConvergenceMs = 0;
  /** Failing seeds and what they break. */
  readonly violations: { readonly seed: string; readonly invariant: string; readonly message: string }[] = [];
  readonly faults = new Counters();
  readonly judged = new Counters();
  readonly counters = new Counters();

  add(result: Result): void {
    this.seeds++;
    this.events += result.events;
    this.virtualMs += result.time;
    this.longestConvergenceMs = Math.max(this.longestConvergenceMs, result.convergedAfter ?? 0);
    this.faults.addAll(result.faults);
    this.judged.addAll(result.judged);
    this.counters.addAll(result.counters);
    const { violation, plan } = result;
    if (violation === undefined) return;
    const { invariant, message } = violation;
    this.violations.push({ seed: plan.seed, invariant, message });
  }

  /** As `-o json` prints it. */
  toJson() {
    return {
      seeds: this.seeds,
      events: this.events,
      virtualHours: this.virtualMs / 3_600_000,
      slowestConvergenceSeconds: this.longestConvergenceMs / 1000,
      violations: this.violations,
      faults: Object.fromEntries(this.faults.entries()),
      judged: Object.fromEntries(this.judged.entries()),
      counters: Object.fromEntries(this.counters.entries()),
    };
  }

  lines(): string[] {
    const table = (title: string, counters: Counters): string[] => [
      `${title}:`,
      ...counters.entries().map(([name, count]) => `  ${String(count).padStart(10)}  ${name}`),
    ];
    return [
      ...table('what happened', this.counters),
      ...table('faults injected', this.faults),
      ...table('invariants judged', this.judged),
      `${this.seeds} seeds, ${this.events} events, ${(this.virtualMs / 3_600_000).toFixed(1)} virtual hours, ` +
        `slowest convergence ${this.longestConvergenceMs / 1000} s, ${this.violations.length} violations`,
    ];
  }
}

/** A failing run, with what it takes to see it again. */
export const failureLines = (failing: Result, smallest: Result, command: string): string[] => {
  const { plan, violation } = smallest;
  return [
    `seed ${failing.plan.seed} breaks "${violation?.invariant}" (trace ${failing.hash}, ${failing.plan.steps.length} steps)`,
    `  ${failing.violation?.message ?? ''}`,
    `  again: ${command}`,
    `made smaller: ${plan.nodes.length} machines, ${plan.networks.length} networks, ${plan.steps.length} steps (trace ${smallest.hash})`,
    `  ${violation?.message ?? ''}`,
    `  machines ${JSON.stringify(plan.nodes)} sites ${JSON.stringify(plan.sites)} networks ${JSON.stringify(plan.networks)}`,
    ...plan.steps.map((step) => `  ${JSON.stringify(step)}`),
    'the end of its trace:',
    ...smallest.tail.map((line) => `  ${line}`),
  ];
};
