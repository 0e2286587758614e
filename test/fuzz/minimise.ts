// Makes a failing input smaller while it still fails alike: cuts the end off, takes pieces out, then makes bytes
// smaller. Greedy and bounded.

/** `most`: how many smaller inputs are tried. */
export const minimise = async (
  input: Uint8Array,
  fails: (smaller: Uint8Array) => Promise<boolean>,
  most: number,
): Promise<Uint8Array> => {
  let best = input;
  let left = most;
  const attempt = async (smaller: Uint8Array): Promise<boolean> => {
    if (left-- <= 0 || !(await fails(smaller))) return false;
    best = smaller;
    return true;
  };
  for (let size = best.length; size >= 1 && left > 0; size = size >> 1) {
    for (let at = best.length - size; at >= 0 && left > 0; at -= size) await attempt(without(best, at, size));
  }
  for (let at = 0; at < best.length && left > 0; at++) {
    for (const value of [0, 1, (best[at] ?? 0) >> 1]) {
      if (value < (best[at] ?? 0) && (await attempt(withByte(best, at, value)))) break;
    }
  }
  return best;
};

const without = (bytes: Uint8Array, at: number, length: number): Uint8Array => {
  const out = new Uint8Array(bytes.length - length);
  out.set(bytes.subarray(0, at));
  out.set(bytes.subarray(at + length), at);
  return out;
};

const withByte = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
  const out = bytes.slice();
  out[at] = value;
  return out;
};
