// The round trip to a peer's gateway address, measured by one ICMP echo from the network's router namespace: it takes the
// way that pods' packets take.

import { execFile } from 'node:child_process';
import { namedNamespacePath } from '../netns/namespace.ts';

/** Milliseconds; null when no answer came within a second. */
export const echo = (router: string, address: string): Promise<number | null> =>
  new Promise((resolve) => {
    const args = [`--net=${namedNamespacePath(router)}`, 'ping', '-n', '-c', '1', '-W', '1', address];
    execFile('nsenter', args, { timeout: 3000, env: { ...process.env, LC_ALL: 'C' } }, (_error, stdout) => {
      const time = /time=([\d.]+) ms/.exec(stdout)?.[1];
      resolve(time === undefined ? null : Number(time));
    });
  });
