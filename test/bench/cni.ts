// What a pod's start costs by the CNI plugin: alone and 50 at once, beside the reference bridge plugin, and for a pod that asks
// for nothing beside an empty Node. Alternating, since the machine is shared; processor time is that of the plugin's process
// alone, and of the machine's agent beside it.

import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { installProgram } from '../../src/cni/installer.ts';
import { Domain } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';
import { quantile } from '../lab/spread.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const AT_ONCE = 50;
const TICKS_PER_SECOND = 100;
const run = promisify(execFile);

interface Contender {
  readonly name: string;
  readonly command: readonly string[];
  readonly config: Record<string, unknown>;
  readonly annotations?: Record<string, string>;
  /** Whether ADD makes something that DEL takes off. */
  readonly makes: boolean;
}

/** The processor time of this process's ended children, ms. */
const childrenMs = (): number => {
  const fields = readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[13]) + Number(fields[14])) * 1000) / TICKS_PER_SECOND;
};

const call = async (node: Node, one: Contender, command: string, pod: Pod): Promise<number> => {
  const { config, annotations } = one;
  const input = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'bench',
    ...config,
    ...(one.makes && annotations === undefined ? {} : { prevResult: { interfaces: [] } }),
    ...(annotations === undefined
      ? {}
      : { runtimeConfig: { 'io.kubernetes.cri.pod-annotations': annotations } }),
  });
  const [program = '', ...args] = node.host.inside(one.command);
  const started = performance.now();
  const running = run(program, args, {
    env: {
      ...process.env,
      CNI_COMMAND: command,
      CNI_CONTAINERID: pod.name,
      CNI_NETNS: pod.host.netns,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/usr/lib/cni',
    },
  });
  running.child.stdin?.on('error', () => {});
  running.child.stdin?.end(input);
  await running;
  return performance.now() - started;
};

interface Row {
  readonly what: string;
  readonly p50: number;
  readonly p99: number;
  readonly cpuMs: number;
}

const row = (what: string, durations: readonly number[], cpuMs: number): Row => ({
  what,
  p50: Math.round(quantile(durations, 0.5)),
  p99: Math.round(quantile(durations, 0.99)),
  cpuMs: Number((cpuMs / durations.length).toFixed(1)),
});

export const benchCni = async (repetitions: number): Promise<void> => {
  await using domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  const node = await domain.startNode('a1');
  await node.pod('first', 'red');
  const binDirectory = join(domain.lab.scratch, 'bin');
  mkdirSync(binDirectory);
  const plugin = join(domain.lab.scratch, 'built.cjs');
  const env = { ...process.env, PATH: `${join(ROOT, 'node_modules/.bin')}:${process.env['PATH']}` };
  execFileSync('sh', [join(ROOT, 'deploy/bundle-cni.sh'), plugin], { env });
  const own = { node: process.execPath, copyNode: undefined };
  installProgram({ netDirectory: '', binDirectory, plugin, ...own, isHere: true });
  const vl3Cni = [join(binDirectory, 'vl3-cni')];
  const ipam = {
    type: 'host-local',
    dataDir: join(domain.lab.scratch, 'ipam'),
    ranges: [[{ subnet: '10.89.0.0/16' }]],
  };
  const contenders: Contender[] = [
    { name: 'node -e 0', command: [process.execPath, '-e', '0'], config: {}, makes: false },
    {
      name: 'vl3-cni, asks for nothing',
      command: vl3Cni,
      config: { socket: node.socket },
      annotations: {},
      makes: false,
    },
    {
      name: 'vl3-cni, one network',
      command: vl3Cni,
      config: { socket: node.socket },
      annotations: { 'vl3.io/networks': 'red' },
      makes: true,
    },
    {
      name: 'bridge with host-local',
      command: ['/usr/lib/cni/bridge'],
      config: { type: 'bridge', bridge: 'cnilab0', isGateway: true, ipam },
      makes: true,
    },
  ];
  const pods: Pod[] = [];
  for (let i = 0; i < AT_ONCE; i++) pods.push(await Pod.create(domain.lab, `p${i}`, node));
  const alone = new Map<string, { durations: number[]; cpuMs: number }>();
  const rows: Row[] = [];
  const del = async (one: Contender, some: readonly Pod[]): Promise<void> => {
    if (one.makes) await Promise.all(some.map((pod) => call(node, one, 'DEL', pod)));
  };
  for (let time = 0; time < repetitions * 10; time++) {
    for (const one of contenders) {
      const pod = pods[time % AT_ONCE];
      if (pod === undefined) continue;
      const sum = alone.get(one.name) ?? { durations: [], cpuMs: 0 };
      alone.set(one.name, sum);
      const before = childrenMs();
      sum.durations.push(await call(node, one, 'ADD', pod));
      sum.cpuMs += childrenMs() - before;
      await del(one, [pod]);
    }
  }
  for (const [name, { durations, cpuMs }] of alone) rows.push(row(`${name}, alone`, durations, cpuMs));
  for (const one of contenders) {
    const before = childrenMs();
    const durations = await Promise.all(pods.map((pod) => call(node, one, 'ADD', pod)));
    rows.push(row(`${one.name}, ${AT_ONCE} at once`, durations, childrenMs() - before));
    await del(one, pods);
  }
  console.log(`CNI ADD, ms; processor time of the plugin's process; load ${loadavg()[0]?.toFixed(1)}`);
  console.table(rows);
};
