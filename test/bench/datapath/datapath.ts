// The datapath against what else there is, on the same topology in the same run, alternating. Compare only inside one run.
// The parts: options (what was asked for), contenders (who), stages (what), run (how), report and plots (what it came to).

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { join, resolve } from 'node:path';
import { Lab } from '../../lab/lab.ts';
import { Refusal } from '../refusal.ts';
import { findContenders } from './contenders.ts';
import { HELP, type Options, parseOptions } from './options.ts';
import { plots } from './plots.ts';
import { json, table } from './report.ts';
import { estimate, Runner } from './run.ts';
import { derive } from './samples.ts';
import { allStages, DERIVED, namesOf, quickly, rowsOf, type Stage, selected } from './stages.ts';
import { buildVl3, sourcesOfVl3 } from './vl3-program.ts';

/** Resolves with false when a case could not be measured. */
export const benchDatapath = async (args: readonly string[]): Promise<boolean> => {
  const options = parseOptions(args);
  if (options.help) {
    console.log(HELP);
    return true;
  }
  if (options.list) {
    for (const stage of allStages(sourcesOfVl3))
      console.log(`${stage.name.padEnd(16)} ${namesOf([stage]).join(' ')}`);
    return true;
  }
  const loadBefore = loadavg()[0] ?? 0;
  await using lab = Lab.create();
  const progress = (line: string): void => console.error(line);
  if (!options.sources) progress('building vl3');
  const vl3 = options.sources ? sourcesOfVl3 : await buildVl3(lab);
  const contenders = findContenders(vl3, options.peers, options.nebulas).filter(
    ({ name }) => options.only.length === 0 || options.only.includes(name),
  );
  const all = allStages(vl3);
  const stages = selected(options.quick ? quickly(all) : all, options.cases);
  if (contenders.length === 0)
    throw new Refusal(`--only ${options.only.join(' --only ')}: there is none of that name`);
  if (stages.length === 0) throw new Refusal(`--case ${options.cases.join(' --case ')}: see --list`);
  const { repetitions, seconds } = options;
  const minutes = Math.ceil(estimate(stages, contenders, seconds, repetitions) / 60);
  progress(`about ${minutes} min: ${repetitions} times, ${seconds} s of traffic each`);

  const runner = new Runner(lab, { ...options, progress });
  const { samples, discarded, missing } = await runner.run(stages, contenders);
  const names = contenders.map(({ name }) => name);
  derive(samples, DERIVED, names);
  const rows = [...rowsOf(stages), ...DERIVED].filter(
    ({ name }, i, every) =>
      every.findIndex((row) => row.name === name) === i && isMeasured(samples, name, names),
  );

  const about = [
    ...contenders.map(({ name, about: what }) => `${name}: ${what}`),
    `machine: ${cpus().length} x ${cpus()[0]?.model.trim()}, Linux ${release()}, load ${loadBefore.toFixed(1)} before`,
    `${repetitions} repetitions of ${seconds} s; commit ${commit()}; medians (least-most)`,
    `discarded for more than ${options.maxSteal * 100} % steal: ${discarded}`,
  ];
  const leftOut = namesOf(all).filter((name) => !namesOf(stages).includes(name));
  const notes = [
    ...unable(stages, contenders),
    ...(leftOut.length > 0 ? [`left out: ${leftOut.join(' ')}`] : []),
    ...(loadBefore > BUSY ? [`the machine was busy with other things (load ${loadBefore.toFixed(1)})`] : []),
    ...missing.map((what) => `NOT MEASURED: ${what}`),
  ];
  const text = [...about, '', table(samples, rows, names), '', ...notes].join('\n');
  const result = json(samples, rows, names);
  const folder = writeReport(options, {
    'report.txt': `${text}\n`,
    'report.json': `${JSON.stringify({ about, notes, cases: result, samples: samples.raw }, undefined, 2)}\n`,
    ...plots(samples, names),
  });
  console.log(text);
  console.log(`report and plots: ${folder}`);
  console.log(JSON.stringify(result));
  return missing.length === 0;
};

/** A load average that this bench did not bring. */
const BUSY = 0.7;

const isMeasured = (
  samples: { of(row: string, name: string): readonly number[] },
  row: string,
  names: readonly string[],
): boolean => names.some((name) => samples.of(row, name).length > 0);

/** Who was not asked for what, and why. */
const unable = (stages: readonly Stage[], contenders: ReturnType<typeof findContenders>): string[] => {
  const needed = new Set(
    stages.flatMap((stage) => [
      ...stage.needs,
      ...[...stage.variants, ...stage.probes].flatMap(({ needs = [] }) => needs),
    ]),
  );
  return contenders.flatMap(({ name, cannot }) =>
    [...needed].flatMap((ability) => {
      const why = cannot[ability];
      return why === undefined ? [] : [`not asked for ${ability}: ${name} ${why}`];
    }),
  );
};

const commit = (): string => {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown';
  }
};

const writeReport = (options: Options, files: Readonly<Record<string, string>>): string => {
  const folder = resolve(options.report);
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
};
