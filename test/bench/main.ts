// `npm run bench [-- NAME] [options]`: what is measured against what, by name; without a name, the datapath. The exit code is
// 1 when something could not be measured.

import { benchAdmission } from './admission.ts';
import { benchCni } from './cni.ts';
import { benchDatapath } from './datapath/datapath.ts';
import { benchLifecycle } from './lifecycle.ts';
import { benchPods } from './pods.ts';
import { Refusal } from './refusal.ts';
import { benchRevocation } from './revocation.ts';
import { benchScale } from './scale.ts';
import { benchSigner } from './signer.ts';
import { benchWebhook } from './webhook.ts';

const repetitions = Number(process.env['REPETITIONS'] ?? 3);

/** False: not all of it could be measured. */
type Bench = (args: readonly string[]) => Promise<boolean>;

const benches: Record<string, Bench> = {
  datapath: benchDatapath,
  lifecycle: async () => {
    await benchLifecycle(repetitions);
    return true;
  },
  cni: async () => {
    await benchCni(repetitions);
    return true;
  },
  pods: async () => {
    await benchPods(Number(process.env['PODS'] ?? 110));
    return true;
  },
  scale: async () => {
    await benchScale(Number(process.env['NODES'] ?? 500), Number(process.env['CHANGES'] ?? 60));
    return true;
  },
  admission: async () => {
    await benchAdmission(Number(process.env['RULES'] ?? 1000), repetitions);
    return true;
  },
  revocation: async () => {
    await benchRevocation(Number(process.env['ROUNDS'] ?? 50));
    return true;
  },
  signer: async () => {
    await benchSigner(Number(process.env['NODES'] ?? 300), repetitions);
    return true;
  },
  webhook: async () => {
    await benchWebhook(repetitions);
    return true;
  },
};

const [first = '', ...rest] = process.argv.slice(2);
const isNamed = first !== '' && !first.startsWith('-');
const name = isNamed ? first : 'datapath';
try {
  const bench = benches[name];
  if (bench === undefined)
    throw new Refusal(`there is no bench ${name}: write one of ${Object.keys(benches).join(', ')}`);
  const isComplete = await bench(isNamed ? rest : process.argv.slice(2));
  if (!isComplete) process.exitCode = 1;
} catch (error) {
  if (!(error instanceof Refusal)) throw error;
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
