import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { CertificateAuthority, SVID_VALIDITY_MS } from '../../../src/identity/ca.ts';
import { CLIENT_AUTH, parseCertificate, SERVER_AUTH } from '../../../src/identity/certificate.ts';
import {
  createCertificateRequest,
  readCertificateRequest,
} from '../../../src/identity/certificate-request.ts';
import { verifyChain } from '../../../src/identity/chain.ts';
import { ECDSA, formatKey, generateKey, webKeys } from '../../../src/identity/key.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { loadX509 } from '../../../src/identity/x509-library.ts';
import { DAY, DOMAIN, issue, issueCa, openCa, temporaryDirectory } from './fixture.ts';

const open = (directory: string, trustDomain = DOMAIN) =>
  CertificateAuthority.open({ directory, trustDomain });
const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8);
const leafOf = async (chain: Promise<Uint8Array[]>) => parseCertificate((await chain)[0] ?? new Uint8Array());

test('the first start makes a CA for root alone, later ones find it', async () => {
  const directory = join(await temporaryDirectory(), 'state', 'ca');
  const [first, second] = [await open(directory), await open(directory)];
  expect(second.trustBundle).toEqual(first.trustBundle);
  expect(await mode(directory)).toBe('700');
  expect(await mode(join(directory, 'key.pem'))).toBe('600');
  expect(await mode(join(directory, 'certificate.pem'))).toBe('600');
  const ca = parseCertificate(first.trustBundle.certificates[0] ?? new Uint8Array());
  expect(ca).toMatchObject({ isCa: true, canCertify: true, canSign: false, uris: [`spiffe://${DOMAIN}`] });
  expect(ca.notAfter - Date.now()).toBeGreaterThan(3650 * DAY);
});

test('several first starts at once make one CA', async () => {
  const directory = join(await temporaryDirectory(), 'ca');
  const all = await Promise.all(Array.from({ length: 8 }, () => open(directory)));
  const distinct = new Set(
    all.map((ca) => Buffer.from(ca.trustBundle.certificates[0] ?? []).toString('hex')),
  );
  expect(distinct.size).toBe(1);
  expect(await readdir(join(directory, '..'))).toEqual(['ca']);
});

test('a first start that is killed at any moment leaves a whole CA or none', async () => {
  const parent = await temporaryDirectory();
  const script = `
    import { CertificateAuthority } from ${JSON.stringify(new URL('../../../src/identity/ca.ts', import.meta.url).href)};
    for (let i = 0; ; i++) {
      await CertificateAuthority.open({ directory: process.argv[1] + '/' + i + '/ca', trustDomain: '${DOMAIN}' });
      process.stdout.write('.');
    }`;
  for (let round = 0; round < 6; round++) {
    const directory = await mkdtemp(join(parent, 'run-'));
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const exited = new Promise((resolve) => child.once('exit', resolve));
    setTimeout(() => child.kill('SIGKILL'), Math.random() * 60);
    await exited;
    const made = await readdir(directory);
    expect(made.length).toBeGreaterThan(0);
    for (const one of made) {
      // Whatever was there: it opens, and then there is one CA and no leftover.
      await open(join(directory, one, 'ca'));
      expect(await readdir(join(directory, one))).toEqual(['ca']);
    }
  }
});

test('what a crash left beside the CA is cleared when the CA is made', async () => {
  const parent = await temporaryDirectory();
  await mkdir(join(parent, '.new-ca-0123456789abcdef'));
  await writeFile(join(parent, '.new-ca-0123456789abcdef', 'key.pem'), 'half');
  await open(join(parent, 'ca'));
  expect(await readdir(parent)).toEqual(['ca']);
});

test('a secret of the CA is the same whenever it is opened, and another for each purpose and each CA', async () => {
  const [one, other] = [join(await temporaryDirectory(), 'ca'), join(await temporaryDirectory(), 'ca')];
  const secret = await (await open(one)).secretFor('a purpose');
  expect(secret).toHaveLength(32);
  expect(await (await open(one)).secretFor('a purpose')).toEqual(secret);
  expect(await (await open(one)).secretFor('another')).not.toEqual(secret);
  expect(await (await open(other)).secretFor('a purpose')).not.toEqual(secret);
});

test('a CA of another trust domain is not touched', async () => {
  const directory = join(await temporaryDirectory(), 'ca');
  await open(directory);
  const before = await readFile(join(directory, 'key.pem'));
  await expect(open(directory, 'other.example')).rejects.toThrow(/is of spiffe:\/\/aws-prod.example, not of/);
  expect(await readFile(join(directory, 'key.pem'))).toEqual(before);
});

