// T5: a registry that keeps a revocation to itself. The signer renews nothing for who was revoked, so its SVID ends, its
// record with it, and its peers let it go, though their registry never said a word. The outage budget is a minute here: so
// long it takes at most, and a sixth.

import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { fromSources } from '../lab/program.ts';

const LYING = resolve(import.meta.dirname, 'lying-registry.ts');
const TERM_MS = 70_000;

let domain: Domain;
let n1: Node;
let n2: Node;
let n3: Node;
let p1: Pod;
let p2: Pod;
let p3: Pod;

beforeAll(async () => {
  domain = await Domain.startApart('--outage-budget', '60s');
  await domain.stopRegistry();
  domain.program = (...args) => {
    const [node = '', ...rest] = fromSources(...args);
    return [node, '--import', LYING, ...rest];
  };
  await domain.startRegistry();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  [n1, n2, n3] = await Promise.all([domain.startNode('n1'), domain.startNode('n2'), domain.startNode('n3')]);
  [p1, p2, p3] = await Promise.all([n1.pod('p1', 'red'), n2.pod('p2', 'red'), n3.pod('p3', 'red')]);
  await domain.meet('red');
}, 180_000);

afterAll(() => domain?.close());

test('a revocation that is withheld is bounded by the validity of what was signed', async () => {
  expect(await p3.reaches(p2.v4('red'))).toBe(true);
  const before = performance.now();
  await domain.admin('ca', 'revoke', 'n3');
  for (const node of [n1, n2]) {
    await vi.waitFor(async () => expect(await node.peer('red', n3)).toBeUndefined(), {
      ...SOON,
      timeout: 2 * TERM_MS,
    });
  }
  console.log(
    `a withheld revocation: gone after ${((performance.now() - before) / 1000).toFixed(0)} s of ${TERM_MS / 1000}`,
  );
  expect(await p3.reaches(p2.v4('red'))).toBe(false);
  expect(await p1.reaches(p2.v4('red'))).toBe(true);
  // It heard of it nowhere: nobody but the signer knows.
  expect(n2.log().filter(({ msg }) => msg === 'domain has spoken')).toEqual([]);
});
