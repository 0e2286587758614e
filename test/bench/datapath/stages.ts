// What is measured, in which surroundings. A stage starts whoever can take part, all at once, and measures them in turn; its
// variants are started side by side too, so that what is compared is measured within seconds.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from '../../lab/lab.ts';
import { wireguardKeys } from '../../lab/wireguard-go.ts';
import { startAgents } from './agents.ts';
import type { Ability, Contender, SetUp } from './contenders.ts';
import type { Probe, Scene } from './probe.ts';
import { rssMb } from './process-cost.ts';
import { floodOf, handshakes } from './responder.ts';
import type { Derived, Row } from './samples.ts';
import { connections, rttAt, rttIdle, tcp } from './tcp.ts';
import { makeWorld, type Topology, type World } from './topology.ts';
import { udpAtRate, udpFlood, udpSegmented } from './udp.ts';
import type { Vl3Program } from './vl3-program.ts';

export interface Variant {
  /** What the names of its rows end with. */
  readonly suffix: string;
  readonly needs: readonly Ability[];
  /** About how many seconds it takes to start one contender, and to end it. */
  readonly takes: number;
  readonly start: (contender: Contender, lab: Lab) => Promise<Scene>;
}

export interface Stage {
  readonly name: string;
  readonly needs: readonly Ability[];
  readonly variants: readonly Variant[];
  readonly probes: readonly Probe[];
}

const KB_PER_MB = 1024;
const MANY_PEERS = 5000;
const MANY_NETWORKS = 50;
const CALLERS = 512;
/** Of UDP payload; the last one fills the tunnel's MTU but for 20 bytes. */
export const PACKET_SIZES = [64, 128, 256, 512, 1024, 1372];
/** Mbit/s. */
export const LOADS = [100, 250, 500, 1000, 1500, 2000];
/** What a quick run measures. */
const QUICK = ['tcp1', 'tcp1-pods', 'tcp4', 'rtt-idle', 'udp100-100k'];

export const allStages = (vl3: Vl3Program): Stage[] => {
  const worlds = new Map<string, Promise<World>>();
  const device = (topology: Topology, suffix: string, setUp: Partial<SetUp> = {}): Variant => ({
    suffix,
    needs: topology === 'pods' ? ['pods'] : [],
    takes: 1.5 + (setUp.strangers ?? 0) / 1000,
    start: async (contender, lab) => {
      const name = `${contender.name}-${topology}${suffix}`;
      const world = worlds.get(name) ?? makeWorld(lab, topology, name);
      worlds.set(name, world);
      const { sites, outsider } = await world;
      const full: SetUp = { outside: 'v4', strangers: 0, callers: [], ...setUp };
      return { sites, outsider, running: await contender.start(lab, sites, full) };
    },
  });
  const callers = Array.from({ length: CALLERS }, wireguardKeys);
  return [
    {
      name: 'traffic',
      needs: [],
      variants: [device('bare', ''), device('pods', '-pods')],
      probes: [
        { ...rttIdle, variants: [''] },
        tcp('tcp1', { withPing: true }),
        tcp('tcp4', { streams: 4 }),
        tcp('tcp16', { streams: 16 }),
        tcp('tcp1-reverse', { reverse: true }),
        tcp('tcp1-v6-inside', { family: 'v6', needs: ['v6-inside'] }),
        ...[
          udpAtRate('udp100-20k', 100, 20_000),
          udpAtRate('udp100-50k', 100, 50_000),
          udpAtRate('udp100-100k', 100, 100_000),
          udpFlood('udp100-flood', 100, 'packets/s'),
          udpFlood('udp1400', 1372, 'Mbit/s'),
          udpSegmented('udp1400-uso', 1372),
          connections,
          ...PACKET_SIZES.map((size) => udpFlood(`size-${size}`, size, 'Mbit/s')),
          ...LOADS.map(rttAt),
        ].map((probe) => ({ ...probe, variants: [''] })),
      ],
    },
    {
      name: 'v6-outside',
      needs: ['v6-outside'],
      variants: [device('bare', '', { outside: 'v6' }), device('pods', '-pods', { outside: 'v6' })],
      probes: [tcp('tcp1-v6-outside')],
    },
    {
      name: 'responder',
      needs: ['wireguard'],
      variants: [device('bare', '', { callers })],
      probes: [handshakes(callers), floodOf('unread-port'), floodOf('bad-mac1'), floodOf('valid-mac1')],
    },
    {
      name: 'peers',
      needs: ['wireguard'],
      variants: [
        device('bare', '-1-peer'),
        device('bare', '-100-peers', { strangers: 99 }),
        device('bare', '-5000-peers', { strangers: MANY_PEERS - 1 }),
      ],
      probes: [rssIdle, tcp('tcp1')],
    },
    {
      name: 'networks',
      needs: ['networks'],
      variants: [
        { suffix: '-1-network', needs: [], takes: 10, start: async () => await startAgents(vl3, 1) },
        {
          suffix: '-50-networks',
          needs: [],
          takes: 50,
          start: async () => await startAgents(vl3, MANY_NETWORKS),
        },
      ],
      probes: [rssIdle, tcp('tcp1')],
    },
  ];
};

