// The loop: inputs made from a seed, at random or by mutating those that did something new, run one after another until
// a budget is spent or a property does not hold; then the failing input is made smaller. The same target, seed and
// number of executions give the same inputs, unless coverage steers.

import { Random } from '../../native-free/simulator/random.ts';
import { minimise } from './minimise.ts';
import { Source } from './source.ts';
import type { OpenTarget, Target } from './target.ts';

export interface Budget {
  readonly executions: number;
  /** Milliseconds. */
  readonly time: number;
}

export interface FuzzOptions {
  readonly seed: string;
  readonly budget: Budget;
  /** How many executions making a failing input smaller may take. */
  readonly minimising?: number;
  /** Inputs to start from: the saved cases. */
  readonly corpus?: readonly Uint8Array[];
  /** Whether something ran that had not run before since the last call. */
  readonly isNew?: () => Promise<boolean>;
  /** Told before each execution. */
  readonly onInput?: (input: Uint8Array) => void;
}

export interface Failure {
  readonly input: Uint8Array;
  readonly minimal: Uint8Array;
  readonly error: unknown;
  /** Which execution it was, from 1. */
  readonly execution: number;
}

export interface FuzzResult {
  readonly executions: number;
  readonly seconds: number;
  /** How many looks found something new. */
  readonly interesting: number;
  readonly failure: Failure | undefined;
}

const MAX_POOL = 1024;
/** Looking at coverage is dear: often while it finds something, seldom when it has not for long. */
const MAX_LOOK_EVERY = 512;
/** Of a batch in which something was new, so many are kept. */
const KEPT = 8;
/** CPU time that one input may take, milliseconds: far above what any needs, far below what a hang takes. */
const MAX_CPU_MS = 5000;
const MINIMISING_EXECUTIONS = 2000;

export const fuzz = async (target: Target, options: FuzzOptions): Promise<FuzzResult> => {
  const { seed, budget, isNew, onInput, minimising = MINIMISING_EXECUTIONS } = options;
  const random = new Random(`${seed}/${target.name}`);
  const pool: Uint8Array[] = [...(options.corpus ?? [])];
  let interesting = 0;
  await using open = await target.open();
  const start = performance.now();
  let executions = 0;
  const end = (failure: Failure | undefined): FuzzResult => ({
    executions,
    seconds: (performance.now() - start) / 1000,
    interesting,
    failure,
  });
  await isNew?.();
  let candidates: Uint8Array[] = [];
  let lookEvery = 1;
  while (executions < budget.executions && performance.now() - start < budget.time) {
    const input = nextInput(random, pool, target.maxLength);
    onInput?.(input);
    executions++;
    const error = await failureOf(open, input);
    if (error !== undefined) {
      const fails = async (smaller: Uint8Array): Promise<boolean> => {
        onInput?.(smaller);
        return isAlike(await failureOf(open, smaller), error);
      };
      const minimal = await minimise(input, fails, minimising);
      return end({ input, minimal, error: (await failureOf(open, minimal)) ?? error, execution: executions });
    }
    if (isNew === undefined) continue;
    candidates.push(input);
    if (candidates.length < lookEvery) continue;
    const hasNews = await isNew();
    if (hasNews) {
      interesting++;
      for (let n = 0; n < Math.min(candidates.length, KEPT); n++) {
        const candidate = candidates.length <= KEPT ? candidates[n] : random.pick(candidates);
        if (candidate === undefined) break;
        if (pool.length < MAX_POOL) pool.push(candidate);
        else pool[random.between(0, MAX_POOL - 1)] = candidate;
      }
    }
    lookEvery = hasNews ? Math.max(1, lookEvery >> 1) : Math.min(lookEvery * 2, MAX_LOOK_EVERY);
    candidates = [];
  }
  return end(undefined);
};

/** Runs one input: what it throws, or undefined. */
export const failureOf = async (open: OpenTarget, input: Uint8Array): Promise<unknown> => {
  const before = process.cpuUsage();
  try {
    await open.run(new Source(input));
  } catch (error) {
    return error ?? new Error('threw nothing');
  }
  const { user, system } = process.cpuUsage(before);
  const spent = (user + system) / 1000;
  return spent > MAX_CPU_MS ? new Error(`took ${Math.round(spent)} ms of CPU time`) : undefined;
};

/** The same kind of error with the same beginning, so that making an input smaller keeps the fault. */
const isAlike = (a: unknown, b: unknown): boolean => {
  if (a === undefined) return false;
  const kind = (error: unknown): string =>
    error instanceof Error ? `${error.name} ${error.message.slice(0, 24)}` : String(error);
  return kind(a) === kind(b);
};

const nextInput = (random: Random, pool: readonly Uint8Array[], maxLength: number): Uint8Array => {
  if (pool.length === 0 || random.chance(0.3)) return random.bytes(randomLength(random, maxLength));
  let bytes = random.pick(pool);
  for (let n = random.between(1, 6); n > 0; n--) bytes = mutate(random, bytes, pool);
  return bytes.slice(0, maxLength);
};

/** Short ones more often. */
const randomLength = (random: Random, most: number): number =>
  Math.round(most * random.fraction() ** random.between(1, 4));

const mutate = (random: Random, bytes: Uint8Array, pool: readonly Uint8Array[]): Uint8Array => {
  const at = random.between(0, bytes.length);
  const length = random.between(1, 16);
  const out = bytes.slice();
  const i = Math.min(at, Math.max(0, bytes.length - 1));
  switch (random.between(0, 6)) {
    case 0:
      if (out.length > 0) out[i] = (out[i] ?? 0) ^ (1 << random.between(0, 7));
      return out;
    case 1:
      if (out.length > 0) out[i] = random.between(0, 255);
      return out;
    case 2:
      if (out.length > 0) out[i] = ((out[i] ?? 0) + random.between(-8, 8)) & 0xff;
      return out;
    case 3:
      return joined(out.subarray(0, at), out.subarray(at + length));
    case 4:
      return joined(out.subarray(0, at), random.bytes(length), out.subarray(at));
    case 5:
      return joined(out.subarray(0, at), out.subarray(at, at + length), out.subarray(at));
    default: {
      const other = random.pick(pool);
      return joined(out.subarray(0, at), other.subarray(random.between(0, other.length)));
    }
  }
};

const joined = (...parts: readonly Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};
