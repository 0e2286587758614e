// Credentials that look and change nothing, over real TLS and as an admin types it: listed, and taken back at once.

import { readFile } from 'node:fs/promises';
import { createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, onTestFinished, test, vi } from 'vitest';
import { AdmissionService } from '../../../src/api/generated/vl3/v1/admission_pb.js';
import { createOperatorCredential } from '../../../src/identity/admin-credential.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { writeIdentity } from '../../../src/identity/identity-file.ts';
import { admissionService } from '../../../src/registry/admission-service.ts';
import { connectAdmin } from '../../../src/registry/client.ts';
import { inProcess } from '../../cmd/vl3/in-process.ts';
import { red, refusal, startDomain, type TestDomain, TRUST_DOMAIN, temporaryDirectory } from './fixture.ts';

const DAY_MS = 86_400_000;

const typed = async (domain: TestDomain, ...args: string[]): Promise<string> => {
  const { code, out, err } = await inProcess([...args, '--admin', domain.registry.adminFile]);
  expect([code, err]).toEqual([0, '']);
  return out;
};

const looking = async (file: string) => {
  const connection = await connectAdmin(file);
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return connection.client;
};

test('an operator who is revoked is refused at once, on the connection that is open, and only he', async () => {
  const domain = await startDomain();
  const directory = temporaryDirectory();
  const [alice, bob] = [`${directory}/alice.json`, `${directory}/bob.json`];
  await typed(domain, 'operator', 'create', 'alice', '--file', alice);
  await typed(domain, 'operator', 'create', 'bob', '--file', bob, '--ttl', '7d');
  const [hers, his] = [await looking(alice), await looking(bob)];
  expect(await refusal(hers.listNodes({}))).toBe('accepted');
  const listed = JSON.parse(await typed(domain, 'operator', 'list', '-o', 'json'));
  expect(listed).toMatchObject([
    { name: 'alice', credentials: [{ issuedBy: 'admin', revokedAt: '' }] },
    { name: 'bob', credentials: [{ issuedBy: 'admin', revokedAt: '' }] },
  ]);

  expect(await typed(domain, 'operator', 'revoke', 'alice')).toMatch(/^revoked: 1 known here/);
  expect(await refusal(hers.listNodes({}))).toMatch(
    /^unauthenticated: this credential of operator "alice" was revoked/,
  );
  expect(await refusal((await looking(alice)).listNetworks({}))).toMatch(/^unauthenticated/);
  expect(await refusal(his.listNodes({}))).toBe('accepted');
  expect(await typed(domain, 'operator', 'list')).toMatch(/alice .* revoked 20/);

  // An operator sees the list, and takes nobody out of it.
  const byBob = await inProcess(['operator', 'revoke', 'admin', '--admin', bob]);
  expect([byBob.code, byBob.err]).toEqual([1, expect.stringMatching(/is not for the role "operator"/)]);
  expect((await inProcess(['operator', 'list', '--admin', bob])).code).toBe(0);

  // Made anew it counts, and the old one does not.
  const again = `${directory}/again.json`;
  await typed(domain, 'operator', 'create', 'alice', '--file', again);
  expect(await refusal((await looking(again)).listNodes({}))).toBe('accepted');
  expect(await refusal((await looking(alice)).listNodes({}))).toMatch(/^unauthenticated/);
});

test('what was made where the CA is, by nobody whom the registry knows, is listed once it is used, and revoked with its name', async () => {
  const domain = await startDomain();
  const ca = await CertificateAuthority.open({
    directory: `${domain.stateDirectory}/ca`,
    trustDomain: TRUST_DOMAIN,
  });
  const directory = temporaryDirectory();
  const files = [`${directory}/used.json`, `${directory}/unused.json`];
  const admin = JSON.parse(await readFile(domain.registry.adminFile, 'utf8'));
  for (const file of files)
    await writeIdentity(file, await createOperatorCredential(ca, 'dashboard', admin.registries, DAY_MS));
  const [used = '', unused = ''] = files;
  expect(await refusal((await looking(used)).listNodes({}))).toBe('accepted');
  const listed = JSON.parse(await typed(domain, 'operator', 'list', '-o', 'json'));
  expect(listed).toMatchObject([{ name: 'dashboard', credentials: [{ issuedBy: '' }] }]);
  expect(await typed(domain, 'operator', 'list')).toMatch(/dashboard .* elsewhere .* valid until/);
  await typed(domain, 'operator', 'revoke', 'dashboard');
  for (const file of files)
    expect(await refusal((await looking(file)).listNodes({}))).toMatch(/^unauthenticated: .* was revoked/);
  expect(unused).not.toBe('');
});

test('whoever takes the log of decisions too slowly, or many times at once, has none of it kept', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  await (await domain.admission()).createAdmissionRule({ rule: { network: 'red', name: 'all' } });
  const service = admissionService(domain.registry.observed.context);
  const client = createClient(
    AdmissionService,
    createRouterTransport((router) => {
      router.service(AdmissionService, service);
    }),
  );
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const slow = Array.from({ length: 4 }, () => client.exportAdmissionLog({})[Symbol.asyncIterator]());
  for (const one of slow) expect((await one.next()).value?.entries).toHaveLength(1);
  // A fifth is read once one of them is over.
  const fifth = client.exportAdmissionLog({})[Symbol.asyncIterator]();
  const answer = fifth.next();
  expect(await Promise.race([answer, new Promise((resolve) => setImmediate(resolve))])).toBeUndefined();
  await vi.advanceTimersByTimeAsync(60_000);
  for (const one of slow) await expect(one.next()).rejects.toThrow();
  expect((await answer).value?.entries).toHaveLength(1);
  expect((await fifth.next()).value?.head?.head?.length).toBeGreaterThan(0);
});
