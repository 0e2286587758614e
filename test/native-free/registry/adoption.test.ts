// What a registry that lost its memory takes from one node at most.

import { expect, test } from 'vitest';
import { adoptNetwork, adoptNode } from '../../../native-free/registry/adoption-rules.ts';
import { bindCa } from '../../../native-free/registry/domain-rules.ts';
import { below, keys, one } from '../../../native-free/registry/keys.ts';
import { report as reportSchema } from '../../../native-free/registry/model.ts';
import { newReport } from '../../../native-free/registry/recovery-rules.ts';
import { put, type Rule } from '../../../native-free/registry/rules.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { memoryStore } from './fixtures.ts';

const networkCalled = (name: string) => ({
  name,
  uid: name,
  poolV4: '10.60.0.0/16',
  nodePrefixLengthV4: 24,
  excluded: [],
  mtu: 0,
  createdAt: 1,
});

test('one node brings as many networks as it can be on, and what it cannot add another one can', async () => {
  const transactor = new Transactor(memoryStore());
  const run = async <T>(rule: Rule<T>): Promise<T> => (await transactor.run(rule)).answer;
  await run(bindCa('a'.repeat(64), true));
  const certificate = { serial: '1', notAfter: 2000 };
  for (const node of ['greedy', 'other']) await run(adoptNode(node, 's', certificate, 1000));
  expect(await run(adoptNetwork('greedy', networkCalled('n0')))).toEqual({ kind: 'adopted' });
  const key = keys.report('greedy');
  expect((await transactor.read([one(key)])).report('greedy')?.value.networks).toBe(1);
  const nearlyAll = { ...newReport('greedy'), networks: 1023 };
  await run({
    reads: [],
    decide: () => ({ compares: [], operations: [put(key, reportSchema, nearlyAll)], answer: undefined }),
  });
  expect(await run(adoptNetwork('greedy', networkCalled('n1')))).toEqual({ kind: 'adopted' });
  expect(await run(adoptNetwork('greedy', networkCalled('n2')))).toMatchObject({ kind: 'refused' });
  // That it is known already is no addition.
  expect(await run(adoptNetwork('greedy', networkCalled('n1')))).toEqual({ kind: 'known' });
  expect(await run(adoptNetwork('other', networkCalled('n2')))).toEqual({ kind: 'adopted' });
  expect((await transactor.read([{ prefix: below.networks }])).networks()).toHaveLength(3);
});
