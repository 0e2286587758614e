// What is wrong with an annotation, and where: the sentence counts characters from 1, and shows the place.

import { type ErrorCode, Vl3Error } from '../error.ts';
import type { AnnotationKey } from './asked.ts';

/** How much of the text is shown, to each side of the place. */
const BEFORE = 40;
const AFTER = 24;

export class AnnotationError extends Vl3Error {
  readonly key: AnnotationKey;
  /** Into the text, UTF-16. */
  readonly at: number;
  /** Without place and excerpt. */
  readonly sentence: string;

  constructor(code: ErrorCode, where: { key: AnnotationKey; text: string; at: number }, sentence: string) {
    const { key, text, at } = where;
    super(code, `${key}, character ${[...text.slice(0, at)].length + 1}: ${sentence}\n${excerpt(text, at)}`);
    this.name = 'AnnotationError';
    this.key = key;
    this.at = at;
    this.sentence = sentence;
  }
}

/** Two lines: the text around the place, and a caret below it. */
const excerpt = (text: string, at: number): string => {
  // Of a long text only what may be shown is looked at; half a character may be at the cut, and is not shown.
  const before = [...text.slice(Math.max(0, at - 4 * BEFORE), at)];
  const after = [...text.slice(at, at + 4 * AFTER)];
  const head = before.length > BEFORE ? ['…', ...before.slice(1 - BEFORE)] : before;
  const tail = after.length > AFTER ? [...after.slice(0, AFTER - 1), '…'] : after;
  return `  ${[...head, ...tail].map(printable).join('')}\n  ${' '.repeat(head.length)}^`;
};

/** One column each, as far as that can be told. */
const printable = (character: string): string =>
  /^[\p{L}\p{N}\p{P}\p{S}]$/u.test(character) ? character : ' ';
