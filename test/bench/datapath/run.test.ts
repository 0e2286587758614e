// How a run is carried out: in turns, without what was spoiled, and with a name for what is missing. Nothing is started.

import { describe, expect, test } from 'vitest';
import type { Lab } from '../../lab/lab.ts';
import type { MachineTime } from '../../lab/machine-time.ts';
import type { Contender } from './contenders.ts';
import { parseOptions } from './options.ts';
import type { Probe, Scene } from './probe.ts';
import { estimate, type Outcome, Runner } from './run.ts';
import { allStages, matchesPattern, namesOf, quickly, rowsOf, type Stage, selected } from './stages.ts';
import { sourcesOfVl3 } from './vl3-program.ts';

const SCENE: Scene = Object.assign(Object.create(null), { running: { pids: [], stop: async () => {} } });
const NO_LAB: Lab = Object.create(null);

const contender = (name: string, cannot: Contender['cannot'] = {}): Contender => ({
  name,
  about: '',
  cannot,
  start: async () => SCENE.running,
});

const probe = (name: string, run: () => Promise<Record<string, number>>): Probe => ({
  name,
  rows: [{ name, unit: '', better: 'more' }],
  takes: (seconds) => seconds,
  run,
});

const stage = (probes: Probe[], log: string[] = []): Stage => ({
  name: 'stage',
  needs: [],
  variants: [
    {
      suffix: '',
      needs: [],
      takes: 0,
      start: async (who) => {
        log.push(`start ${who.name}`);
        if (who.name === 'broken') throw new Error('no such thing');
        return { ...SCENE, running: { pids: [], stop: async () => void log.push(`stop ${who.name}`) } };
      },
    },
  ],
  probes,
});

/** Each run takes 100 ticks, of which so many are stolen, one after another. */
const clock = (steals: number[]): (() => MachineTime) => {
  const now = { total: 0, steal: 0 };
  let isBegin = true;
  return () => {
    if (!isBegin) {
      now.total += 100;
      now.steal += steals.shift() ?? 0;
    }
    isBegin = !isBegin;
    return { ...now };
  };
};

const carryOut = async (
  stages: Stage[],
  contenders: Contender[],
  { repetitions = 1, steals = [] }: { repetitions?: number; steals?: number[] } = {},
): Promise<Outcome> => {
  const options = { seconds: 1, floodRate: 1, repetitions, maxSteal: 0.05, progress: () => {} };
  const deps = { machineTime: clock(steals), isUp: async () => true };
  return await new Runner(NO_LAB, options, deps).run(stages, contenders);
};

describe('a run', () => {
  test('measures a case of everybody before the next case, and another begins each time', async () => {
    const log: string[] = [];
    const seen = (name: string): Probe => probe(name, async () => ({ [name]: log.push(name) }));
    await carryOut([stage([seen('one'), seen('two')], log)], [contender('a'), contender('b')], {
      repetitions: 2,
    });
    const round = (first: string, second: string): string[] => [
      `start ${first}`,
      `start ${second}`,
      ...['one', 'one', 'two', 'two'],
      `stop ${first}`,
      `stop ${second}`,
    ];
    expect(log).toEqual([...round('a', 'b'), ...round('b', 'a')]);
  });

  test('that lost more than allowed to steal is thrown away and made again', async () => {
    const values = [1, 2, 3];
    const { samples, discarded, missing } = await carryOut(
      [stage([probe('tcp', async () => ({ tcp: values.shift() ?? 0 }))])],
      [contender('vl3')],
      { steals: [6, 50, 5] },
    );
    expect(samples.of('tcp', 'vl3')).toEqual([3]);
    expect(discarded).toBe(2);
    expect(missing).toEqual([]);
  });

  test('that is spoiled each time is missing, not reported', async () => {
    const { samples, missing } = await carryOut(
      [stage([probe('tcp', async () => ({ tcp: 1 }))])],
      [contender('vl3')],
      { steals: [6, 6, 6] },
    );
    expect(samples.of('tcp', 'vl3')).toEqual([]);
    expect(missing).toEqual([expect.stringMatching(/^tcp of vl3: others took 6 %/)]);
  });

  test('that fails is tried again, and named when it never works', async () => {
    let tries = 0;
    const flaky = probe('flaky', async () => {
      tries += 1;
      if (tries === 1) throw new Error('once');
      return { flaky: tries };
    });
    const never = probe('never', async () => {
      throw new Error('nothing arrives');
    });
    const { samples, missing } = await carryOut([stage([flaky, never])], [contender('vl3')], {
      repetitions: 2,
    });
    expect(samples.of('flaky', 'vl3')).toEqual([2, 3]);
    expect(missing).toEqual(['never of vl3: nothing arrives']);
  });

  test('goes on without a contender that does not start, and names it', async () => {
    const { samples, missing } = await carryOut(
      [stage([probe('tcp', async () => ({ tcp: 1 }))])],
      [contender('broken'), contender('vl3')],
    );
    expect(samples.of('tcp', 'vl3')).toEqual([1]);
    expect(missing).toEqual(['tcp of broken: did not start: no such thing']);
  });

  test('does not ask of a contender what it cannot do', async () => {
    const inside6: Probe = { ...probe('v6', async () => ({ v6: 1 })), needs: ['v6-inside'] };
    const contenders = [contender('nebula', { 'v6-inside': 'carries IPv4 inside' }), contender('vl3')];
    const { samples, missing } = await carryOut([stage([inside6])], contenders);
    expect(samples.raw).toEqual({ v6: { vl3: [1] } });
    expect(missing).toEqual([]);
    expect(estimate([stage([inside6])], contenders, 4, 3)).toBe(12);
  });
});

describe('which cases', () => {
  const stages = allStages(sourcesOfVl3);
  test('a pattern names whole cases', () => {
    expect(matchesPattern('tcp1-pods', 'tcp1*')).toBe(true);
    expect(matchesPattern('tcp16', 'tcp1')).toBe(false);
    expect(matchesPattern('tcp1', '*')).toBe(true);
    expect(namesOf(selected(stages, ['tcp4', 'tcp4-pods']))).toEqual(['tcp4', 'tcp4-pods']);
  });

  test('every name is there once, and the quick ones are among them', () => {
    const all = namesOf(stages);
    expect(new Set(all).size).toBe(all.length);
    expect(namesOf(quickly(stages))).toEqual(['rtt-idle', 'tcp1', 'tcp1-pods', 'tcp4', 'udp100-100k']);
    expect(all).toEqual(expect.arrayContaining(namesOf(quickly(stages))));
    expect(rowsOf(quickly(stages)).map(({ name }) => name)).toContain('tcp1-cpu-per-gb-pods');
  });
});

describe('options', () => {
  test('a quick run is one of a second', () => {
    expect(parseOptions(['--quick'])).toMatchObject({ repetitions: 1, seconds: 1, maxSteal: 0.05 });
    expect(parseOptions([])).toMatchObject({ repetitions: 3, seconds: 4 });
  });

  test('what makes no sense is refused', () => {
    expect(() => parseOptions(['--seconds', '0'])).toThrow('--seconds 0');
    expect(() => parseOptions(['--peer', '/bin/sh'])).toThrow('write NAME=PATH');
    expect(() => parseOptions(['--peer', 'x=/nowhere'])).toThrow('there is no /nowhere');
  });
});
