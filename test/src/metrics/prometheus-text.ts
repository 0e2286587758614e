// A strict reader of Prometheus' text format (version 0.0.4), to judge what is served: every series belongs to a
// metric with HELP and TYPE, names and labels are well formed, nothing is said twice, histograms add up.

export interface Metric {
  readonly type: string;
  readonly help: string;
  readonly samples: {
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly value: number;
  }[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|(?=\}))/;
const VALUE = /^[+-]?(?:Inf|\d+(?:\.\d+)?(?:e[+-]?\d+)?)$|^NaN$/;

/** Throws what is wrong, with the line. */
export const parsePrometheusText = (text: string): Map<string, Metric> => {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const metrics = new Map<string, Metric>();
  const helps = new Map<string, string>();
  const seen = new Set<string>();
  let current: string | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    const fail = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    if (line === '') continue;
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (keyword === 'HELP') {
      if (helps.has(name)) fail('a second HELP');
      helps.set(name, rest);
    } else if (keyword === 'TYPE') {
      if (!/^(counter|gauge|histogram|summary|untyped)$/.test(rest)) fail('no type');
      if (metrics.has(name)) fail('a second TYPE');
      metrics.set(name, { type: rest, help: helps.get(name) ?? fail('TYPE without HELP'), samples: [] });
      current = name;
    } else if (!line.startsWith('#')) {
      const sample = readSample(line, fail);
      const metric = metrics.get(current ?? '') ?? fail('a series before its TYPE');
      const suffix = sample.name.slice((current ?? '').length);
      const suffixes = metric.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
      if (!sample.name.startsWith(current ?? '') || !suffixes.includes(suffix))
        fail(`a series among ${current}`);
      const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
      if (seen.has(key)) fail('a series twice');
      seen.add(key);
      metric.samples.push(sample);
    }
  }
  for (const [name, metric] of metrics) judge(name, metric);
  return metrics;
};

const readSample = (line: string, fail: (why: string) => never): Metric['samples'][number] => {
  const name = NAME.exec(line)?.[0] ?? fail('no name');
  let rest = line.slice(name.length);
  const labels: Record<string, string> = {};
  if (rest.startsWith('{')) {
    rest = rest.slice(1);
    while (!rest.startsWith('}')) {
      const [whole, label = '', value = ''] = LABEL.exec(rest) ?? fail('no label');
      if (label in labels) fail('a label twice');
      labels[label] = value.replace(/\\(.)/g, (_, one: string) => (one === 'n' ? '\n' : one));
      rest = rest.slice(whole.length);
    }
    rest = rest.slice(1);
  }
  const value = rest.replace(/^ /, '');
  if (!rest.startsWith(' ') || !VALUE.test(value)) fail('no value');
  return { name, labels, value: Number(value.replace('Inf', 'Infinity')) };
};

const judge = (name: string, { type, help, samples }: Metric): void => {
  if (help === '') throw new Error(`${name} has no help`);
  if (type === 'counter' && samples.some(({ value }) => !(value >= 0)))
    throw new Error(`${name} is negative`);
  if (type === 'counter' && !name.endsWith('_total'))
    throw new Error(`the counter ${name} does not end in _total`);
  if (type !== 'histogram') return;
  const groups = new Map<string, { le: number; value: number }[]>();
  for (const { name: series, labels, value } of samples) {
    const { le, ...rest } = labels;
    const key = JSON.stringify(Object.entries(rest).sort());
    const group = groups.get(key) ?? [];
    groups.set(key, group);
    if (series.endsWith('_bucket')) group.push({ le: Number((le ?? '').replace('Inf', 'Infinity')), value });
    if (!series.endsWith('_count')) continue;
    const last = group.at(-1);
    if (last?.le !== Number.POSITIVE_INFINITY || last.value !== value)
      throw new Error(`${name}: +Inf is not the count`);
    group.forEach((one, i) => {
      const before = group[i - 1];
      if (before !== undefined && (one.le <= before.le || one.value < before.value))
        throw new Error(`${name}: buckets`);
    });
  }
};

/** The value of the one series with these labels, or the sum of those that have them; undefined when there is none. */
export const sumOf = (
  metrics: ReadonlyMap<string, Metric>,
  name: string,
  labels: Record<string, string> = {},
): number | undefined => {
  const fitting = metrics
    .get(name)
    ?.samples.filter((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value));
  return fitting === undefined || fitting.length === 0
    ? undefined
    : fitting.reduce((sum, { value }) => sum + value, 0);
};
