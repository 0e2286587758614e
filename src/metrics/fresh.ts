// What costs a write, or a read of much, is done once a second however often it is asked for.

/** Who asks more often gets the same answer again. */
const FRESH_MS = 1000;

/** The work's last result while it is fresh, or what is under way. */
export const fresh = <T>(work: () => Promise<T>): (() => Promise<T>) => {
  let last: Promise<T> | undefined;
  let at = Number.NEGATIVE_INFINITY;
  return () => {
    if (last === undefined || performance.now() - at >= FRESH_MS) {
      const mine = work().finally(() => {
        at = performance.now();
      });
      at = Number.POSITIVE_INFINITY;
      last = mine;
    }
    return last;
  };
};
