// `npm run simulate`: the simulator for as long as asked, and what it found.

import { parseArgs } from 'node:util';
import { makePlan } from '../../native-free/simulator/planner.ts';
import { shrink } from '../../native-free/simulator/shrink.ts';
import { type Result, simulate } from '../../native-free/simulator/simulator.ts';
import { failureLines, Statistics } from './report.ts';

const HELP = `npm run simulate -- [options]: whole nodes and a registry in one process, faults by a seed, judged all the while.
The exit code is 1 when something that must hold did not; the seed that broke it is printed, and the least plan that does.

  --seed N        this seed, and no other unless --minutes is given too
  --minutes T     one seed after another for so long (default: 1)
  --steps M       of each plan (default: 100)
  --nodes A-B     machines of each plan (default: 2-8)
  --noble         with the real cryptography; without it with a toy that is faster
  --quiet         weeks of virtual time in which little happens by itself
  --trace         with --seed: the end of the trace, also when nothing is broken
  -o json         figures as JSON

  npm run simulate -- --minutes 30 --nodes 4-30 --steps 60
  npm run simulate -- --seed 20204 --nodes 4-30 --steps 60 --trace
`;

const { values } = parseArgs({
  options: {
    help: { type: 'boolean', short: 'h', default: false },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    steps: { type: 'string', default: '100' },
    nodes: { type: 'string', default: '2-8' },
    noble: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
    output: { type: 'string', short: 'o', default: 'text' },
    trace: { type: 'boolean', default: false },
  },
});

if (values.help) {
  console.log(HELP);
  process.exit(0);
}

const isJson = values.output === 'json';
const SMALLER_PLANS_TRIED = 300;
const [fewest = 2, most = fewest] = values.nodes.split('-').map(Number);
const options = {
  steps: Number(values.steps),
  nodes: [fewest, most] as const,
  usesToyPrimitives: !values.noble,
  pace: values.quiet ? ('quiet' as const) : ('lively' as const),
};
const statistics = new Statistics();

const runSeed = (seed: string): Result => {
  const result = simulate(makePlan(seed, options));
  statistics.add(result);
  if (result.violation !== undefined) {
    process.exitCode = 1;
    const flags = `--seed ${seed} --steps ${values.steps} --nodes ${values.nodes}${values.noble ? ' --noble' : ''}${values.quiet ? ' --quiet' : ''}`;
    const smallest = shrink(result, {}, SMALLER_PLANS_TRIED);
    console.error(failureLines(result, smallest, `npm run simulate -- ${flags}`).join('\n'));
  }
  return result;
};

const first = values.seed ?? String(Date.now());
const until = performance.now() + Number(values.minutes ?? (values.seed === undefined ? 1 : 0)) * 60_000;
if (!isJson) console.log(`first seed ${first}`);
const result = runSeed(first);
if (values.trace) console.log(result.tail.join('\n'));
for (let seed = Number(first) + 1; performance.now() < until; seed++) runSeed(String(seed));
if (isJson) console.log(JSON.stringify(statistics.toJson(), undefined, 2));
else console.log(statistics.lines().join('\n'));
if (values.seed !== undefined && !isJson) console.log(`trace of seed ${first}: ${result.hash}`);
