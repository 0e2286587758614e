// `npm run fuzz`: the fuzzer for as long as asked.

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { saveCase, savedCases } from './corpus.ts';
import { Coverage } from './coverage.ts';
import { type FuzzResult, fuzz } from './engine.ts';
import type { Target } from './target.ts';
import { MACHINE_TARGETS, TARGETS } from './targets.ts';
import { Watchdog } from './watchdog.ts';

const USAGE = `The fuzzer, for as long as asked. Usage: npm run fuzz -- [options]

  --target NAME      only this one; repeat it for several (default: all, in turns)
  --minutes N        for each target (default: 1 for all of them together)
  --executions N     of each target, whatever the time
  --seed S           where the inputs come from (default: the time)
  --no-coverage      random inputs only: faster, and the same for the same seed
  -o json            one JSON object at the end instead of a table

Examples:
  npm run fuzz -- --minutes 10
  npm run fuzz -- --target ring --target message --minutes 1

A failing input is made smaller, printed, and saved in test/fuzz/corpus, from where npm test runs it every time.
Targets: `;

const OPTIONS = {
  options: {
    help: { type: 'boolean', short: 'h', default: false },
    target: { type: 'string', multiple: true },
    minutes: { type: 'string' },
    executions: { type: 'string' },
    seed: { type: 'string', default: String(Date.now()) },
    coverage: { type: 'boolean', default: true },
    output: { type: 'string', short: 'o', default: 'table' },
  },
  allowNegative: true,
} as const;

/** Of a mistake it says what may be given instead. */
const readArguments = () => {
  try {
    return parseArgs(OPTIONS);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage()}`);
    process.exit(2);
  }
};

const usage = (): string =>
  `${USAGE}${[...TARGETS, ...MACHINE_TARGETS].map(({ name }) => name).join(', ')}\n`;

const { values } = readArguments();
if (values.help) {
  process.stdout.write(usage());
  process.exit(0);
}

interface Line {
  readonly target: string;
  readonly executions: number;
  readonly perSecond: number;
  readonly blocks: number;
  /** What the heap has grown by during the second half, after a collection, MB. */
  readonly growthMb: number;
  readonly crashes: number;
}

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');
const heapMb = (): number => {
  collect();
  return process.memoryUsage().heapUsed / 2 ** 20;
};

const isJson = values.output === 'json';
const say = (text: string): void => {
  if (isJson) process.stderr.write(`${text}\n`);
  else console.log(text);
};

const all = [...TARGETS, ...(process.getuid?.() === 0 ? MACHINE_TARGETS : [])];
const chosen = all.filter(({ name }) => values.target?.includes(name) ?? true);
if (chosen.length === 0) {
  console.error(`there is no such target; there are: ${all.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}
const minutes = values.minutes === undefined ? 1 / chosen.length : Number(values.minutes);
const budget = {
  executions: values.executions === undefined ? Number.POSITIVE_INFINITY : Number(values.executions),
  time: values.executions === undefined ? minutes * 60_000 : Number.POSITIVE_INFINITY,
};
/** A heap that grows by more than this in half a run keeps what it should have let go. */
const MAX_GROWTH_MB = 64;

const report = (target: Target, { failure }: FuzzResult): void => {
  if (failure === undefined) return;
  process.exitCode = 1;
  const { error, minimal, execution } = failure;
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const path = saveCase(target.name, minimal, text);
  say(`${target.name} fails at execution ${execution} of seed ${values.seed}: ${text}`);
  say(`the smallest input found: ${Buffer.from(minimal).toString('hex')}`);
  say(`saved as ${path}`);
};

await using watchdog = new Watchdog(join(import.meta.dirname, 'corpus', 'hang.hex'));
const run = async (target: Target): Promise<Line> => {
  using coverage = values.coverage ? await Coverage.start() : undefined;
  const corpus = savedCases(target.name).map(({ input }) => input);
  let middle: number | undefined;
  let executions = 0;
  const start = performance.now();
  const result = await fuzz(target, {
    seed: values.seed,
    budget,
    corpus,
    ...(coverage && { isNew: () => coverage.look() }),
    onInput: (input) => {
      watchdog.watch(input);
      executions++;
      const isMiddle = executions > budget.executions / 2 || performance.now() - start > budget.time / 2;
      if (middle === undefined && isMiddle) middle = heapMb();
    },
  });
  report(target, result);
  const growthMb = Math.max(0, Math.round(heapMb() - (middle ?? heapMb())));
  if (growthMb > MAX_GROWTH_MB) {
    process.exitCode = 1;
    say(`${target.name} keeps memory: the heap has grown by ${growthMb} MB`);
  }
  return {
    target: target.name,
    executions: result.executions,
    perSecond: Math.round(result.executions / result.seconds),
    blocks: coverage?.size ?? 0,
    growthMb,
    crashes: result.failure === undefined ? 0 : 1,
  };
};

say(`seed ${values.seed}`);
const lines: Line[] = [];
for (const target of chosen) lines.push(await run(target));
if (isJson) console.log(JSON.stringify({ seed: values.seed, targets: lines }));
else console.table(lines);