test.each([
  [
    'the key is missing',
    (d: string) => unlink(join(d, 'key.pem')),
    /half of the CA is missing: restore .*key.pem/,
  ],
  [
    'the certificate is missing',
    (d: string) => unlink(join(d, 'certificate.pem')),
    /restore .*certificate.pem/,
  ],
  ['others may read the key', (d: string) => chmod(join(d, 'key.pem'), 0o640), /mode 0640.*chmod 600/],
  ['the key is rubbish', (d: string) => writeFile(join(d, 'key.pem'), 'x'), /no readable private key/],
  ['the key is empty', (d: string) => writeFile(join(d, 'key.pem'), ''), /no readable private key/],
  [
    'the certificate is rubbish',
    (d: string) => writeFile(join(d, 'certificate.pem'), 'x'),
    /no certificate in PEM/,
  ],
  [
    'the certificate is truncated',
    (d: string) => writeFile(join(d, 'certificate.pem'), toPem([new Uint8Array(40).fill(48)])),
    /not an X.509 certificate/,
  ],
  [
    'the key is of another CA',
    async (d: string) => writeFile(join(d, 'key.pem'), formatKey(await generateKey())),
    /is not the key of/,
  ],
  [
    'the key is a link',
    async (d: string) => {
      await rename(join(d, 'key.pem'), join(d, 'elsewhere'));
      await symlink('elsewhere', join(d, 'key.pem'));
    },
    /symbolic link/,
  ],
  [
    'the key is a directory',
    async (d: string) => {
      await rm(join(d, 'key.pem'));
      await mkdir(join(d, 'key.pem'));
    },
    /not a regular file/,
  ],
  [
    'the certificate is not a CA',
    async (d: string) => {
      const { der, key } = await issue({ uris: [`spiffe://${DOMAIN}`] });
      await writeFile(join(d, 'certificate.pem'), toPem([der]));
      await writeFile(join(d, 'key.pem'), formatKey(key));
    },
    /not a self-signed CA/,
  ],
  [
    'the CA has expired',
    async (d: string) => {
      const { der, key } = await issueCa({ notAfter: Date.now() - 1000 });
      await writeFile(join(d, 'certificate.pem'), toPem([der]));
      await writeFile(join(d, 'key.pem'), formatKey(key));
    },
    /check the clock/,
  ],
])('when %s the CA is refused with a sentence', async (_, damage, sentence) => {
  const directory = join(await temporaryDirectory(), 'ca');
  await open(directory);
  await damage(directory);
  const error = await open(directory).catch((one: unknown) => one);
  expect(error).toBeInstanceOf(Vl3Error);
  expect(error).toMatchObject({ message: expect.stringMatching(sentence) });
});

test('a state directory that others may write to is refused', async () => {
  const parent = await temporaryDirectory();
  await chmod(parent, 0o777);
  await expect(open(join(parent, 'ca'))).rejects.toThrow(/other users may write/);
});

test.each(['', 'Upper.example', 'a/b', 'a b', 'spiffe://a', 'a'.repeat(256), 'é.example'])(
  'no CA is made for the trust domain %j',
  async (trustDomain) => {
    const directory = join(await temporaryDirectory(), 'ca');
    await expect(open(directory, trustDomain)).rejects.toThrow(/not a trust domain/);
    await expect(stat(directory)).rejects.toThrow(/ENOENT/);
  },
);

test('a node SVID has the node as its only name, both uses, and seven days', async () => {
  const ca = await openCa();
  const request = await createCertificateRequest(await generateKey());
  const leaf = await leafOf(ca.signNodeSvid(request, 'n1'));
  expect(leaf.x509.subjectAltName).toBe(`URI:spiffe://${DOMAIN}/node/n1`);
  expect(leaf.extendedKeyUsages).toEqual([CLIENT_AUTH, SERVER_AUTH]);
  expect(leaf).toMatchObject({ isCa: false, canSign: true, canCertify: false });
  expect(Math.abs(leaf.notAfter - Date.now() - SVID_VALIDITY_MS)).toBeLessThan(5000);
  expect(Date.now() - leaf.notBefore).toBeGreaterThan(4 * 60_000);
});

test('an admin credential is for clients only, a server certificate for servers only', async () => {
  const ca = await openCa();
  const request = await createCertificateRequest(await generateKey());
  const admin = await leafOf(ca.signAdminCredential(request, 'root'));
  expect(admin.uris).toEqual([`spiffe://${DOMAIN}/admin/root`]);
  expect(admin.extendedKeyUsages).toEqual([CLIENT_AUTH]);
  const server = await leafOf(
    ca.signServerCertificate(request, ['registry.example', '192.0.2.1', '2001:db8::1']),
  );
  expect(server.extendedKeyUsages).toEqual([SERVER_AUTH]);
  expect(server.uris).toEqual([`spiffe://${DOMAIN}/registry`]);
  expect(server.x509.checkHost('registry.example')).toBe('registry.example');
  expect(server.x509.checkIP('192.0.2.1')).toBe('192.0.2.1');
  expect(server.x509.checkIP('2001:db8::1')).toBeDefined();
});

