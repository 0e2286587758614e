// The known word nearest to one that is not known, by Levenshtein's distance: for sentences that name it.

const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
};

/** Empty when nothing is known. A word of any length costs no more than its first hundred letters. */
export const nearest = (word: string, known: readonly string[]): string => {
  const short = word.slice(0, 100);
  let best = '';
  let least = Number.POSITIVE_INFINITY;
  for (const one of known) {
    // A word left unfinished is nearer than any that was misspelt.
    const far = short.length > 2 && one.startsWith(short) ? 1 : distance(short, one);
    if (far >= least) continue;
    best = one;
    least = far;
  }
  return best;
};
