// Makes a failing plan smaller while it still fails in the same way: fewer steps, then fewer machines and networks.
// Greedy and bounded, by how much happens in what is tried: a large plan takes long, and nobody waits for an hour. What is left
// is for people to read.

import type { Hooks } from './hooks.ts';
import type { Plan, Step } from './plan.ts';
import { type Result, simulate } from './simulator.ts';

/** Of all smaller plans together: a minute or two. */
const MOST_EVENTS = 1_000_000;

/** `most`: how many smaller plans are tried. Answers the smallest failing one with its result. */
export const shrink = (failing: Result, hooks: Partial<Hooks>, most: number): Result => {
  const invariant = failing.violation?.invariant;
  let best = failing;
  let left = most;
  let events = 0;
  const fails = (plan: Plan): boolean => {
    if (left-- <= 0) return false;
    const result = simulate(plan, hooks);
    events += result.events;
    if (events >= MOST_EVENTS) left = 0;
    if (result.violation?.invariant !== invariant) return false;
    best = result;
    return true;
  };
  // What comes after the violation did not cause it.
  const { violation } = failing;
  fails({ ...best.plan, steps: best.plan.steps.filter(({ at }) => at <= (violation?.at ?? 0)) });
  for (let size = Math.ceil(best.plan.steps.length / 2); size >= 1 && left > 0; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.plan.steps.length && left > 0; ) {
      const steps: Step[] = best.plan.steps.filter((_, i) => i < at || i >= at + size);
      if (!fails({ ...best.plan, steps })) at += size;
    }
  }
  for (const { name } of best.plan.nodes) {
    const isUsed = best.plan.steps.some((step) => 'node' in step && step.node === name);
    if (!isUsed) fails({ ...best.plan, nodes: best.plan.nodes.filter((node) => node.name !== name) });
  }
  for (const network of best.plan.networks) {
    const isUsed = best.plan.steps.some((step) => JSON.stringify(step).includes(`"${network}"`));
    if (!isUsed) fails({ ...best.plan, networks: best.plan.networks.filter((one) => one !== network) });
  }
  return best;
};
