// How long traffic goes on after a rule was taken away, from the admin's command to the last packet that is answered, while the
// agent of the node in question ignores that it is refused: what the others enforce, and nothing else.

import { loadavg } from 'node:os';
import { resolve } from 'node:path';
import { setup, teardown } from '../lab/bundle-commands.ts';
import { Domain } from '../lab/domain.ts';
import { eventually } from '../lab/eventually.ts';
import { fromSources } from '../lab/program.ts';
import { quantile } from '../lab/spread.ts';

const ROGUE = resolve(import.meta.dirname, '../scenarios/rogue-agent.ts');
const PATIENCE = { timeout: 60_000, interval: 20 };
const SILENCE_MS = 400;

export const benchRevocation = async (rounds: number): Promise<void> => {
  // A command is a call to a process that is there then, and not the start of one.
  await setup();
  try {
    await measure(rounds);
  } finally {
    teardown();
  }
};

const measure = async (rounds: number): Promise<void> => {
  await using domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  const n1 = await domain.startNode('n1');
  const rogue = await domain.startNode('n2', {
    program: (...args) => {
      const [node = '', ...rest] = fromSources(...args);
      return [node, '--import', ROGUE, ...rest];
    },
  });
  const [p1, p2] = [await n1.pod('p1', 'red'), await rogue.pod('p2', 'red')];
  const create = (...rule: string[]) => domain.admin('admission', 'create', '--network', 'red', ...rule);
  const remove = (name: string) =>
    domain.command('admission', 'delete', name, '--network', 'red', '--admin', domain.adminFile);
  await create('honest', '--node', 'n1');
  await create('guest', '--workload', 'workload == "p2"');
  await remove('home');
  const last: number[] = [];
  const command: number[] = [];
  const load = loadavg()[0]?.toFixed(1);
  for (let round = 0; round < rounds; round++) {
    const ping = p2.host.start(['ping', '-n', '-D', '-i', '0.005', '-W', '1', p1.v4('red')]);
    const replies = () =>
      [...ping.output().matchAll(/^\[(\d+\.\d+)\] \d+ bytes/gm)].map(([, at]) => Number(at) * 1000);
    await eventually(async () => {
      const [first, ...rest] = replies();
      if (first === undefined || rest.length < 20) throw new Error('nothing is answered');
    }, PATIENCE);
    const began = Date.now();
    await remove('guest');
    command.push(Date.now() - began);
    await eventually(async () => {
      if (Date.now() - (replies().at(-1) ?? 0) < SILENCE_MS) throw new Error('it goes on');
    }, PATIENCE);
    last.push(Math.max(0, (replies().at(-1) ?? 0) - began));
    await ping.stop();
    await create('guest', '--workload', 'workload == "p2"');
  }
  const ms = (values: number[], share: number) => `${quantile(values, share).toFixed(0)} ms`;
  console.log(`a rule taken away ${rounds} times, of an agent that ignores it (load ${load}):`);
  console.log(`  last packet answered after  p50 ${ms(last, 0.5)}  p99 ${ms(last, 0.99)}`);
  console.log(`  the command itself took     p50 ${ms(command, 0.5)}  p99 ${ms(command, 0.99)}`);
};
