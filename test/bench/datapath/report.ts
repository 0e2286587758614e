// What a bench comes to, as a table for people and as one line of JSON for programs.

import { OURS, type Row, type Samples } from './samples.ts';

/** Lines of the table. A contender that was not measured has an empty cell. */
export const table = (samples: Samples, rows: readonly Row[], contenders: readonly string[]): string => {
  const others = contenders.filter((name) => name !== OURS);
  const lines = [['case', 'unit', ...contenders, ...others.map((name) => `${OURS} : ${name}`)]];
  for (const { name, unit, better } of rows) {
    if (contenders.every((contender) => samples.of(name, contender).length === 0)) continue;
    lines.push([
      name,
      better === 'less' ? `${unit}, less is better` : unit,
      ...contenders.map((contender) => cell(samples, name, contender)),
      ...others.map((contender) => samples.ratio(name, contender)?.toFixed(2) ?? ''),
    ]);
  }
  const widths = lines[0]?.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0))) ?? [];
  return lines
    .map((line) =>
      line
        .map((text, i) => text.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
};

/** `{"tcp1":{"unit":…,"better":…,"vl3":…,"peers":{"wireguard-go":…},"ratio":{…},"spread":{…}},…}`; null: not measured. */
export const json = (
  samples: Samples,
  rows: readonly Row[],
  contenders: readonly string[],
): Record<string, unknown> => {
  const entries = rows.map(({ name, unit, better }) => {
    const measured = contenders.filter((contender) => samples.of(name, contender).length > 0);
    const others = measured.filter((contender) => contender !== OURS);
    const of = (names: readonly string[], pick: (contender: string) => unknown): Record<string, unknown> =>
      Object.fromEntries(names.map((contender) => [contender, pick(contender) ?? null]));
    return [
      name,
      {
        unit,
        better,
        vl3: samples.median(name, OURS) ?? null,
        peers: of(others, (contender) => samples.median(name, contender)),
        ratio: of(others, (contender) => samples.ratio(name, contender)),
        spread: of(measured, (contender) => extremes(samples.of(name, contender))),
      },
    ] as const;
  });
  return Object.fromEntries(entries);
};

const extremes = (values: readonly number[]): [number, number] => [Math.min(...values), Math.max(...values)];

const cell = (samples: Samples, row: string, contender: string): string => {
  const values = samples.of(row, contender);
  const middle = samples.median(row, contender);
  if (middle === undefined) return '';
  const [least, most] = extremes(values);
  return values.length === 1 ? short(middle) : `${short(middle)} (${short(least)}-${short(most)})`;
};

const short = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2));
