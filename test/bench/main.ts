// `npm run bench [-- NAME [options]]`: what is measured against what, by name; without a name, everything. The exit code is 1 when
// something could not be measured.

import { benchDatapath } from './datapath/datapath.ts';
import { benchLifecycle } from './lifecycle.ts';
import { benchScale } from './scale.ts';

const repetitions = Number(process.env['REPETITIONS'] ?? 3);

/** False: not all of it could be measured. */
type Bench = (args: readonly string[]) => Promise<boolean>;

const benches: Record<string, Bench> = {
  datapath: benchDatapath,
  lifecycle: async () => {
    await benchLifecycle(repetitions);
    return true;
  },
  scale: async () => {
    await benchScale(Number(process.env['NODES'] ?? 500), Number(process.env['CHANGES'] ?? 60));
    return true;
  },
};

const [first, ...args] = process.argv.slice(2);
const isNamed = first !== undefined && !first.startsWith('-');
for (const name of isNamed ? [first] : Object.keys(benches)) {
  const bench = benches[name];
  if (bench === undefined) throw new Error(`no bench ${name}: there are ${Object.keys(benches).join(', ')}`);
  const isComplete = await bench(isNamed || first === undefined ? args : [first, ...args]);
  if (!isComplete) process.exitCode = 1;
}
