// V8 compiles with its best compiler what was called some thousand times, and until then runs code that looks up each store to a
// field anew. At a packet every ten milliseconds the best code is the one that touches the least memory, for none of it is in the
// processor's caches any more: there such code takes half again as long. So while workers warm up, fewer calls are enough.

import { setFlagsFromString } from 'node:v8';

/** Names as in `node --v8-options`; how many calls, then and as a rule. */
const THRESHOLDS = [
  { name: 'invocation-count-for-turbofan', eager: 500, usual: 3000 },
  { name: 'invocation-count-for-maglev', eager: 200, usual: 400 },
  { name: 'minimum-invocations-after-ic-update', eager: 200, usual: 500 },
] as const;

const set = (mode: 'eager' | 'usual'): void => {
  for (const threshold of THRESHOLDS) setFlagsFromString(`--${threshold.name}=${threshold[mode]}`);
};

/** Compiles soon whatever the process runs until `work` is done. */
export const compileEagerly = async <T>(work: () => Promise<T>): Promise<T> => {
  set('eager');
  try {
    return await work();
  } finally {
    set('usual');
  }
};
