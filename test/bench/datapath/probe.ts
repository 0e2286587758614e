// One way to measure a tunnel that is up: what it needs, how long it takes, and which numbers it brings.

import { fileURLToPath } from 'node:url';
import type { Ability, Running } from './contenders.ts';
import type { Row } from './samples.ts';
import type { Outsider, Sites } from './topology.ts';

export interface Scene {
  readonly sites: Sites;
  readonly running: Running;
  readonly outsider: Outsider | undefined;
}

export interface Load {
  /** How long one run of traffic lasts. */
  readonly seconds: number;
  /** Forged initiations a second. */
  readonly floodRate: number;
}

export interface Probe {
  readonly name: string;
  readonly needs?: readonly Ability[];
  /** In which variants of its stage it runs, by their suffixes; undefined: in all. */
  readonly variants?: readonly string[];
  readonly rows: readonly Row[];
  /** About how many seconds it takes. */
  readonly takes: (seconds: number) => number;
  /** What it found, by the name of the row. Throws where it could not be measured. */
  readonly run: (scene: Scene, load: Load) => Promise<Readonly<Record<string, number>>>;
}

/** The command that runs a program of this folder, which gets its own copy of nothing: it is the bench's, not a contender's. */
export const benchProgram = (name: string, ...args: readonly (string | number)[]): string[] => [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  fileURLToPath(new URL(`./programs/${name}`, import.meta.url)),
  ...args.map(String),
];

/** The numbers that a program printed as JSON. */
export const numbersOf = (text: string): Record<string, number> => {
  const parsed: unknown = JSON.parse(text.trim().split('\n').at(-1) ?? '');
  if (typeof parsed !== 'object' || parsed === null) throw new Error(`no numbers: ${text}`);
  return Object.fromEntries(Object.entries(parsed).map(([name, value]) => [name, Number(value)]));
};