/** Where a probe runs. */
export const variantsOf = (stage: Stage, probe: Probe): Variant[] =>
  stage.variants.filter(({ suffix }) => probe.variants?.includes(suffix) ?? true);

/** What of it fits into a minute. */
export const quickly = (stages: readonly Stage[]): Stage[] => selected(stages, QUICK);

/** The stages with those cases alone that match a pattern: names, in which * stands for anything. None: all. */
export const selected = (stages: readonly Stage[], patterns: readonly string[]): Stage[] => {
  if (patterns.length === 0) return [...stages];
  return stages.flatMap((stage) => {
    const probes = stage.probes.flatMap((probe) => {
      const variants = variantsOf(stage, probe)
        .map(({ suffix }) => suffix)
        .filter((suffix) => patterns.some((pattern) => matchesPattern(`${probe.name}${suffix}`, pattern)));
      return variants.length === 0 ? [] : [{ ...probe, variants }];
    });
    const isUsed = (variant: Variant): boolean =>
      probes.some((probe) => probe.variants.includes(variant.suffix));
    return probes.length === 0 ? [] : [{ ...stage, probes, variants: stage.variants.filter(isUsed) }];
  });
};

/** Of cases, as `--case` takes them. */
export const namesOf = (stages: readonly Stage[]): string[] =>
  stages.flatMap((stage) =>
    stage.probes.flatMap((probe) => variantsOf(stage, probe).map(({ suffix }) => `${probe.name}${suffix}`)),
  );

export const matchesPattern = (name: string, pattern: string): boolean => {
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
};

/** The rows that these stages fill, and those that follow from them. */
export const rowsOf = (stages: readonly Stage[]): Row[] =>
  stages.flatMap((stage) =>
    stage.probes.flatMap((probe) =>
      variantsOf(stage, probe).flatMap(({ suffix }) =>
        probe.rows.map((row) => ({ ...row, name: `${row.name}${suffix}` })),
      ),
    ),
  );

const PODS_OF = ['tcp1', 'tcp4', 'tcp16', 'tcp1-reverse', 'tcp1-v6-inside', 'tcp1-v6-outside'];
const share = (part: number, whole: number): number => part / whole;

export const DERIVED: readonly Derived[] = [
  ...PODS_OF.map(
    (name): Derived => ({
      name: `${name}-pods:bare`,
      unit: 'x',
      better: 'more',
      from: [`${name}-pods`, name],
      value: share,
    }),
  ),
  ratioOf('tcp1-100-peers', 'tcp1-1-peer', 'more'),
  ratioOf('tcp1-5000-peers', 'tcp1-1-peer', 'more'),
  ratioOf('tcp1-cpu-per-gb-5000-peers', 'tcp1-cpu-per-gb-1-peer', 'less'),
  ratioOf('tcp1-50-networks', 'tcp1-1-network', 'more'),
  ratioOf('tcp1-cpu-per-gb-50-networks', 'tcp1-cpu-per-gb-1-network', 'less'),
  {
    name: 'memory-per-peer',
    unit: 'KB',
    better: 'less',
    from: ['rss-idle-5000-peers', 'rss-idle-1-peer'],
    value: (many, one) => ((many - one) * KB_PER_MB) / (MANY_PEERS - 1),
  },
  {
    name: 'memory-per-network',
    unit: 'KB',
    better: 'less',
    from: ['rss-idle-50-networks', 'rss-idle-1-network'],
    value: (many, one) => ((many - one) * KB_PER_MB) / (MANY_NETWORKS - 1),
  },
];

function ratioOf(many: string, one: string, better: Row['better']): Derived {
  return { name: `${many}:1`, unit: 'x', better, from: [many, one], value: share };
}

const SETTLE_MS = 3000;

/** Once it is configured, and before it carries anything. */
const rssIdle: Probe = {
  name: 'rss-idle',
  rows: [{ name: 'rss-idle', unit: 'MB', better: 'less' }],
  takes: () => SETTLE_MS / 1000,
  run: async ({ running: { pids } }) => {
    await sleep(SETTLE_MS);
    return { 'rss-idle': rssMb(pids) };
  },
};
