// How long traffic goes on after it was taken back, from the admin's command to the last packet that is answered: a rule of a
// node of the same domain and of a partner's, while the agents of both ignore that they are refused, so that it is what the
// others enforce and nothing else; and a whole federation, whose end the partner's agent hears of as well.

import { loadavg } from 'node:os';
import { resolve } from 'node:path';
import { LocalClient } from '../../src/agent/local-client.ts';
import { setup, teardown } from '../lab/bundle-commands.ts';
import { Domain } from '../lab/domain.ts';
import { eventually } from '../lab/eventually.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { fromSources } from '../lab/program.ts';
import { quantile } from '../lab/spread.ts';

const ROGUE = resolve(import.meta.dirname, '../scenarios/rogue-agent.ts');
const PATIENCE = { timeout: 60_000, interval: 20 };
const SILENCE_MS = 400;
const PARTNER = 'partner.example';
const RED = 'red@test.example';
/** Every end of a federation has all that hangs on it made anew. */
const FEDERATIONS_SHARE = 5;

export const benchRevocation = async (rounds: number): Promise<void> => {
  // A command is a call to a process that is there then, and not the start of one.
  await setup();
  try {
    await measure(rounds);
  } finally {
    teardown();
  }
};

const rogue = (...args: string[]): string[] => {
  const [node = '', ...rest] = fromSources(...args);
  return [node, '--import', ROGUE, ...rest];
};

const measure = async (rounds: number): Promise<void> => {
  await using domain = await Domain.start();
  const partner = await domain.partner(PARTNER);
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  const create = (...rule: string[]) => domain.admin('admission', 'create', '--network', 'red', ...rule);
  const remove = (name: string) =>
    domain.command('admission', 'delete', name, '--network', 'red', '--admin', domain.adminFile);
  const [n1, n2] = [await domain.startNode('n1'), await domain.startNode('n2', { program: rogue })];
  const [d1, d2] = [await partner.startNode('d1', { program: rogue }), await partner.startNode('d2')];
  const [p1, p2] = [await n1.pod('p1', 'red'), await n2.pod('p2', 'red')];
  await domain.federate(partner, '--network', 'red');
  await create('honest', '--node', 'n1');
  const guest = ['--workload', 'workload == "p2"'];
  const theirs = ['--from', PARTNER, '--workload', 'workload == "q1"'];
  await create('guest', ...guest);
  await create('theirs', ...theirs);
  await create('federated', '--from', PARTNER, '--workload', 'workload == "q2"');
  await remove('home');
  const [q1, q2] = [await comes(d1, 'q1'), await comes(d2, 'q2')];

  const target = p1.v4('red');
  await times(rounds, `a rule taken away ${rounds} times, of an agent that ignores it`, p2, target, {
    cut: () => remove('guest'),
    mend: () => create('guest', ...guest),
  });
  await times(
    rounds,
    `a rule for a partner taken away ${rounds} times, of an agent that ignores it`,
    q1,
    target,
    {
      cut: () => remove('theirs'),
      mend: () => create('theirs', ...theirs),
    },
  );
  const few = Math.max(1, Math.ceil(rounds / FEDERATIONS_SHARE));
  await times(few, `a federation revoked ${few} times`, q2, target, {
    cut: () => domain.admin('federation', 'revoke', PARTNER),
    mend: () => domain.federate(partner, '--network', 'red'),
  });
};

/** A workload of the partner's, on red. */
const comes = async (node: Node, name: string): Promise<Pod> => {
  const pod = await node.pod(name);
  await eventually(async () => {
    await node.tryVl3('attach', '--netns', pod.host.netns, '--network', RED, '--name', name, '--wait', '1s');
    const [one] = await new LocalClient(node.socket).attachments();
    if (one?.ready !== true) throw new Error(`${name} is not attached: ${one?.pending}`);
  }, PATIENCE);
  return pod;
};

const times = async (
  rounds: number,
  what: string,
  from: Pod,
  target: string,
  { cut, mend }: { readonly cut: () => Promise<unknown>; readonly mend: () => Promise<unknown> },
): Promise<void> => {
  const last: number[] = [];
  const command: number[] = [];
  const load = loadavg()[0]?.toFixed(1);
  for (let round = 0; round < rounds; round++) {
    // What is attached anew has an interface that comes later.
    const again = `while :; do ping -n -D -i 0.005 -W 1 ${target} & wait $!; sleep 0.1; done`;
    const loop = `trap 'trap - TERM; kill 0' TERM; ${again}`;
    const ping = from.host.start(['sh', '-c', loop]);
    const replies = () =>
      [...ping.output().matchAll(/^\[(\d+\.\d+)\] \d+ bytes/gm)].map(([, at]) => Number(at) * 1000);
    await eventually(async () => {
      const [first, ...rest] = replies();
      if (first === undefined || rest.length < 20) throw new Error('nothing is answered');
    }, PATIENCE);
    const began = Date.now();
    await cut();
    command.push(Date.now() - began);
    await eventually(async () => {
      if (Date.now() - (replies().at(-1) ?? 0) < SILENCE_MS) throw new Error('it goes on');
    }, PATIENCE);
    last.push(Math.max(0, (replies().at(-1) ?? 0) - began));
    await ping.stop();
    await mend();
  }
  const ms = (values: number[], share: number) => `${quantile(values, share).toFixed(0)} ms`;
  console.log(`${what} (load ${load}):`);
  console.log(`  last packet answered after  p50 ${ms(last, 0.5)}  p99 ${ms(last, 0.99)}`);
  console.log(`  the command itself took     p50 ${ms(command, 0.5)}  p99 ${ms(command, 0.99)}`);
};
