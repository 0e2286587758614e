// Carries stages out: repetition by repetition, case by case, contender by contender, so that what is compared is measured within
// seconds; who begins changes. A run of which the hypervisor took too much is thrown away and made again, and so is one that
// failed; what cannot be had is named.

import type { Lab } from '../../lab/lab.ts';
import { type MachineTime, machineTime, stolenShare } from '../../lab/machine-time.ts';
import { ping } from '../../lab/ping.ts';
import type { Ability, Contender } from './contenders.ts';
import type { Load, Probe, Scene } from './probe.ts';
import { Samples } from './samples.ts';
import { type Stage, type Variant, variantsOf } from './stages.ts';

export interface RunOptions extends Load {
  readonly repetitions: number;
  /** 0 to 1. */
  readonly maxSteal: number;
  readonly progress: (line: string) => void;
}

export interface Outcome {
  readonly samples: Samples;
  /** What was thrown away for steal. */
  readonly discarded: number;
  /** What could be measured in no repetition, and why. */
  readonly missing: readonly string[];
}

interface Participant {
  readonly contender: Contender;
  readonly variant: Variant;
  scene: Scene | undefined;
}

const MAX_TRIES = 3;
/** Until the first packet comes through. */
const PATIENCE_SECONDS = 20;

export const isAble = (contender: Contender, ...parts: readonly { needs?: readonly Ability[] }[]): boolean =>
  parts.every(({ needs = [] }) => needs.every((ability) => contender.cannot[ability] === undefined));

/** About how many seconds it takes. */
export const estimate = (
  stages: readonly Stage[],
  contenders: readonly Contender[],
  seconds: number,
  repetitions: number,
): number => {
  let sum = 0;
  for (const stage of stages) {
    for (const variant of stage.variants) {
      const probes = stage.probes.filter((probe) => variantsOf(stage, probe).includes(variant));
      for (const contender of contenders.filter((one) => isAble(one, stage, variant))) {
        const able = probes.filter((probe) => isAble(contender, probe));
        sum += able.reduce((total, probe) => total + probe.takes(seconds), variant.takes);
      }
    }
  }
  return sum * repetitions;
};

export interface RunDeps {
  readonly machineTime: () => MachineTime;
  /** Whether packets come through. */
  readonly isUp: (scene: Scene) => Promise<boolean>;
}

const REAL: RunDeps = {
  machineTime,
  isUp: async ({ sites: [a, b] }) =>
    (await ping(a.end, b.inside.v4, { patience: PATIENCE_SECONDS })).received > 0,
};

export class Runner {
  readonly #lab: Lab;
  readonly #options: RunOptions;
  readonly #deps: RunDeps;
  readonly #samples = new Samples();
  readonly #problems = new Map<string, string>();
  #discarded = 0;

  constructor(lab: Lab, options: RunOptions, deps: RunDeps = REAL) {
    this.#lab = lab;
    this.#options = options;
    this.#deps = deps;
  }

  async run(stages: readonly Stage[], contenders: readonly Contender[]): Promise<Outcome> {
    const { repetitions, seconds } = this.#options;
    const inAll = estimate(stages, contenders, seconds, 1);
    for (let repetition = 0; repetition < repetitions; repetition++) {
      for (const [i, stage] of stages.entries()) {
        const left =
          inAll * (repetitions - repetition) - estimate(stages.slice(0, i), contenders, seconds, 1);
        this.#options.progress(
          `repetition ${repetition + 1} of ${repetitions}, ${stage.name}; about ${Math.ceil(left / 60)} min left`,
        );
        await this.#stage(stage, rotated(contenders, repetition));
      }
    }
    const missing = [...this.#problems].map(([what, why]) => `${what}: ${why}`);
    return { samples: this.#samples, discarded: this.#discarded, missing };
  }

  async #stage(stage: Stage, contenders: readonly Contender[]): Promise<void> {
    const participants: Participant[] = contenders.flatMap((contender) =>
      stage.variants
        .filter((variant) => isAble(contender, stage, variant))
        .map((variant) => ({ contender, variant, scene: undefined })),
    );
    try {
      await Promise.all(participants.map(async (participant) => await this.#start(stage, participant)));
      for (const probe of stage.probes) {
        for (const participant of participants)
          if (runsWith(stage, probe, participant)) await this.#measure(probe, participant);
      }
    } finally {
      await Promise.all(participants.map(async ({ scene }) => await scene?.running.stop()));
    }
  }

  async #start(stage: Stage, participant: Participant): Promise<void> {
    const { contender, variant } = participant;
    try {
      const scene = await variant.start(contender, this.#lab);
      participant.scene = scene;
      if (!(await this.#deps.isUp(scene))) throw new Error('nothing comes through the tunnel');
    } catch (error) {
      await participant.scene?.running.stop();
      participant.scene = undefined;
      for (const probe of stage.probes)
        if (isAble(contender, probe)) this.#fails(participant, probe, `did not start: ${messageOf(error)}`);
    }
  }

  async #measure(probe: Probe, participant: Participant): Promise<void> {
    const { contender, variant, scene } = participant;
    if (scene === undefined) return;
    const what = `${probe.name}${variant.suffix}`;
    let problem = '';
    for (let attempt = 1; attempt <= MAX_TRIES; attempt++) {
      const before = this.#deps.machineTime();
      try {
        const found = await probe.run(scene, this.#options);
        const steal = stolenShare(before, this.#deps.machineTime());
        if (steal <= this.#options.maxSteal) {
          this.#keep(probe, participant, found);
          return;
        }
        this.#discarded += 1;
        problem = `others took ${(steal * 100).toFixed(0)} % of the machine each time (see --max-steal)`;
        this.#options.progress(
          `  ${what}, ${contender.name}: discarded, ${(steal * 100).toFixed(0)} % stolen`,
        );
      } catch (error) {
        problem = messageOf(error);
        this.#options.progress(`  ${what}, ${contender.name}: ${problem}`);
      }
    }
    this.#fails(participant, probe, problem);
  }

  #keep(probe: Probe, { contender, variant }: Participant, found: Readonly<Record<string, number>>): void {
    for (const { name, unit } of probe.rows) {
      const value = found[name];
      if (value === undefined) continue;
      this.#samples.add(`${name}${variant.suffix}`, contender.name, value);
      this.#options.progress(
        `  ${name}${variant.suffix}, ${contender.name}: ${value.toPrecision(4)} ${unit}`,
      );
    }
    this.#problems.delete(problemName(probe, variant, contender));
  }

  /** Unless another repetition brings or brought it. */
  #fails({ contender, variant }: Participant, probe: Probe, why: string): void {
    const [row] = probe.rows;
    if (row !== undefined && this.#samples.of(`${row.name}${variant.suffix}`, contender.name).length > 0)
      return;
    this.#problems.set(problemName(probe, variant, contender), why);
  }
}

const runsWith = (stage: Stage, probe: Probe, { contender, variant }: Participant): boolean =>
  isAble(contender, probe) && variantsOf(stage, probe).includes(variant);

const problemName = (probe: Probe, variant: Variant, contender: Contender): string =>
  `${probe.name}${variant.suffix} of ${contender.name}`;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const rotated = <T>(values: readonly T[], by: number): T[] =>
  values.map((_, i) => values[(i + by) % values.length]).filter((value) => value !== undefined);
