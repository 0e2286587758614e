// What each worker counts, in shared memory of its own: read by the main thread for status and metrics.
// Reasons are closed lists, so that a dropped packet always has a name.

export const EGRESS_COUNTERS = [
  'packets',
  'super-packets',
  'sends',
  'unreachables',
  'too-bigs',
  'dropped:malformed',
  'dropped:no-peer',
  'dropped:no-endpoint',
  'dropped:staged-overflow',
  'dropped:given-up',
  'dropped:too-big',
  'dropped:send-failed',
] as const;

export const INGRESS_COUNTERS = [
  'packets',
  'super-packets',
  'writes',
  'handshakes',
  'handed-over',
  'dropped:malformed',
  'dropped:bad-mac1',
  'dropped:flooded',
  'dropped:unknown-index',
  'dropped:expired',
  'dropped:forged',
  'dropped:replayed',
  'dropped:bad-inside',
  'dropped:wrong-source',
  'dropped:congested',
  'dropped:queue-full',
  'dropped:write-failed',
] as const;

export type EgressCounter = (typeof EGRESS_COUNTERS)[number];
export type IngressCounter = (typeof INGRESS_COUNTERS)[number];

/** Position by name, for the hot path. */
const positions = <Name extends string>(names: readonly Name[]): Counts<Name> => {
  const byName: Partial<Record<Name, number>> = {};
  names.forEach((name, i) => {
    byName[name] = i;
  });
  return byName as Counts<Name>;
};

/** Numbers by name. */
export type Counts<Name extends string> = { readonly [name in Name]: number };

export const createCounterMemory = (names: readonly string[]): SharedArrayBuffer =>
  new SharedArrayBuffer(names.length * 8);

/** The writer's side. */
export class Counters<Name extends string> {
  /** Indexed by `at`. */
  readonly values: Float64Array;
  readonly at: Counts<Name>;

  constructor(names: readonly Name[], memory: SharedArrayBuffer) {
    this.values = new Float64Array(memory);
    this.at = positions(names);
  }

  /** `position` is one of `at`. */
  add(position: number, n: number): void {
    this.values[position] = (this.values[position] ?? 0) + n;
  }
}

/** The sums over these writers. */
export const readCounts = <Name extends string>(
  names: readonly Name[],
  ...memories: readonly SharedArrayBuffer[]
): Counts<Name> => {
  const writers = memories.map((memory) => new Float64Array(memory));
  const counts: Partial<Record<Name, number>> = {};
  names.forEach((name, i) => {
    let sum = 0;
    for (const values of writers) sum += values[i] ?? 0;
    counts[name] = sum;
  });
  return counts as Counts<Name>;
};
