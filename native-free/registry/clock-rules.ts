// Registry time: how long the registry has been up, written down every tick. What was not written down has not passed, so a
// registry that is down, stalled or cannot write lets no lease run out. Wall clocks have no part in it.

import { keys, one } from './keys.ts';
import { type Clock, clock as clockSchema } from './model.ts';
import { put, type Rule } from './rules.ts';
import type { State } from './state.ts';

/** A store of before there was registry time has none yet. */
export const clockOf = (state: State): Clock => state.clock()?.value ?? { elapsed: 0, startedAt: 0 };

/** Once at every start: each lease gets its full term anew. */
export const startClock: Rule<Clock> = {
  reads: [one(keys.clock)],
  decide: (state) => {
    const before = clockOf(state);
    const answer: Clock = { ...before, startedAt: before.elapsed };
    return {
      compares: [state.unchanged(keys.clock)],
      operations: [put(keys.clock, clockSchema, answer)],
      answer,
    };
  },
};

/** `ms` more have passed. The caller measures on a clock that never jumps, and leaves out time in which it was stalled. */
export const advanceClock = (ms: number): Rule<Clock> => ({
  reads: [one(keys.clock)],
  decide: (state) => {
    const before = clockOf(state);
    const answer: Clock = { ...before, elapsed: before.elapsed + Math.max(0, Math.floor(ms)) };
    return {
      compares: [state.unchanged(keys.clock)],
      operations: [put(keys.clock, clockSchema, answer)],
      answer,
    };
  },
});
