// `npm run bench`: what is measured against what, by name; without a name, everything.

import { benchDatapath } from './datapath.ts';
import { benchLifecycle } from './lifecycle.ts';
import { benchScale } from './scale.ts';

const repetitions = Number(process.env['REPETITIONS'] ?? 3);

const benches: Record<string, () => Promise<void>> = {
  datapath: () => benchDatapath(repetitions, Number(process.env['SECONDS'] ?? 4)),
  lifecycle: () => benchLifecycle(repetitions),
  scale: () => benchScale(Number(process.env['NODES'] ?? 500), Number(process.env['CHANGES'] ?? 60)),
};

const names = process.argv.slice(2);
for (const name of names.length > 0 ? names : Object.keys(benches)) {
  const bench = benches[name];
  if (bench === undefined) throw new Error(`no bench ${name}: there are ${Object.keys(benches).join(', ')}`);
  await bench();
}
