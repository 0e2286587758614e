// JSON (RFC 8259) as documents of other domains are read: JSON.parse takes the last of two members of one name and rounds
// numbers past 2^53, so that two readers of the same bytes may see two documents. Here a second member is an error, and whole
// numbers are big integers. Text, depth and count of values are bounded.

/** Objects have no prototype: "__proto__" is a member like any other. */
export type Json = null | boolean | string | number | bigint | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [member: string]: Json | undefined;
}

/** Why it is none, with the place; callers turn it into their own error. */
export class MalformedJson extends Error {}

const MAX_DEPTH = 16;
const MAX_VALUES = 20_000;
const MAX_DIGITS = 20;

const SPACE = /[ \t\n\r]*/y;
// What JSON.parse refuses in a string (control characters, wrong escapes) it refuses below.
const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/sy;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;

/** Throws MalformedJson. */
export const parseStrictJson = (text: string): Json => new Reader(text).document();

export const isJsonObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

class Reader {
  readonly #text: string;
  #at = 0;
  #values = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): Json {
    const value = this.#value(0);
    this.#take(SPACE);
    if (this.#at < this.#text.length) throw this.#malformed('there is something after its end');
    return value;
  }

  #value(depth: number): Json {
    this.#values += 1;
    if (depth > MAX_DEPTH) throw this.#malformed(`it is nested more than ${MAX_DEPTH} levels deep`);
    if (this.#values > MAX_VALUES) throw this.#malformed(`it holds more than ${MAX_VALUES} values`);
    this.#take(SPACE);
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      default:
        return this.#plain();
    }
  }

  #object(depth: number): Json {
    const object: Record<string, Json> = Object.create(null);
    this.#at += 1;
    for (let first = true; !this.#closes('}', first); first = false) {
      this.#take(SPACE);
      const name = this.#string();
      if (name in object) throw this.#malformed(`the member "${printable(name)}" is there twice`);
      this.#take(SPACE);
      if (this.#text[this.#at] !== ':') throw this.#malformed('it is not JSON');
      this.#at += 1;
      object[name] = this.#value(depth + 1);
    }
    return object;
  }

  #array(depth: number): Json {
    const array: Json[] = [];
    this.#at += 1;
    for (let first = true; !this.#closes(']', first); first = false) array.push(this.#value(depth + 1));
    return array;
  }

  /** Steps over the end of an object or array, or over the comma before its next value. */
  #closes(end: string, first: boolean): boolean {
    this.#take(SPACE);
    const next = this.#text[this.#at];
    if (next === end) {
      this.#at += 1;
      return true;
    }
    if (first) return false;
    if (next !== ',') throw this.#malformed('it is not JSON');
    this.#at += 1;
    return false;
  }

  #string(): string {
    const token = this.#take(STRING);
    if (token === undefined) throw this.#malformed('it is not JSON');
    try {
      return String(JSON.parse(token));
    } catch {
      throw this.#malformed('it is not JSON');
    }
  }

  #plain(): Json {
    const word = this.#take(WORD);
    if (word !== undefined) return word === 'null' ? null : word === 'true';
    NUMBER.lastIndex = this.#at;
    const found = NUMBER.exec(this.#text);
    if (found === null) throw this.#malformed('it is not JSON');
    const [token, fraction, exponent] = found;
    this.#at += token.length;
    if (fraction !== undefined || exponent !== undefined) return Number(token);
    if (token.length > MAX_DIGITS) throw this.#malformed('a number is too large');
    return BigInt(token);
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const [token] = pattern.exec(this.#text) ?? [];
    this.#at += token?.length ?? 0;
    return token;
  }

  #malformed(why: string): MalformedJson {
    return new MalformedJson(`${why} (at character ${this.#at + 1})`);
  }
}

const printable = (text: string): string => text.slice(0, 40).replace(/[^\x20-\x7e]/g, '?');
