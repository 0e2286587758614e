// The datapath against what else there is, on the same topology in the same run, alternating. A repetition of which others
// took more than a twentieth is thrown away and made again. Compare only inside one run.
//
//   npm run bench -- datapath [--quick] [--repetitions N] [--seconds N] [--only NAME]... [--peer NAME=PATH]...

import { parseArgs } from 'node:util';
import { Lab } from '../../lab/lab.ts';
import { machineTime, stolenShare } from '../../lab/machine-time.ts';
import { BYPRODUCTS, type Group, groups } from './cases.ts';
import { type Contender, findContenders } from './contenders.ts';
import { addSample, jsonLine, printTable, type Samples } from './report.ts';
import { makeSites, type Sites, type Topology } from './topology.ts';

const MAX_STEAL = 0.05;
/** A machine that is always disturbed is measured all the same, and it is said. */
const MAX_TRIES = 3;

export const benchDatapath = async (args: readonly string[]): Promise<void> => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      repetitions: { type: 'string' },
      seconds: { type: 'string' },
      only: { type: 'string', multiple: true, default: [] },
      peer: { type: 'string', multiple: true, default: [] },
    },
  });
  const repetitions = Number(values.repetitions ?? (values.quick ? 1 : 3));
  const seconds = Number(values.seconds ?? (values.quick ? 2 : 4));
  const peers = [
    ...values.peer,
    ...(process.env['VL3_BENCH_PEERS'] ?? '').split(',').filter((one) => one !== ''),
  ];
  const contenders = findContenders(peers).filter(
    ({ name }) => values.only.length === 0 || values.only.includes(name),
  );
  const all = groups(values.quick);
  const samples: Samples = new Map();

  await using lab = Lab.create();
  const sites: Record<Topology, Sites> = {
    bare: await makeSites(lab, 'bare'),
    pods: await makeSites(lab, 'pods'),
  };
  for (let repetition = 1; repetition <= repetitions; repetition++) {
    for (const group of all) {
      for (const contender of contenders) {
        if (group.without.includes(contender.name)) continue;
        console.error(`${repetition}/${repetitions} ${group.name} ${contender.name}`);
        await sample(lab, sites[group.topology], group, contender, seconds, samples);
      }
    }
  }
  const cases = [...all.flatMap((group) => group.cases), ...BYPRODUCTS];
  const names = contenders.map(({ name }) => name);
  printTable(samples, cases, names);
  console.log(jsonLine(samples, cases));
};

const sample = async (
  lab: Lab,
  sites: Sites,
  group: Group,
  contender: Contender,
  seconds: number,
  samples: Samples,
): Promise<void> => {
  const running = await contender.start(lab, sites, group.setUp);
  try {
    for (const one of group.cases) {
      for (let attempt = 1; ; attempt++) {
        const before = machineTime();
        const found = await one.run({ sites, running, seconds });
        const steal = stolenShare(before, machineTime());
        if (steal > MAX_STEAL && attempt < MAX_TRIES) continue;
        if (steal > MAX_STEAL) console.error(`${one.name}: ${(steal * 100).toFixed(0)} % of it was stolen`);
        for (const [name, value] of Object.entries(found)) addSample(samples, name, contender.name, value);
        break;
      }
    }
  } finally {
    await running.stop();
  }
};
