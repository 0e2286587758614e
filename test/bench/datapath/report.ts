// What a bench comes to: medians and their spread by case and contender, vl3's ratio to each of the others, as a table for
// people and as one line of JSON for programs.

import { median } from '../../lab/spread.ts';
import type { Better, Case } from './cases.ts';

export type Samples = Map<string, Map<string, number[]>>;

export const addSample = (samples: Samples, name: string, contender: string, value: number): void => {
  const byContender = samples.get(name) ?? new Map<string, number[]>();
  samples.set(name, byContender);
  byContender.set(contender, [...(byContender.get(contender) ?? []), value]);
};

const OURS = 'vl3';

export const printTable = (
  samples: Samples,
  cases: readonly Omit<Case, 'run'>[],
  contenders: readonly string[],
): void => {
  const rows = [
    [
      'case',
      'unit',
      ...contenders,
      ...contenders.filter((name) => name !== OURS).map((name) => `vl3 : ${name}`),
    ],
  ];
  for (const { name, unit, better } of cases) {
    const values = samples.get(name);
    if (values === undefined) continue;
    const cells = contenders.map((contender) => spread(values.get(contender)));
    const ratios = contenders
      .filter((contender) => contender !== OURS)
      .map((contender) => ratio(values, contender)?.toFixed(2) ?? '');
    rows.push([`${name}${better === 'less' ? ' (less is better)' : ''}`, unit, ...cells, ...ratios]);
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  for (const row of rows)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    );
};

/** `{"tcp1":{"unit":…,"better":…,"vl3":…,"peers":{"wireguard-go":…},"ratio":{…},"spread":{…}},…}` */
export const jsonLine = (samples: Samples, cases: readonly Omit<Case, 'run'>[]): string =>
  JSON.stringify(
    Object.fromEntries(
      cases.flatMap(({ name, unit, better }: { name: string; unit: string; better: Better }) => {
        const values = samples.get(name);
        if (values === undefined) return [];
        const peers = [...values.keys()].filter((contender) => contender !== OURS);
        const of = (pick: (contender: string) => unknown): Record<string, unknown> =>
          Object.fromEntries(peers.map((contender) => [contender, pick(contender)]));
        return [
          [
            name,
            {
              unit,
              better,
              vl3: median(values.get(OURS) ?? []),
              peers: of((contender) => median(values.get(contender) ?? [])),
              ratio: of((contender) => ratio(values, contender)),
              spread: Object.fromEntries(
                [...values].map(([contender, all]) => [contender, [Math.min(...all), Math.max(...all)]]),
              ),
            },
          ],
        ];
      }),
    ),
  );

const ratio = (values: ReadonlyMap<string, readonly number[]>, contender: string): number | undefined => {
  const ours = values.get(OURS);
  const theirs = values.get(contender);
  if (ours === undefined || theirs === undefined) return undefined;
  return median(ours) / median(theirs);
};

const spread = (values: readonly number[] | undefined): string => {
  if (values === undefined || values.length === 0) return '';
  const [middle, least, most] = [median(values), Math.min(...values), Math.max(...values)].map(short);
  return values.length === 1 ? `${middle}` : `${middle} (${least}-${most})`;
};

const short = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2));
