// What admins and nodes type for enrolment by a cluster's word: settings that go together, the domain's address, readmission.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseDomainAddress } from '../../../src/identity/domain-address.ts';
import { parseJoinToken } from '../../../src/identity/token.ts';
import { startDomain, temporaryDirectory } from '../../src/registry/fixture.ts';
import { inProcess } from './in-process.ts';

const agent = (...args: string[]) => inProcess(['agent', 'config', ...args]);
const TOKEN = ['--kubernetes-token-file', '/var/run/secrets/vl3/token'];
const FILE = ['--domain-file', '/etc/vl3/domain/domain'];

test.each([
  [
    'no word of where the registry is',
    TOKEN,
    /kubernetes-token-file is set, and neither domain nor domain-file/,
  ],
  [
    'a join token as well',
    [...TOKEN, ...FILE, '--token', 'x'],
    /both token and kubernetes-token-file are set/,
  ],
  [
    'a file of one',
    [...TOKEN, ...FILE, '--token-file', 'x'],
    /both token-file and kubernetes-token-file are set/,
  ],
  [
    'two addresses',
    [...TOKEN, ...FILE, '--domain', `vl3://a?ca=${'A'.repeat(43)}&registry=b`],
    /both domain and domain-file/,
  ],
  ['an address that is none', [...TOKEN, '--domain', 'a.example'], /vl3 registry domain/],
])("a cluster's token with %s is refused", async (_, args, reason) => {
  const { code, err } = await agent(...args);
  expect(code).toBe(2);
  expect(err).toMatch(reason);
});

test("a cluster's token and where the registry is will do, and a token in a stronger place beats it", async () => {
  expect((await agent(...TOKEN, ...FILE)).code).toBe(0);
  const set = { VL3_AGENT_KUBERNETES_TOKEN_FILE: '/token', VL3_AGENT_DOMAIN_FILE: '/domain' };
  expect((await inProcess(['agent', 'config', '--token', 'x'], set)).code).toBe(0);
});

test('a list of clusters is part of the configuration that is checked', async () => {
  const file = join(temporaryDirectory(), 'clusters.yaml');
  const check = () =>
    inProcess(['registry', 'config', '--trust-domain', 'a.example', '--kubernetes-clusters', file]);
  expect((await check()).err).toMatch(/cannot read the clusters in .*clusters\.yaml.*--kubernetes-clusters/);
  writeFileSync(file, 'clusters: [{name: East, keys: in-cluster}]');
  expect(await check()).toMatchObject({ code: 2, err: expect.stringMatching(/clusters\[0\]\.name/) });
  writeFileSync(file, 'clusters: [{name: east, keys: in-cluster}]');
  expect((await check()).code).toBe(0);
});

test("the domain's address is what a join token says but for its secret, also while the registry is off", async () => {
  const domain = await startDomain();
  const { secret: _, ...address } = parseJoinToken(await domain.token());
  const admin = ['--admin', join(domain.stateDirectory, 'admin.json')];
  await domain.stop();
  const { out, code } = await inProcess(['registry', 'domain', ...admin]);
  expect(code).toBe(0);
  expect(parseDomainAddress(out)).toEqual(address);
  expect(JSON.parse((await inProcess(['registry', 'domain', ...admin, '-o', 'json'])).out)).toMatchObject({
    ...{ trustDomain: address.trustDomain, registries: address.registries, address: out.trim() },
  });
});

test('a node that was deleted is readmitted by its name, and no other', async () => {
  const domain = await startDomain();
  await domain.enrol('a');
  const admin = ['--admin', join(domain.stateDirectory, 'admin.json')];
  const said = async (name: string): Promise<string> =>
    (await inProcess(['node', 'readmit', name, ...admin])).err;
  expect(await said('a')).toMatch(/node "a" is not deleted/);
  expect(await said('b')).toMatch(/there was no node "b"/);
  await inProcess(['node', 'delete', 'a', ...admin]);
  expect(await said('a')).toBe('');
  expect(domain.log.lines.join()).toMatch(/deleted node may enrol again by the word of its cluster/);
});
