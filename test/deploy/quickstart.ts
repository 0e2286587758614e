// What the kind quickstart has people type, paragraph by paragraph: tests run these, so that it stays true.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './chart.ts';

/** Where people are who type it, once they have typed its first line. */
export const QUICKSTART = join(ROOT, 'deploy/examples/kubernetes/kind');

export interface Paragraph {
  /** What it says it does. */
  readonly what: string;
  readonly script: string;
}

export const paragraphs = (): Paragraph[] => {
  const text = readFileSync(join(QUICKSTART, 'README.md'), 'utf8');
  const [, block = ''] = /^```sh\n(.*?)^```$/ms.exec(text) ?? [];
  const [entry, ...rest] = block.trim().split(/\n\n+/);
  if (entry !== `cd ${QUICKSTART.slice(ROOT.length + 1)}`) throw new Error('the quickstart begins elsewhere');
  return rest.map((script) => ({ what: script.split('\n')[0]?.replace(/^# /, '') ?? '', script }));
};