test('nothing that is signed outlives the CA', async () => {
  let now = Date.now();
  const ca = await openCa(DOMAIN, () => now);
  const end = parseCertificate(ca.trustBundle.certificates[0] ?? new Uint8Array()).notAfter;
  const request = await createCertificateRequest(await generateKey());
  now = end - DAY;
  expect((await leafOf(ca.signNodeSvid(request, 'n1'))).notAfter).toBe(end);
  now = end + 1000;
  await expect(ca.signNodeSvid(request, 'n1')).rejects.toThrow(/the CA has expired/);
});

test.each(['', 'N1', 'a/b', 'a.b', '-a', 'x'.repeat(64), 'a\nb'])(
  'no SVID is made for the name %j',
  async (name) => {
    const ca = await openCa();
    const request = await createCertificateRequest(await generateKey());
    await expect(ca.signNodeSvid(request, name)).rejects.toThrow(/no good as node name/);
    await expect(ca.signAdminCredential(request, name)).rejects.toThrow(/no good as admin name/);
  },
);

test('a host that is none is not put into a server certificate', async () => {
  const ca = await openCa();
  const request = await createCertificateRequest(await generateKey());
  for (const host of ['', 'a b', 'x,URI:spiffe://evil/registry', '1.2.3.400', 'fe80::1%eth0']) {
    await expect(ca.signServerCertificate(request, [host])).rejects.toThrow(/neither a DNS name/);
  }
});

test('two certificates never share a serial number', async () => {
  const ca = await openCa();
  const request = await createCertificateRequest(await generateKey());
  const serials = await Promise.all(
    Array.from({ length: 50 }, async () => (await leafOf(ca.signNodeSvid(request, 'n1'))).serial),
  );
  expect(new Set(serials).size).toBe(50);
});

test('of a request only the key counts: names and extensions that it asks for are ignored', async () => {
  const ca = await openCa();
  const { Pkcs10CertificateRequestGenerator, ...x509 } = await loadX509();
  const key = await generateKey();
  const greedy = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=admin',
    keys: await webKeys(key),
    signingAlgorithm: ECDSA,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${DOMAIN}/admin/root` }]),
    ],
  });
  const chain = await ca.signNodeSvid(new Uint8Array(greedy.rawData), 'n1');
  const result = verifyChain(chain, ca.trustBundle, Date.now(), CLIENT_AUTH);
  expect(result).toMatchObject({ kind: 'verified', id: { kind: 'node', name: 'n1' } });
  expect(new X509Certificate(chain[0] ?? '').subject).toBe('CN=n1');
});

test('a request without proof of possession is refused', async () => {
  const ca = await openCa();
  const { Pkcs10CertificateRequestGenerator } = await loadX509();
  const [mine, theirs] = [await webKeys(await generateKey()), await webKeys(await generateKey())];
  // Somebody else's public key, signed by one's own.
  const stolen = await Pkcs10CertificateRequestGenerator.create({
    keys: { publicKey: theirs.publicKey, privateKey: mine.privateKey },
    signingAlgorithm: ECDSA,
  });
  await expect(ca.signNodeSvid(new Uint8Array(stolen.rawData), 'n1')).rejects.toThrow(/signed by that key/);
});

test('a request for another kind of key is refused', async () => {
  const { Pkcs10CertificateRequestGenerator } = await loadX509();
  const p384 = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' };
  const keys = await crypto.subtle.generateKey(p384, true, ['sign', 'verify']);
  const request = await Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: p384 });
  await expect(readCertificateRequest(new Uint8Array(request.rawData))).rejects.toThrow(/P-256/);
});

test('a request that is cut, changed, random or huge is refused', async () => {
  const request = await createCertificateRequest(await generateKey());
  for (let length = 0; length < request.length; length += 7) {
    await expect(readCertificateRequest(request.subarray(0, length))).rejects.toThrow(Vl3Error);
  }
  for (let at = 0; at < request.length; at += 5) {
    const changed = request.slice();
    changed[at] = (changed[at] ?? 0) ^ 0x11;
    await expect(readCertificateRequest(changed)).rejects.toThrow(Vl3Error);
  }
  await expect(readCertificateRequest(new Uint8Array(5000))).rejects.toThrow(/larger than/);
});
