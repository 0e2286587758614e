// Certificates of any shape, also those that no honest CA makes, and a registry's TLS server to show them.

import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type TLSSocket } from 'node:tls';
import { expect, onTestFinished } from 'vitest';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { CLIENT_AUTH, SERVER_AUTH } from '../../../src/identity/certificate.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { createIdentity, type Identity } from '../../../src/identity/identity.ts';
import { ECDSA, generateKey, webKeys } from '../../../src/identity/key.ts';
import { type Credential, serverTlsOptions } from '../../../src/identity/tls.ts';
import { loadX509 } from '../../../src/identity/x509-library.ts';

export const DOMAIN = 'aws-prod.example';
export const DAY = 86_400_000;

export const temporaryDirectory = async (): Promise<string> => {
  const directory = await mkdtemp(join(tmpdir(), 'vl3-identity-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
};

export const openCa = async (trustDomain = DOMAIN, now: () => number = Date.now) =>
  await CertificateAuthority.open(
    { directory: join(await temporaryDirectory(), 'ca'), trustDomain },
    { now },
  );

export const enrolled = async (
  ca: CertificateAuthority,
  name: string,
  now = Date.now(),
): Promise<Identity> => {
  const privateKey = await generateKey();
  const certificateChain = await ca.signNodeSvid(await createCertificateRequest(privateKey), name);
  const { trustBundle } = ca;
  const registries = ['192.0.2.1:7443'];
  return createIdentity({ kind: 'node', name, registries, trustBundle, privateKey, certificateChain }, now);
};

export interface Shape {
  readonly uris?: readonly string[];
  readonly ca?: boolean;
  readonly pathLength?: number;
  /** 'sign', 'certify' or both. */
  readonly usages?: readonly ('sign' | 'certify' | 'revoke')[];
  readonly extendedUsages?: readonly string[];
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly subject?: string;
  readonly issuer?: Issued;
  readonly key?: KeyObject;
  /** Marks an extension that nobody knows as critical. */
  readonly strangeCritical?: boolean;
}

export interface Issued {
  readonly der: Uint8Array;
  readonly key: KeyObject;
  readonly subject: string;
}

/** Without an issuer: self-signed. */
export const issue = async (shape: Shape): Promise<Issued> => {
  const x509 = await loadX509();
  const key = shape.key ?? (await generateKey());
  const subject = shape.subject ?? `CN=${randomBytes(4).toString('hex')}`;
  const signingKey = (await webKeys(shape.issuer?.key ?? key)).privateKey;
  const usages = shape.usages ?? (shape.ca ? ['certify'] : ['sign']);
  const flags =
    (usages.includes('sign') ? x509.KeyUsageFlags.digitalSignature : 0) |
    (usages.includes('certify') ? x509.KeyUsageFlags.keyCertSign : 0) |
    (usages.includes('revoke') ? x509.KeyUsageFlags.cRLSign : 0);
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const extended = shape.extendedUsages ?? (shape.ca ? [] : [CLIENT_AUTH, SERVER_AUTH]);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: `40${randomBytes(8).toString('hex')}`,
    subject,
    issuer: shape.issuer?.subject ?? subject,
    notBefore: new Date(shape.notBefore ?? Date.now() - DAY),
    notAfter: new Date(shape.notAfter ?? Date.now() + DAY),
    publicKey: new Uint8Array(spki).buffer,
    signingKey,
    signingAlgorithm: ECDSA,
    extensions: [
      new x509.BasicConstraintsExtension(shape.ca ?? false, shape.pathLength, true),
      ...(flags === 0 ? [] : [new x509.KeyUsagesExtension(flags, true)]),
      ...(extended.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension([...extended])]),
      ...(shape.uris === undefined
        ? []
        : [
            new x509.SubjectAlternativeNameExtension(
              shape.uris.map((value) => ({ type: 'url', value }) as const),
            ),
          ]),
      ...(shape.strangeCritical
        ? [new x509.Extension('1.3.6.1.4.1.99999.1', true, new Uint8Array([5, 0]).buffer)]
        : []),
    ],
  });
  return { der: new Uint8Array(certificate.rawData), key, subject };
};

export const issueCa = async (shape: Shape = {}): Promise<Issued> =>
  await issue({ ca: true, uris: [`spiffe://${DOMAIN}`], ...shape });

export interface TestServer {
  readonly port: number;
  /** Every byte that clients sent inside TLS, once somebody came and all have hung up, and how many came. */
  heard(): Promise<{ readonly bytes: string; readonly connections: number }>;
}

/** A TLS server that writes down what it is told. */
export const listenTls = async (
  credential: Credential,
  shown: { readonly certificates: readonly Uint8Array[] },
  onConnection: (socket: TLSSocket) => void = () => {},
): Promise<TestServer> => {
  let received = '';
  let connections = 0;
  let open = 0;
  const sockets = new Set<TLSSocket>();
  const options = serverTlsOptions(credential, { trustDomain: DOMAIN, certificates: shown.certificates });
  const server = createServer({ ...options, ALPNProtocols: ['h2'] }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (data) => {
      received += data.toString('latin1');
    });
    onConnection(socket);
  });
  server.on('connection', (socket: Socket) => {
    connections++;
    open++;
    socket.on('close', () => open--);
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  // The listener's address is an object: it listens on a port.
  const { port } = server.address() as AddressInfo;
  const heard = async () => {
    await expect.poll(() => connections > 0 && open === 0).toBe(true);
    return { bytes: received, connections };
  };
  return { port, heard };
};
