import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createSecureServer } from 'node:http2';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { Code, ConnectError } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { expect, onTestFinished, test } from 'vitest';
import { EnrollmentService } from '../../../src/api/generated/vl3/v1/enrollment_pb.js';
import type { CertificateAuthority } from '../../../src/identity/ca.ts';
import { fingerprint } from '../../../src/identity/certificate.ts';
import { readCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { enroll } from '../../../src/identity/enroll.ts';
import { loadNodeIdentity } from '../../../src/identity/identity-file.ts';
import { type Credential, createServerCredential, serverTlsOptions } from '../../../src/identity/tls.ts';
import { createTokenSecret, type JoinToken } from '../../../src/identity/token.ts';
import { DOMAIN, type Issued, issue, issueCa, listenTls, openCa, temporaryDirectory } from './fixture.ts';

interface Call {
  readonly secret: string;
  readonly node: string;
  /** The request's public key, PEM. */
  readonly key: string;
}

interface Answer {
  readonly certificateChain: Uint8Array[];
}

/** A registry that answers Enroll as told. */
const registry = async (
  ca: CertificateAuthority,
  answer: (call: Call, request: Uint8Array) => Promise<Answer> = async ({ node }, request) => ({
    certificateChain: await ca.signNodeSvid(request, node),
  }),
) => {
  const calls: Call[] = [];
  const adapter = connectNodeAdapter({
    routes: (router) =>
      router.service(EnrollmentService, {
        async enroll({ tokenSecret, certificateRequest, node }) {
          const key = await readCertificateRequest(certificateRequest);
          const call = {
            secret: tokenSecret,
            node,
            key: key.export({ type: 'spki', format: 'pem' }).toString(),
          };
          calls.push(call);
          const rogue = { trustDomain: DOMAIN, certificates: [(await issueCa()).der] };
          return { ...(await answer(call, certificateRequest)), trustBundle: rogue, node };
        },
      }),
  });
  const own = await createServerCredential(ca, ['127.0.0.1']);
  const server = createSecureServer(serverTlsOptions(own, ca.trustBundle), adapter);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, calls };
};

const tokenFor = (ca: { readonly der: Uint8Array }, ...registries: string[]): JoinToken => ({
  registries,
  trustDomain: DOMAIN,
  caFingerprint: fingerprint(ca.der),
  secret: createTokenSecret(),
});
const caOf = (ca: CertificateAuthority) => ({ der: ca.trustBundle.certificates[0] ?? new Uint8Array() });
const credential = ({ der, key }: Issued): Credential => ({ certificateChain: [der], privateKey: key });

const deadAddress = async (): Promise<string> => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return `127.0.0.1:${port}`;
};

test('a node enrols with a token and finds its identity again', async () => {
  const ca = await openCa();
  const { address, calls } = await registry(ca);
  const token = tokenFor(caOf(ca), address);
  const directory = join(await temporaryDirectory(), 'state');
  const identity = await enroll({ token, node: 'n1', directory });
  expect(identity).toMatchObject({ kind: 'node', name: 'n1', registries: [address] });
  expect(calls).toMatchObject([{ secret: token.secret, node: 'n1' }]);
  const found = await loadNodeIdentity(directory);
  expect(found?.certificateChain).toEqual(identity.certificateChain);
  expect(found?.privateKey.equals(identity.privateKey)).toBe(true);
  expect(await readdir(directory)).toEqual(['identity.json']);
  expect((await stat(join(directory, 'identity.json'))).mode & 0o777).toBe(0o600);
});

test('of the answer only the CA that the token names is trusted', async () => {
  const ca = await openCa();
  const { address } = await registry(ca);
  const identity = await enroll({
    token: tokenFor(caOf(ca), address),
    node: 'n1',
    directory: await temporaryDirectory(),
  });
  expect(identity.trustBundle).toEqual(ca.trustBundle);
});

test('the rogue server of these tests hears whoever does not verify it', async () => {
  const evil = await issueCa();
  const leaf = await issue({ uris: [`spiffe://${DOMAIN}/registry`], issuer: evil });
  const rogue = await listenTls(credential(leaf), { certificates: [evil.der] });
  const careless = connectTls({ host: '127.0.0.1', port: rogue.port, rejectUnauthorized: false });
  careless.end('the secret');
  expect(await rogue.heard()).toEqual({ bytes: 'the secret', connections: 1 });
});

