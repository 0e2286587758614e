// Gives back to the kernel what a long-running process needed only to start: memory that malloc keeps for later, and those pages
// of Node's own program that starting touched. What is used again comes back by itself, from the page cache.

import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { M_ARENA_MAX, MADV_DONTNEED, madvise, mallocTrim, mallopt } from './libc.ts';

/** To be called before threads are started: they share one pool of memory, instead of each keeping its own. */
export const spareMemory = (): void => {
  mallopt(M_ARENA_MAX, 1);
};

/**
 * Once much has been made that was needed for a moment, or all that starting takes. Pages that are nearly empty are emptied, too, as
 * when memory runs out: the calling thread stands still for a tenth of a second or so.
 */
export const compactMemory = (): void => {
  collectGarbage();
  mallocTrim(0);
  for (const { address, length } of programPages(readFileSync('/proc/self/smaps', 'latin1')))
    madvise(address, length, MADV_DONTNEED);
};

const MAPPING = /^([0-9a-f]+)-([0-9a-f]+) (r-[x-]p) \S+ \S+ [1-9]\d*\s+(\S+)$/;

/** Mappings of the program that hold nothing but what is in its file. */
const programPages = (smaps: string): { address: number; length: number }[] => {
  const pages: { address: number; length: number }[] = [];
  let open: { address: number; length: number } | undefined;
  for (const line of smaps.split('\n')) {
    const [, start, end, , path] = MAPPING.exec(line) ?? [];
    if (start !== undefined && end !== undefined) {
      const address = Number.parseInt(start, 16);
      open = path === process.execPath ? { address, length: Number.parseInt(end, 16) - address } : undefined;
    } else if (/^[0-9a-f]+-/.test(line)) {
      open = undefined;
    } else if (open !== undefined && /^Anonymous: +0 kB$/.test(line)) {
      pages.push(open);
    }
  }
  return pages;
};

const collectGarbage = (): void => {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
};
