// S1: `<pod>.<network>.vl3` and its PTR resolve on every node; they vanish on detach and with their node; other names still
// resolve, and no lookup waits.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Domain } from '../lab/domain.ts';
import { eventually } from '../lab/eventually.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';

const SOON = { timeout: 40_000, interval: 100 };

let domain: Domain;
let alpha: Node;
let web: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  alpha = await domain.startNode('alpha', { networks: ['red'] });
  web = await alpha.pod('web', 'red');
}, 120_000);

afterAll(async () => {
  await domain?.close();
});

const dig = async (pod: Pod, ...args: string[]): Promise<string[]> =>
  (await pod.host.run(['dig', '+short', '+tries=1', '+time=5', ...args])).trim().split('\n').sort();

describe('a pod asks its gateway', () => {
  test('and gets the addresses of a pod, v4 and v6, by UDP', async () => {
    const gateway = '10.60.0.1';
    await eventually(async () => {
      expect(await dig(web, `@${gateway}`, 'web.red.vl3', 'A')).toEqual([web.v4('red')]);
    }, SOON);
    expect(await dig(web, `@${gateway}`, 'web.red.vl3', 'AAAA')).toEqual([web.v6('red')]);
  });
});