test('a man in the middle with another CA gets no byte', async () => {
  const honest = await openCa();
  const directory = await temporaryDirectory();
  const evil = await issueCa();
  const leaf = await issue({ uris: [`spiffe://${DOMAIN}/registry`], issuer: evil });
  const rogue = await listenTls(credential(leaf), { certificates: [evil.der] });
  const token = tokenFor(caOf(honest), `127.0.0.1:${rogue.port}`);
  await expect(enroll({ token, node: 'n1', directory })).rejects.toMatchObject({
    code: 'unauthenticated',
    message: expect.stringMatching(
      /does not belong to the CA that the join token, .* names; nothing was sent/,
    ),
  });
  expect(await rogue.heard()).toEqual({ bytes: '', connections: 1 });
  expect(await loadNodeIdentity(directory)).toBeUndefined();
});

test('a man in the middle who shows the real CA behind his own certificate gets no byte', async () => {
  const ca = await issueCa();
  const evil = await issueCa({ subject: ca.subject });
  const uris = [`spiffe://${DOMAIN}/registry`];
  const impostors: [string, Issued, Uint8Array[]][] = [
    ['signed by a CA of the same name', await issue({ uris, issuer: evil }), [ca.der]],
    ['self-signed', await issue({ uris }), [ca.der]],
    ['both CAs shown', await issue({ uris, issuer: evil }), [evil.der, ca.der]],
    ['an enrolled node', await issue({ uris: [`spiffe://${DOMAIN}/node/n1`], issuer: ca }), [ca.der]],
    [
      'a registry of another domain',
      await issue({ uris: ['spiffe://o.example/registry'], issuer: ca }),
      [ca.der],
    ],
    ['an expired registry', await issue({ uris, issuer: ca, notAfter: Date.now() - 1000 }), [ca.der]],
    ['a leaf alone', await issue({ uris, issuer: ca }), []],
  ];
  for (const [who, leaf, shown] of impostors) {
    const rogue = await listenTls(credential(leaf), { certificates: shown });
    const failure = enroll({
      token: tokenFor(ca, `127.0.0.1:${rogue.port}`),
      node: 'n1',
      directory: await temporaryDirectory(),
    });
    await expect(failure, who).rejects.toMatchObject({ code: 'unauthenticated' });
    expect(await rogue.heard(), who).toEqual({ bytes: '', connections: 1 });
  }
});

test('a man in the middle who lets the first contact through and then steps in gets no byte', async () => {
  const ca = await openCa();
  const { address, calls } = await registry(ca);
  const evil = await issueCa();
  const leaf = await issue({ uris: [`spiffe://${DOMAIN}/registry`], issuer: evil });
  const rogue = await listenTls(credential(leaf), { certificates: [evil.der] });
  const [host, port] = address.split(':');
  let connections = 0;
  const middle = createServer((inside) => {
    const target = connections++ === 0 ? Number(port) : rogue.port;
    const outside = connect(target, host);
    inside.on('error', () => outside.destroy());
    outside.on('error', () => inside.destroy());
    inside.pipe(outside).pipe(inside);
  });
  await new Promise<void>((resolve) => middle.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    await new Promise<void>((resolve) => middle.close(() => resolve()));
  });
  const token = tokenFor(caOf(ca), `127.0.0.1:${(middle.address() as AddressInfo).port}`);
  const failure = enroll({ token, node: 'n1', directory: await temporaryDirectory() });
  await expect(failure).rejects.toThrow(/certificate/);
  expect(connections).toBe(2);
  expect((await rogue.heard()).bytes).toBe('');
  expect(calls).toEqual([]);
});

test('an impostor and a dead registry are passed over for an honest one', async () => {
  const ca = await openCa();
  const { address } = await registry(ca);
  const evil = await issueCa();
  const leaf = await issue({ uris: [`spiffe://${DOMAIN}/registry`], issuer: evil });
  const rogue = await listenTls(credential(leaf), { certificates: [evil.der] });
  const token = tokenFor(caOf(ca), await deadAddress(), `127.0.0.1:${rogue.port}`, address);
  const identity = await enroll({ token, node: 'n1', directory: await temporaryDirectory() });
  expect(identity.name).toBe('n1');
  expect((await rogue.heard()).bytes).toBe('');
});

