// How long to wait before something that failed is tried again: twice as long each time up to a cap, and jittered, so
// that those who failed together do not come back together. Not here: clocks and sleeping.

export interface BackoffOptions {
  readonly firstMs: number;
  readonly capMs: number;
}

/** Milliseconds to wait after so many failures before this one; `fraction` is random in [0, 1). */
export const backoffMs = ({ firstMs, capMs }: BackoffOptions, failures: number, fraction: number): number => {
  const bound = Math.min(capMs, firstMs * 2 ** Math.min(failures, 30));
  return bound / 2 + (fraction * bound) / 2;
};
