// The "plugins" of a conflist, edited as text: one entry is put behind the others, or taken out, and every other byte stays
// as its owner wrote it.

import { isObject, type JsonObject } from './json.ts';

interface Span {
  readonly start: number;
  readonly end: number;
}

/** A conflist's text with its plugins. Undefined: not a conflist that a runtime would take. */
export const parsePluginList = (text: string): PluginList | undefined => {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(list)) return undefined;
  const { plugins } = list;
  if (!Array.isArray(plugins) || plugins.length === 0 || !plugins.every(hasType)) return undefined;
  return new PluginList(text, plugins);
};

export const hasType = (plugin: unknown): plugin is JsonObject & { readonly type: string } =>
  isObject(plugin) && typeof plugin['type'] === 'string' && plugin['type'] !== '';

export class PluginList {
  readonly text: string;
  readonly plugins: readonly (JsonObject & { readonly type: string })[];
  readonly #spans: readonly Span[];

  constructor(text: string, plugins: PluginList['plugins']) {
    this.text = text;
    this.plugins = plugins;
    this.#spans = spansOf(text);
  }

  /** The text with exactly this entry of its type, which stands last. */
  with(entry: JsonObject & { readonly type: string }): string {
    const [present, another] = this.#of(entry.type);
    const isLast = present === this.plugins.length - 1;
    if (present !== undefined && another === undefined && isLast) {
      if (JSON.stringify(this.plugins[present]) === JSON.stringify(entry)) return this.text;
      const { start, end } = this.#span(present);
      return `${this.text.slice(0, start)}${JSON.stringify(entry)}${this.text.slice(end)}`;
    }
    const without = present === undefined ? this : parsePluginList(this.without(entry.type));
    if (without === undefined) return this.text;
    const last = without.#span(without.plugins.length - 1);
    // Behind the last one as that one stands behind the one before it.
    const { text } = without;
    const blank = /^\s*/.exec(text.slice(0, last.start).split(/[[,]/).at(-1) ?? '')?.[0] ?? '';
    return `${text.slice(0, last.end)},${blank}${JSON.stringify(entry)}${text.slice(last.end)}`;
  }

  /** The text without the entries of this type. */
  without(type: string): string {
    let { text } = this;
    for (const index of this.#of(type).toReversed()) {
      const { start, end } = this.#span(index);
      // With the comma before it, or, of the first one, behind it.
      const from = index === 0 ? start : this.#span(index - 1).end;
      const to = index === 0 && this.#spans.length > 1 ? this.#span(1).start : end;
      text = text.slice(0, from) + text.slice(to);
    }
    return text;
  }

  has(type: string): boolean {
    return this.#of(type).length > 0;
  }

  #of(type: string): number[] {
    return this.plugins.flatMap((plugin, index) => (plugin.type === type ? [index] : []));
  }

  #span(index: number): Span {
    const span = this.#spans[index];
    if (span === undefined) throw new RangeError(`there is no plugin ${index}`);
    return span;
  }
}

/** Where the plugins stand in the text, which is known to be good JSON. */
const spansOf = (text: string): Span[] => {
  let list: Span | undefined;
  // Of equal keys the last one counts.
  for (const { key, value } of members(text)) if (key === 'plugins') list = value;
  return list === undefined ? [] : elements(text, list.start);
};

function* members(text: string): Generator<{ key: unknown; value: Span }> {
  let at = skipBlanks(text, text.indexOf('{') + 1);
  while (text[at] !== '}') {
    const keyEnd = skipValue(text, at);
    const start = skipBlanks(text, skipBlanks(text, keyEnd) + 1);
    const end = skipValue(text, start);
    yield { key: JSON.parse(text.slice(at, keyEnd)), value: { start, end } };
    at = skipSeparator(text, end);
  }
}

const elements = (text: string, listStart: number): Span[] => {
  const spans: Span[] = [];
  let at = skipBlanks(text, listStart + 1);
  while (text[at] !== ']') {
    const end = skipValue(text, at);
    spans.push({ start: at, end });
    at = skipSeparator(text, end);
  }
  return spans;
};

/** To the next member or element, or to the bracket behind the last. */
const skipSeparator = (text: string, at: number): number => {
  const next = skipBlanks(text, at);
  return text[next] === ',' ? skipBlanks(text, next + 1) : next;
};

const skipBlanks = (text: string, at: number): number => {
  const blanks = /[ \t\r\n]*/y;
  blanks.lastIndex = at;
  blanks.exec(text);
  return blanks.lastIndex;
};

/** Behind the value that begins here. */
const skipValue = (text: string, at: number): number => {
  const tokens = /"(?:[^"\\]|\\.)*"|[[\]{}]|[^\s,:"[\]{}]+|[\s,:]/gsy;
  tokens.lastIndex = at;
  let depth = 0;
  for (let token = tokens.exec(text)?.[0]; token !== undefined; token = tokens.exec(text)?.[0]) {
    if (token === '{' || token === '[') depth += 1;
    else if (token === '}' || token === ']') depth -= 1;
    if (depth === 0) return tokens.lastIndex;
  }
  throw new RangeError('not JSON');
};
