import { connect as connectHttp2, createSecureServer, type Http2SecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { connect, TLSSocket } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { createAdminCredential } from '../../../src/identity/admin-credential.ts';
import type { CertificateAuthority } from '../../../src/identity/ca.ts';
import type { TrustBundle } from '../../../src/identity/chain.ts';
import { generateKey } from '../../../src/identity/key.ts';
import {
  type Credential,
  clientTlsOptions,
  createServerCredential,
  peerIdentity,
  peerProblem,
  serverTlsOptions,
} from '../../../src/identity/tls.ts';
import { DAY, DOMAIN, enrolled, type Issued, issue, issueCa, listenTls, openCa } from './fixture.ts';

const credential = ({ der, key }: Issued): Credential => ({ certificateChain: [der], privateKey: key });
const bundleOf = (...cas: Issued[]): TrustBundle => ({
  trustDomain: DOMAIN,
  certificates: cas.map((ca) => ca.der),
});

/** A registry that answers each request with who it thinks is asking. */
const whoServer = async (
  bundle: TrustBundle,
  own: Credential,
): Promise<{ port: number; server: Http2SecureServer }> => {
  const server = createSecureServer(serverTlsOptions(own, bundle), (request, response) => {
    const { socket } = request;
    const answer =
      socket instanceof TLSSocket
        ? { identity: peerIdentity(socket, bundle), problem: peerProblem(socket, bundle) }
        : { problem: 'not TLS' };
    response.end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return { port: (server.address() as AddressInfo).port, server };
};

const ask = async (port: number, options: object): Promise<Record<string, unknown>> => {
  const session = connectHttp2(`https://127.0.0.1:${port}`, options);
  try {
    return await new Promise((resolve, reject) => {
      session.on('error', reject);
      const stream = session.request({ ':path': '/' });
      let body = '';
      stream.on('data', (data) => {
        body += data;
      });
      stream.on('error', reject);
      stream.on('end', () => resolve(JSON.parse(body)));
    });
  } finally {
    session.destroy();
  }
};

const registry = async (ca: CertificateAuthority) =>
  await whoServer(ca.trustBundle, await createServerCredential(ca, ['127.0.0.1']));

test('a node and an admin are known to the registry by their certificates', async () => {
  const ca = await openCa();
  const { port } = await registry(ca);
  const node = await enrolled(ca, 'n1');
  expect(await ask(port, clientTlsOptions(ca.trustBundle, node))).toMatchObject({
    identity: { kind: 'node', name: 'n1', trustDomain: DOMAIN, notAfter: node.notAfter },
  });
  const admin = await createAdminCredential(ca, 'root', ['127.0.0.1:1']);
  expect(await ask(port, clientTlsOptions(ca.trustBundle, admin))).toMatchObject({
    identity: { kind: 'admin', name: 'root' },
  });
});

test('a client without a certificate gets in as nobody', async () => {
  const ca = await openCa();
  const { port } = await registry(ca);
  expect(await ask(port, clientTlsOptions(ca.trustBundle))).toEqual({
    problem: 'no client certificate was presented',
  });
});

test('a client whose certificate does not hold is nobody, and hears why', async () => {
  const ca = await issueCa();
  const bundle = bundleOf(ca);
  const own = credential(await issue({ uris: [`spiffe://${DOMAIN}/registry`], issuer: ca }));
  const { port } = await whoServer(bundle, own);
  const uris = [`spiffe://${DOMAIN}/node/n1`];
  const cases: [Issued, RegExp][] = [
    [await issue({ uris, issuer: ca, notAfter: Date.now() - 1000 }), /expired/],
    [await issue({ uris, issuer: await issueCa() }), /not issued by a CA/],
    [await issue({ uris, issuer: await issueCa({ subject: ca.subject }) }), /not issued by a CA/],
    [await issue({ uris }), /not issued by a CA/],
    [await issue({ uris: ['spiffe://other.example/node/n1'], issuer: ca }), /another trust domain/],
    [await issue({ uris: [`spiffe://${DOMAIN}/registry`], issuer: ca }), /is a registry/],
    [await issue({ uris: [...uris, `spiffe://${DOMAIN}/admin/a`], issuer: ca }), /exactly one URI/],
  ];
  for (const [client, problem] of cases) {
    const answer = await ask(port, clientTlsOptions(bundle, credential(client)));
    expect(answer['identity']).toBeUndefined();
    expect(answer['problem']).toMatch(problem);
  }
});

test('an identity ends with its certificate, also on an open connection', async () => {
  const ca = await openCa();
  const node = await enrolled(ca, 'n1');
  const own = await createServerCredential(ca, ['127.0.0.1']);
  let inside: TLSSocket | undefined;
  const { port } = await listenTls(own, ca.trustBundle, (socket) => {
    inside = socket;
  });
  const client = connect({ host: '127.0.0.1', port, ...clientTlsOptions(ca.trustBundle, node) });
  await new Promise((resolve) => client.once('secureConnect', resolve));
  await expect.poll(() => inside).toBeDefined();
  if (inside === undefined) return;
  expect(peerIdentity(inside, ca.trustBundle)?.name).toBe('n1');
  expect(peerIdentity(inside, ca.trustBundle, Date.now() + 8 * DAY)).toBeUndefined();
  expect(peerProblem(inside, ca.trustBundle, Date.now() + 8 * DAY)).toMatch(/expired/);
  client.destroy();
});

test('a client sends nothing to a server that is not the registry', async () => {
  const ca = await issueCa();
  const bundle = bundleOf(ca);
  const own = [`spiffe://${DOMAIN}/registry`];
  const impostors: [string, Issued, Issued, RegExp][] = [
    ['of another CA', await issue({ uris: own, issuer: await issueCa() }), ca, /certificate/],
    [
      'of a CA with the same name',
      await issue({ uris: own, issuer: await issueCa({ subject: ca.subject }) }),
      ca,
      /certificate/,
    ],
    ['a node', await issue({ uris: [`spiffe://${DOMAIN}/node/n1`], issuer: ca }), ca, /it is node "n1"/],
    ['an admin', await issue({ uris: [`spiffe://${DOMAIN}/admin/a`], issuer: ca }), ca, /it is admin "a"/],
    [
      'of another domain',
      await issue({ uris: ['spiffe://o.example/registry'], issuer: ca }),
      ca,
      /another trust domain/,
    ],
    ['nameless', await issue({ issuer: ca }), ca, /exactly one URI/],
    ['expired', await issue({ uris: own, issuer: ca, notAfter: Date.now() - 1000 }), ca, /expired/],
    [
      'for clients only',
      await issue({ uris: own, issuer: ca, extendedUsages: ['1.3.6.1.5.5.7.3.2'] }),
      ca,
      /purpose|usage/,
    ],
  ];
  const node = credential(await issue({ uris: [`spiffe://${DOMAIN}/node/n9`], issuer: ca }));
  for (const [who, server, shown, why] of impostors) {
    const rogue = await listenTls(credential(server), { certificates: [shown.der] });
    const failure = await ask(rogue.port, clientTlsOptions(bundle, node)).catch((error: unknown) => error);
    expect(failure, who).toMatchObject({ message: expect.stringMatching(why) });
    expect((await rogue.heard()).bytes, who).toBe('');
  }
});

test('a server that only knows the registry certificate, not its key, completes no handshake', async () => {
  const ca = await issueCa();
  const server = await issue({ uris: [`spiffe://${DOMAIN}/registry`], issuer: ca });
  await expect(
    listenTls(
      { certificateChain: [server.der], privateKey: await generateKey() },
      { certificates: [ca.der] },
    ),
  ).rejects.toThrow(/key values mismatch/);
});

test('TLS 1.2 is refused on both sides', async () => {
  const ca = await openCa();
  const { port } = await registry(ca);
  const old = { ...clientTlsOptions(ca.trustBundle), minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' };
  await expect(ask(port, old)).rejects.toThrow(/protocol version|alert|closed|reset/i);
});

test('a renewed server certificate is used from the next connection on', async () => {
  const ca = await openCa();
  const { port, server } = await registry(ca);
  const serialSeen = async () => {
    const socket = connect({ host: '127.0.0.1', port, ...clientTlsOptions(ca.trustBundle) });
    await new Promise((resolve) => socket.once('secureConnect', resolve));
    const serial = socket.getPeerX509Certificate()?.serialNumber;
    socket.destroy();
    return serial;
  };
  const before = await serialSeen();
  server.setSecureContext(serverTlsOptions(await createServerCredential(ca, ['127.0.0.1']), ca.trustBundle));
  expect(await serialSeen()).not.toBe(before);
});
