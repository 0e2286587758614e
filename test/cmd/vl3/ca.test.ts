// vl3 ca, as people type it: what it prints, what it leaves behind, and its exit codes.

import { chmod, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { ApartDomain } from '../../src/ca/fixture.ts';
import { startDomain, TRUST_DOMAIN, temporaryDirectory } from '../../src/registry/fixture.ts';
import { inProcess } from './in-process.ts';

const SOON = { timeout: 20_000, interval: 50 };

test('show says where the key is, and each step of a rotation what comes next', async () => {
  const domain = await startDomain();
  const admin = ['--admin', domain.registry.adminFile];
  const show = async () => JSON.parse((await inProcess(['ca', 'show', '-o', 'json', ...admin])).out);
  expect(await show()).toMatchObject({
    trustDomain: TRUST_DOMAIN,
    signer: 'in-process',
    nextStep: 'prepare',
    authorities: [{ state: 'signing' }],
    revoked: [],
  });
  const table = await inProcess(['ca', 'show', ...admin]);
  expect(table.out).toMatch(/in the registry's process: whoever takes that over is the domain/);
  const early = await inProcess(['ca', 'rotate', 'sign', ...admin]);
  expect([early.code, early.err]).toEqual([1, expect.stringMatching(/there is no next CA/)]);
  const wrong = await inProcess(['ca', 'rotate', 'again', ...admin]);
  expect([wrong.code, wrong.err]).toEqual([1, expect.stringMatching(/use one of prepare, sign, retire/)]);
  expect((await inProcess(['ca', 'rotate', ...admin])).code).toBe(2);
  const prepared = await inProcess(['ca', 'rotate', 'prepare', '-o', 'json', ...admin]);
  expect(JSON.parse(prepared.out)).toMatchObject({
    nextStep: 'sign',
    authorities: [{ state: 'signing' }, { state: 'next' }],
  });
  const revoked = await inProcess(['ca', 'revoke', 'n1', ...admin]);
  expect([revoked.code, revoked.out]).toEqual([0, 'what was issued for n1 until now is void\n']);
  // A name may be misspelt.
  expect(revoked.err).toMatch(/warning: no node n1 is enrolled.*vl3 node list/);
  await vi.waitFor(async () => expect((await show()).revoked).toMatchObject([{ node: 'n1' }]), SOON);
  // What only a signer apart has to know.
  const told = ['ca', 'register-network', 'red', '--pool-v4', '10.60.0.0/16', ...admin];
  expect((await inProcess(told)).code).toBe(1);
});

test('a CA is made once, and what is made with it is private', async () => {
  const state = join(temporaryDirectory(), 'ca');
  const place = ['--trust-domain', TRUST_DOMAIN, '--state-dir', state];
  const before = await inProcess([
    'ca',
    'admin',
    'alice',
    ...place,
    '--file',
    join(state, 'admin.json'),
    '--registry',
    'r:7443',
    '--signer',
    'c:7444',
  ]);
  expect([before.code, before.err]).toEqual([1, expect.stringMatching(/make it with `vl3 ca init`/)]);
  const early = await inProcess(['ca', 'run', ...place, '--listen', '127.0.0.1:17444']);
  expect([early.code, early.err]).toEqual([1, expect.stringMatching(/there is no CA in .*vl3 ca init/)]);
  const made = JSON.parse((await inProcess(['ca', 'init', ...place, '-o', 'json'])).out);
  const again = JSON.parse((await inProcess(['ca', 'init', ...place, '-o', 'json'])).out);
  expect(made.isMade).toBe(true);
  expect(again).toEqual({ ...made, isMade: false });
  const admin = join(state, 'admin.json');
  const registry = join(state, 'registry.json');
  const signer = ['--signer', 'ca.example:7444'];
  const asAdmin = ['--file', admin, '--registry', 'registry.example', ...signer];
  expect((await inProcess(['ca', 'admin', 'alice', ...place, ...asAdmin])).code).toBe(0);
  expect((await inProcess(['ca', 'registry', ...place, '--file', registry, ...signer])).code).toBe(0);
  for (const file of [admin, registry]) {
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ signers: ['ca.example:7444'] });
  }
  const operator = join(state, 'operator.json');
  const asOperator = [
    'ca',
    'operator',
    'bob',
    ...place,
    '--file',
    operator,
    '--registry',
    'registry.example',
  ];
  expect((await inProcess(asOperator)).code).toBe(0);
  expect(JSON.parse(await readFile(operator, 'utf8'))).toMatchObject({ kind: 'operator', name: 'bob' });
  await chmod(join(state, 'ca', 'key.pem'), 0o644);
  const open = await inProcess(['ca', 'init', ...place]);
  expect([open.code, open.err]).toEqual([1, expect.stringMatching(/is open to other users \(mode 0644\)/)]);
  const asked = await inProcess(['ca', 'show', '--admin', admin]);
  expect(asked.code).toBe(3);
});

test('what an admin makes at the registry, a signer apart is told as well', async () => {
  const domain = await ApartDomain.start();
  const admin = ['--admin', domain.adminFile];
  const run = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await inProcess([...args, ...admin]);
    expect([args, code, err]).toEqual([args, 0, '']);
    return out;
  };
  const ledger = async () => JSON.parse(await run('ca', 'show', '-o', 'json')).ledger;
  await run('network', 'create', 'red', '--pool-v4', '10.60.0.0/16');
  const token = (await run('token', 'create', '--node', 'n1')).trim();
  expect(await ledger()).toEqual({ tokens: 1, nodes: 0, networks: 1, leases: 0, partners: [] });
  // The registry knows its hash, and has never seen it.
  const { parseJoinToken } = await import('../../../src/identity/token.ts');
  const parsed = parseJoinToken(token);
  expect(parsed.isProven).toBe(true);
  const { enroll } = await import('../../../src/identity/enroll.ts');
  await enroll({ token: parsed, node: 'n1', directory: temporaryDirectory() });
  expect(domain.log.lines.join('')).not.toContain(parsed.secret);
  expect(await ledger()).toMatchObject({ tokens: 0, nodes: 1 });
  await run('admission', 'create', 'ledger', '--network', 'red', '--label', 'app=ledger');
  await run('node', 'delete', 'n1');
  expect(JSON.parse(await run('ca', 'show', '-o', 'json'))).toMatchObject({
    signer: 'apart',
    ledger: { nodes: 0 },
    revoked: [{ node: 'n1' }],
  });
  const id = JSON.parse(await run('token', 'create', '-o', 'json')).id;
  await run('token', 'revoke', id);
  expect(await ledger()).toMatchObject({ tokens: 0 });
  await run('network', 'delete', 'red');
  expect(await ledger()).toMatchObject({ networks: 0 });
  // Is the signer away, then nothing is half made.
  await domain.stopSigner();
  const failed = await inProcess(['network', 'create', 'green', '--pool-v4', '10.61.0.0/16', ...admin]);
  expect(failed.code).toBe(3);
  expect(JSON.parse(await run('network', 'list', '-o', 'json'))).toEqual([]);
});
