// A line chart as SVG: one line a contender over common axes, both from zero, with a legend. Nothing but what the bench's plots
// need.

export interface Line {
  readonly name: string;
  /** x and y; sorted by x. */
  readonly points: readonly (readonly [number, number])[];
}

export interface Chart {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly lines: readonly Line[];
}

const WIDTH = 860;
const HEIGHT = 480;
const LEFT = 80;
const RIGHT = 220;
const TOP = 50;
const BOTTOM = 60;
const TICKS = 6;
/** Told apart also by those who do not see all colours (Okabe and Ito's palette). */
const COLORS = ['#d55e00', '#0072b2', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];

export const drawChart = ({ title, x, y, lines }: Chart): string => {
  const points = lines.flatMap((line) => line.points);
  const xStep = niceStep(Math.max(...points.map(([at]) => at), 1) / TICKS);
  const yStep = niceStep(Math.max(...points.map(([, value]) => value), 1e-9) / TICKS);
  const xMost = ceilTo(Math.max(...points.map(([at]) => at), xStep), xStep);
  const yMost = ceilTo(Math.max(...points.map(([, value]) => value), yStep), yStep);
  const right = WIDTH - RIGHT;
  const bottom = HEIGHT - BOTTOM;
  const across = (value: number): string => (LEFT + (value / xMost) * (right - LEFT)).toFixed(1);
  const down = (value: number): string => (bottom - (value / yMost) * (bottom - TOP)).toFixed(1);
  const parts = [
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    text(LEFT, 28, title, 'font-size="16" font-weight="bold"'),
    text((LEFT + right) / 2, HEIGHT - 16, x, 'text-anchor="middle"'),
    `<g transform="translate(20 ${(TOP + bottom) / 2}) rotate(-90)">${text(0, 0, y, 'text-anchor="middle"')}</g>`,
  ];
  for (const value of ticks(xMost, xStep)) {
    parts.push(rule(across(value), down(0), across(value), down(yMost)));
    parts.push(text(across(value), bottom + 18, label(value), 'text-anchor="middle"'));
  }
  for (const value of ticks(yMost, yStep)) {
    parts.push(rule(across(0), down(value), across(xMost), down(value)));
    parts.push(text(LEFT - 8, Number(down(value)) + 4, label(value), 'text-anchor="end"'));
  }
  for (const [i, line] of lines.entries()) {
    const color = COLORS[i % COLORS.length] ?? 'black';
    const path = line.points.map(([at, value]) => `${across(at)},${down(value)}`).join(' ');
    parts.push(`<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"/>`);
    for (const [at, value] of line.points)
      parts.push(`<circle cx="${across(at)}" cy="${down(value)}" r="3.5" fill="${color}"/>`);
    const height = TOP + 10 + i * 22;
    parts.push(`<rect x="${right + 16}" y="${height - 9}" width="14" height="10" fill="${color}"/>`);
    parts.push(text(right + 38, height, line.name, ''));
  }
  const font = 'font-family="sans-serif" font-size="12"';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" ${font}>\n${parts.join('\n')}\n</svg>\n`;
};

/** The least of 1, 2, 2.5 and 5 times a power of ten that is not below. */
export const niceStep = (value: number): number => {
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 2.5, 5, 10].find((one) => one * power >= value * 0.999) ?? 10;
  return factor * power;
};

const ceilTo = (value: number, step: number): number => Math.ceil(value / step - 1e-9) * step;

const ticks = (most: number, step: number): number[] =>
  Array.from({ length: Math.round(most / step) + 1 }, (_, i) => i * step);

const label = (value: number): string => `${Number(value.toPrecision(6))}`;

const rule = (x1: string, y1: string, x2: string, y2: string): string =>
  `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="#ddd"/>`;

const text = (x: number | string, y: number | string, content: string, attributes: string): string =>
  `<text x="${x}" y="${y}" ${attributes}>${escaped(content)}</text>`;

const escaped = (content: string): string =>
  content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
