// `npm run bench [-- NAME [options]]`: what is measured against what, by name; without a name, everything.

import { benchDatapath } from './datapath/datapath.ts';
import { benchLifecycle } from './lifecycle.ts';
import { benchScale } from './scale.ts';

const repetitions = Number(process.env['REPETITIONS'] ?? 3);

const benches: Record<string, (args: readonly string[]) => Promise<void>> = {
  datapath: benchDatapath,
  lifecycle: () => benchLifecycle(repetitions),
  scale: () => benchScale(Number(process.env['NODES'] ?? 500), Number(process.env['CHANGES'] ?? 60)),
};

const [first, ...args] = process.argv.slice(2);
const isNamed = first !== undefined && !first.startsWith('-');
for (const name of isNamed ? [first] : Object.keys(benches)) {
  const bench = benches[name];
  if (bench === undefined) throw new Error(`no bench ${name}: there are ${Object.keys(benches).join(', ')}`);
  await bench(isNamed || first === undefined ? args : [first, ...args]);
}
