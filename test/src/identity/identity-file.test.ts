import { spawn } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createAdminCredential } from '../../../src/identity/admin-credential.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { renewIdentity } from '../../../src/identity/identity.ts';
import {
  loadNodeIdentity,
  readAdminCredential,
  storeNodeIdentity,
  writeIdentity,
} from '../../../src/identity/identity-file.ts';
import { formatKey, generateKey } from '../../../src/identity/key.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { DAY, DOMAIN, enrolled, issueCa, openCa, temporaryDirectory } from './fixture.ts';

test("a node's identity and an admin's credential read back as written, for root alone", async () => {
  const directory = await temporaryDirectory();
  const ca = await openCa();
  const node = await enrolled(ca, 'n1');
  await storeNodeIdentity(directory, node);
  const found = await loadNodeIdentity(directory);
  expect(found).toMatchObject({
    kind: 'node',
    name: 'n1',
    trustBundle: ca.trustBundle,
    notAfter: node.notAfter,
  });
  expect(found?.privateKey.equals(node.privateKey)).toBe(true);

  const path = join(directory, 'admin.json');
  const admin = await createAdminCredential(ca, 'root', ['registry.example:7443']);
  await writeIdentity(path, admin);
  const read = await readAdminCredential(path);
  expect(read).toMatchObject({ kind: 'admin', name: 'root', registries: ['registry.example:7443'] });
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test('before enrolment there is no identity, and a missing admin credential says where to get one', async () => {
  const directory = await temporaryDirectory();
  expect(await loadNodeIdentity(directory)).toBeUndefined();
  await expect(readAdminCredential(join(directory, 'admin.json'))).rejects.toMatchObject({
    code: 'not-found',
    message: expect.stringMatching(/--admin or VL3_ADMIN/),
  });
});

test('an expired identity is still read, so that the agent can say so', async () => {
  const directory = await temporaryDirectory();
  const past = Date.now() - 30 * DAY;
  const ca = await openCa(DOMAIN, () => past);
  await storeNodeIdentity(directory, await enrolled(ca, 'n1', past));
  expect((await loadNodeIdentity(directory))?.notAfter).toBeLessThan(Date.now());
});

test.each<[string, (path: string) => Promise<unknown>, RegExp]>([
  ['others may read it', (path) => chmod(path, 0o644), /open to other users \(mode 0644\): run chmod 600/],
  ['its group may write it', (path) => chmod(path, 0o620), /open to other users/],
  ['it is cut', async (path) => writeFile(path, (await readFile(path)).subarray(0, 300)), /is damaged/],
  ['it is empty', (path) => writeFile(path, ''), /is damaged/],
  ['it is huge', (path) => writeFile(path, Buffer.alloc(300_000)), /larger than/],
  ['it is of another kind', (path) => edit(path, { kind: 'node' }), /is the node's identity, not/],
  ['it has a field too many', (path) => edit(path, { more: 1 }), /is damaged/],
  ["its name is not the certificate's", (path) => edit(path, { name: 'other' }), /not of admin "other"/],
  [
    "its domain is not the certificate's",
    (path) => edit(path, { trustDomain: 'o.example' }),
    /another trust domain/,
  ],
  ['an address is none', (path) => edit(path, { registries: ['a b'] }), /not a registry's address/],
  ['its chain is rubbish', (path) => edit(path, { certificateChain: 'x' }), /no certificate in PEM/],
  ['its key is rubbish', (path) => edit(path, { privateKey: 'x' }), /no readable private key/],
  [
    'its key is another',
    async (path) => edit(path, { privateKey: formatKey(await generateKey()) }),
    /another key/,
  ],
  [
    'its CA is another',
    async (path) => {
      await edit(path, { certificateAuthorities: toPem([(await issueCa()).der]) });
    },
    /not issued by a CA/,
  ],
])('an admin credential is refused when %s', async (_, damage, sentence) => {
  const path = join(await temporaryDirectory(), 'admin.json');
  await writeIdentity(path, await createAdminCredential(await openCa(), 'root', ['registry.example:7443']));
  await damage(path);
  await expect(readAdminCredential(path)).rejects.toMatchObject({
    name: 'Vl3Error',
    code: 'failed-precondition',
    message: expect.stringMatching(sentence),
  });
});

const edit = async (path: string, changes: object): Promise<void> => {
  const content: unknown = JSON.parse((await readFile(path)).toString());
  await writeFile(path, JSON.stringify(Object.assign({}, content, changes)));
};

test('a credential behind a link, in a directory or in a pipe is refused at once', async () => {
  const directory = await temporaryDirectory();
  const path = join(directory, 'admin.json');
  await writeIdentity(path, await createAdminCredential(await openCa(), 'root', ['registry.example:7443']));
  await symlink(path, join(directory, 'link.json'));
  await expect(readAdminCredential(join(directory, 'link.json'))).rejects.toThrow(/symbolic link/);
  await mkdir(join(directory, 'dir.json'), { mode: 0o700 });
  await expect(readAdminCredential(join(directory, 'dir.json'))).rejects.toThrow(/not a regular file/);
  const pipe = join(directory, 'pipe.json');
  await new Promise((resolve) => spawn('sh', ['-c', 'mkfifo -m 600 "$0"', pipe]).once('exit', resolve));
  await expect(readAdminCredential(pipe)).rejects.toThrow(/not a regular file/);
});

test('a renewal replaces key and certificate as one, and keeps the CA that was pinned', async () => {
  const directory = await temporaryDirectory();
  const ca = await openCa();
  const old = await enrolled(ca, 'n1');
  await storeNodeIdentity(directory, old);
  const privateKey = await generateKey();
  const certificateChain = await ca.signNodeSvid(await createCertificateRequest(privateKey), 'n1');
  const renewed = renewIdentity(old, { privateKey, certificateChain }, Date.now());
  await storeNodeIdentity(directory, renewed);
  const found = await loadNodeIdentity(directory);
  expect(found?.certificateChain).toEqual(certificateChain);
  expect(found?.privateKey.equals(privateKey)).toBe(true);
  expect(found?.trustBundle).toEqual(old.trustBundle);
  expect(await readdir(directory)).toEqual(['identity.json']);
});

test('a renewal by another CA, for another node, or for another key is refused', async () => {
  const [ca, evil] = [await openCa(), await openCa()];
  const old = await enrolled(ca, 'n1');
  const privateKey = await generateKey();
  const request = await createCertificateRequest(privateKey);
  for (const [certificateChain, key] of [
    [await evil.signNodeSvid(request, 'n1'), privateKey],
    [await ca.signNodeSvid(request, 'n2'), privateKey],
    [await ca.signAdminCredential(request, 'n1'), privateKey],
    [await ca.signNodeSvid(request, 'n1'), old.privateKey],
  ] as const) {
    expect(() => renewIdentity(old, { privateKey: key, certificateChain }, Date.now())).toThrow(
      /certificate/,
    );
  }
});

test('an identity killed while it is replaced, at any moment, is whole afterwards', async () => {
  const directory = await temporaryDirectory();
  const ca = await openCa();
  const identities = [await enrolled(ca, 'n1'), await enrolled(ca, 'n1')];
  for (const [i, identity] of identities.entries()) {
    await mkdir(join(directory, String(i)), { mode: 0o700 });
    await storeNodeIdentity(join(directory, String(i)), identity);
  }
  const state = join(directory, 'state');
  const script = `
    import { loadNodeIdentity, storeNodeIdentity } from ${JSON.stringify(new URL('../../../src/identity/identity-file.ts', import.meta.url).href)};
    const [directory, state] = process.argv.slice(1);
    const both = [await loadNodeIdentity(directory + '/0'), await loadNodeIdentity(directory + '/1')];
    await storeNodeIdentity(state, both[0]);
    process.stdout.write('.');
    for (let i = 0; ; i++) await storeNodeIdentity(state, both[i % 2]);`;
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, directory, state], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const exited = new Promise((resolve) => child.once('exit', resolve));
    setTimeout(() => child.kill('SIGKILL'), Math.random() * 60);
    await exited;
    const found = await loadNodeIdentity(state);
    expect(identities.some((one) => found?.privateKey.equals(one.privateKey))).toBe(true);
  }
  // The next write clears what a kill left beside it.
  const [identity] = identities;
  if (identity !== undefined) await storeNodeIdentity(state, identity);
  expect(await readdir(state)).toEqual(['identity.json']);
});