test('of a dead registry and an impostor the impostor is reported', async () => {
  const evil = await issueCa();
  const leaf = await issue({ uris: [`spiffe://${DOMAIN}/registry`], issuer: evil });
  const rogue = await listenTls(credential(leaf), { certificates: [evil.der] });
  const token = tokenFor(await issueCa(), await deadAddress(), `127.0.0.1:${rogue.port}`);
  const directory = await temporaryDirectory();
  await expect(enroll({ token, node: 'n1', directory })).rejects.toMatchObject({ code: 'unauthenticated' });
  const dead = tokenFor(await issueCa(), await deadAddress());
  await expect(enroll({ token: dead, node: 'n1', directory })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/cannot be reached/),
  });
});

test('a refused token is final: no other registry is asked', async () => {
  const ca = await openCa();
  const refuse = async () => {
    throw new ConnectError('the join token was used already', Code.PermissionDenied);
  };
  const [first, second] = [await registry(ca, refuse), await registry(ca)];
  const token = tokenFor(caOf(ca), first.address, second.address);
  const failure = enroll({ token, node: 'n1', directory: await temporaryDirectory() });
  await expect(failure).rejects.toMatchObject({
    code: 'permission-denied',
    message: 'the join token was used already',
  });
  expect(second.calls).toEqual([]);
});

test('after a lost answer the node asks again with the same key', async () => {
  const ca = await openCa();
  let lost = 0;
  const { address, calls } = await registry(ca, async ({ node }, request) => {
    if (lost++ === 0) throw new ConnectError('gone', Code.Unavailable);
    return { certificateChain: await ca.signNodeSvid(request, node) };
  });
  const directory = await temporaryDirectory();
  const token = tokenFor(caOf(ca), address);
  await expect(enroll({ token, node: 'n1', directory })).rejects.toMatchObject({ code: 'unavailable' });
  expect((await stat(join(directory, 'enrolling-key.pem'))).mode & 0o777).toBe(0o600);
  await enroll({ token, node: 'n1', directory });
  expect(calls[1]).toEqual(calls[0]);
  expect(await readdir(directory)).toEqual(['identity.json']);
});

test('an SVID for another name, another key, another CA or no SVID at all is not taken', async () => {
  const ca = await openCa();
  const evil = await issueCa();
  const answers: [string, (call: Call, request: Uint8Array) => Promise<Uint8Array[]>][] = [
    ['another name', (_, request) => ca.signNodeSvid(request, 'other')],
    ['an admin', (_, request) => ca.signAdminCredential(request, 'n1')],
    ['another key', async () => [(await issue({ uris: [`spiffe://${DOMAIN}/node/n1`], issuer: evil })).der]],
    ['rubbish', async () => [new Uint8Array(100)]],
    ['nothing', async () => []],
    ['too much', async () => [new Uint8Array(1 << 20)]],
  ];
  for (const [what, chain] of answers) {
    const { address } = await registry(ca, async (call, request) => ({
      certificateChain: await chain(call, request),
    }));
    const directory = await temporaryDirectory();
    const failure = enroll({ token: tokenFor(caOf(ca), address), node: 'n1', directory });
    await expect(failure, what).rejects.toThrow();
    expect(await loadNodeIdentity(directory), what).toBeUndefined();
  }
});

test('a server that never answers is given up, and an abort ends the wait at once', async () => {
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const sockets = new Set<{ destroy(): void }>();
  silent.on('connection', (socket) => sockets.add(socket));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
  const token = tokenFor(await issueCa(), `127.0.0.1:${(silent.address() as AddressInfo).port}`);
  const directory = await temporaryDirectory();
  const signal = AbortSignal.timeout(100);
  await expect(enroll({ token, node: 'n1', directory, signal })).rejects.toMatchObject({
    name: 'TimeoutError',
  });
});

test('a port that speaks no TLS is called unreachable', async () => {
  const chatty = createServer((socket) => socket.end('220 mail.example ESMTP\r\n'));
  await new Promise<void>((resolve) => chatty.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    chatty.close();
  });
  const token = tokenFor(await issueCa(), `127.0.0.1:${(chatty.address() as AddressInfo).port}`);
  const failure = enroll({ token, node: 'n1', directory: await temporaryDirectory() });
  await expect(failure).rejects.toMatchObject({ code: 'unavailable' });
});

test('no key that others may have read is used to enrol', async () => {
  const ca = await openCa();
  const { address, calls } = await registry(ca);
  const directory = await temporaryDirectory();
  await writeFile(join(directory, 'enrolling-key.pem'), await readFile('/dev/null'), { mode: 0o644 });
  const failure = enroll({ token: tokenFor(caOf(ca), address), node: 'n1', directory });
  await expect(failure).rejects.toThrow(/open to other users/);
  expect(calls).toEqual([]);
});
