// What admins type for admission: rules, what they would say, and the log, against a real registry.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { HOME_RULE } from '../../../native-free/admission/rule.ts';
import { red, startDomain, temporaryDirectory } from '../../src/registry/fixture.ts';
import { inProcess } from './in-process.ts';

const world = async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const admin = ['--admin', join(domain.stateDirectory, 'admin.json')];
  return { vl3: (...args: string[]) => inProcess(['admission', ...args, ...admin]) };
};

test('a rule is made, listed, shown, tried and deleted', async () => {
  const { vl3 } = await world();
  const condition = 'namespace == "billing" && labels.app == "ledger"';
  expect(await vl3('create', 'ledger', '--network', 'red', '--workload', condition)).toMatchObject({
    code: 0,
  });
  expect((await vl3('delete', HOME_RULE, '--network', 'red')).code).toBe(0);
  const listed = JSON.parse((await vl3('list', '-o', 'json')).out);
  expect(listed).toMatchObject([{ network: 'red', name: 'ledger', workload: condition, dryRun: false }]);
  expect((await vl3('list')).out).toMatch(/red {2,}ledger {2,}test\.example {2,}namespace == "billing"/);
  expect((await vl3('show', 'ledger', '--network', 'red')).out).toContain(`workload: ${condition}`);
  const asked = ['test', '--network', 'red', '--node', 'n1', '--namespace', 'billing'];
  const yes = await vl3(...asked, '--label', 'app=ledger');
  expect(yes).toMatchObject({ code: 0, out: expect.stringMatching(/^admitted to red by rule ledger\n/) });
  expect(yes.out).toMatch(/Namespace, service account, workload and labels are the word of its node/);
  const no = await vl3(...asked, '-o', 'json');
  expect(no.code).toBe(6);
  expect(JSON.parse(no.out)).toMatchObject({
    admitted: false,
    proven: { trustDomain: 'test.example', node: 'n1' },
    asserted: { namespace: 'billing' },
    verdicts: [{ rule: 'ledger', admits: false, whyNot: 'there is no label "app"' }],
  });
  expect((await vl3('delete', 'ledger', '--network', 'red')).code).toBe(0);
  expect(await vl3('delete', 'ledger', '--network', 'red')).toMatchObject({
    code: 1,
    err: expect.stringMatching(/network "red" has no rule "ledger"/),
  });
  expect((await vl3('show', 'ledger', '--network', 'red')).code).toBe(1);
});

test('a rule without a name gets one that follows from it, so that typing it twice makes one', async () => {
  const { vl3 } = await world();
  for (let i = 0; i < 2; i++)
    expect((await vl3('create', '--network', 'red', '--from', 'partner.example', '--dry-run')).code).toBe(0);
  const rules = JSON.parse((await vl3('list', '--network', 'red', '-o', 'json')).out);
  expect(rules).toMatchObject([
    { name: HOME_RULE },
    { name: expect.stringMatching(/^rule-[0-9a-f]{8}$/), trustDomain: 'partner.example', dryRun: true },
  ]);
});

test('a condition that does not hold up is refused with the place', async () => {
  const { vl3 } = await world();
  expect(await vl3('create', 'x', '--network', 'red', '--workload', 'namespace == billing')).toMatchObject({
    code: 1,
    err: 'vl3: the expression does not hold up: Unknown variable: billing (at character 14)\n',
  });
  expect((await vl3('create', 'x')).code).toBe(2);
});

test('the log is shown, saved and verified, and a saved one that was changed is found out', async () => {
  const { vl3 } = await world();
  await vl3('create', 'ledger', '--network', 'red', '--namespace', 'billing');
  await vl3('create', 'web', '--network', 'red', '--namespace', 'web');
  const file = join(temporaryDirectory(), 'saved.log');
  const shown = await vl3('log', '--save', file);
  expect(shown).toMatchObject({ code: 0, err: '' });
  expect(shown.out).toMatch(/1 {2,}\S+ {2,}red {2,}rule-created {2,}admin admin {2,}ledger/);
  expect((await vl3('log', '--save', file)).code).toBe(1);
  expect(JSON.parse((await vl3('log', '--verify', file, '-o', 'json')).out)).toMatchObject({
    verified: true,
    head: { sequence: 2 },
    entries: [{ rule: 'ledger' }, { rule: 'web' }],
  });
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll('billing', 'hostile'));
  const changed = await vl3('log', '--verify', file);
  expect(changed.code).toBe(4);
  expect(changed.err).toMatch(/does not follow: something was changed/);
});
