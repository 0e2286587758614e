// What was asked for on the command line and in the environment.

import { parseArgs } from 'node:util';
import { Refusal } from '../refusal.ts';
import { type Named, parseNamed } from './contenders.ts';

export interface Options {
  readonly help: boolean;
  readonly list: boolean;
  readonly quick: boolean;
  readonly sources: boolean;
  readonly repetitions: number;
  readonly seconds: number;
  readonly floodRate: number;
  /** 0 to 1. */
  readonly maxSteal: number;
  readonly cases: readonly string[];
  readonly only: readonly string[];
  readonly peers: readonly Named[];
  readonly nebulas: readonly Named[];
  readonly report: string;
}

export const HELP = `npm run bench -- [datapath] [options]

vl3's device, as it ships, against every userspace tunnel that is installed, and against two limits: a TUN copy without
crypto, and the cable. All between the same two hosts, made of namespaces, in one run, alternating. Prints a table of
medians, spread and ratios, and the same as JSON on the last line. Exit code 1: a case could not be measured.

  --quick              what fits into a minute; says what it leaves out
  --repetitions N      how often everything is measured (3; quick: 1)
  --seconds N          how long traffic runs each time (4; quick: 1)
  --case NAME          only these cases; * stands for anything; may be repeated
  --only CONTENDER     only these contenders; may be repeated
  --list               the names of all cases, and nothing else
  --peer NAME=PATH     another program that behaves like wireguard-go; may be repeated (VL3_BENCH_PEERS, by commas)
  --nebula NAME=PATH   another nebula, with its nebula-cert beside it; may be repeated (VL3_BENCH_NEBULAS, by commas)
  --flood-rate N       forged initiations a second (20000)
  --max-steal N        a run of which the hypervisor took more percent than this is made again (5)
  --report DIRECTORY   where report.txt, report.json and the plots go (bench-report)
  --sources            vl3 as it is in this clone, not built

Examples:
  npm run bench -- --quick
  npm run bench -- --peer wireguard-go-current=/usr/local/bin/wireguard-go
  npm run bench -- --case 'tcp1*' --case 'udp100-*' --only vl3 --only wireguard-go-debian
  npm run bench -- --case 'flood-*' --flood-rate 50000 --repetitions 5

There are also npm run bench -- lifecycle (what an operator feels) and -- scale (one registry under many agents).`;

export const parseOptions = (args: readonly string[]): Options => {
  const { values } = refusing(() =>
    parseArgs({
      args: [...args],
      options: {
        help: { type: 'boolean', default: false, short: 'h' },
        list: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        sources: { type: 'boolean', default: false },
        repetitions: { type: 'string' },
        seconds: { type: 'string' },
        'flood-rate': { type: 'string', default: '20000' },
        'max-steal': { type: 'string', default: '5' },
        case: { type: 'string', multiple: true, default: [] },
        only: { type: 'string', multiple: true, default: [] },
        peer: { type: 'string', multiple: true, default: [] },
        nebula: { type: 'string', multiple: true, default: [] },
        report: { type: 'string', default: 'bench-report' },
      },
    }),
  );
  const { help, list, quick, sources, only, report } = values;
  return {
    help,
    list,
    quick,
    sources,
    only,
    report,
    cases: values.case,
    repetitions: positive('--repetitions', values.repetitions ?? (quick ? '1' : '3')),
    seconds: positive('--seconds', values.seconds ?? (quick ? '1' : '4')),
    floodRate: positive('--flood-rate', values['flood-rate']),
    maxSteal: positive('--max-steal', values['max-steal']) / 100,
    peers: [...values.peer, ...listed('VL3_BENCH_PEERS')].map((text) => parseNamed('--peer', text)),
    nebulas: [...values.nebula, ...listed('VL3_BENCH_NEBULAS')].map((text) => parseNamed('--nebula', text)),
  };
};

const refusing = <T>(work: () => T): T => {
  try {
    return work();
  } catch (error) {
    throw new Refusal(`${error instanceof Error ? error.message : String(error)}: see --help`);
  }
};

const listed = (variable: string): string[] =>
  (process.env[variable] ?? '').split(',').filter((one) => one !== '');

const positive = (option: string, text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0)
    throw new Refusal(`${option} ${text}: write a number above 0`);
  return value;
};
