// The curves of a bench as pictures: what a tunnel carries by the size of packets, and how long a ping takes by the load.

import { type Chart, drawChart } from './chart.ts';
import type { Samples } from './samples.ts';
import { LOADS, PACKET_SIZES } from './stages.ts';

/** By file name; none where nothing was measured. */
export const plots = (samples: Samples, contenders: readonly string[]): Record<string, string> => {
  const point = (name: string, x: number | undefined, row: string): [number, number][] => {
    const y = samples.median(row, name);
    return x === undefined || y === undefined ? [] : [[x, y]];
  };
  const lines = (pointsOf: (name: string) => [number, number][]): Chart['lines'] =>
    contenders
      .map((name) => ({ name, points: pointsOf(name).sort(([a], [b]) => a - b) }))
      .filter((line) => line.points.length > 0);
  const bySize = lines((name) => PACKET_SIZES.flatMap((size) => point(name, size, `size-${size}`)));
  const byLoad = lines((name) => [
    ...point(name, 0, 'rtt-idle'),
    ...LOADS.flatMap((load) => point(name, samples.median(`load-${load}-carried`, name), `load-${load}-rtt`)),
    // A cable carries ten times what any tunnel does: it would leave them no room.
    ...(name === 'cable' ? [] : point(name, samples.median('tcp1', name), 'tcp1-rtt')),
  ]);
  return {
    ...(bySize.length === 0
      ? {}
      : {
          'throughput-over-packet-size.svg': drawChart({
            title: 'UDP flood: delivered by size of packets',
            x: 'payload, bytes',
            y: 'Mbit/s',
            lines: bySize,
          }),
        }),
    ...(byLoad.some(({ points }) => points.length > 1)
      ? {
          'rtt-over-load.svg': drawChart({
            title: 'Round trip beside one TCP stream',
            x: 'carried, Mbit/s',
            y: 'ms',
            lines: byLoad,
          }),
        }
      : {}),
  };
};
