// Servers of bundles on the loopback, honest ones and others, and calls to them.

import { createServer as createHttpsServer, request } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { expect, onTestFinished } from 'vitest';
import type { BundleEndpoint as Endpoint } from '../../../native-free/federation/endpoint.ts';
import { type BundleCall, fetchBundle } from '../../../src/federation/bundle-call.ts';
import { BundleEndpoint, svidTls } from '../../../src/federation/bundle-endpoint.ts';
import type { TrustBundle } from '../../../src/identity/chain.ts';
import type { Credential } from '../../../src/identity/tls.ts';
import { DOMAIN, type Issued, issue } from '../identity/fixture.ts';

export const ID = `spiffe://${DOMAIN}/registry`;

export const bundleOf = (...cas: Issued[]): TrustBundle => ({
  trustDomain: DOMAIN,
  certificates: cas.map((ca) => ca.der),
});

/** What a CA signs for the server of the bundle; any shape. */
export const credentialOf = async (
  ca: Issued,
  shape: Parameters<typeof issue>[0] = {},
): Promise<Credential> => {
  const leaf = await issue({ uris: [ID], issuer: ca, ...shape });
  return { privateKey: leaf.key, certificateChain: [leaf.der] };
};

export const serve = async (credential: Credential, current: () => string, maxAge = 300) => {
  const options = { host: '127.0.0.1', port: 0, path: '/bundle.json', tls: svidTls(credential), maxAge };
  const server = await BundleEndpoint.open(options, current);
  onTestFinished(() => server[Symbol.asyncDispose]());
  return { server, url: `https://127.0.0.1:${server.port}/bundle.json` };
};

/** A server that answers as it likes. */
export const answering = async (
  credential: Credential,
  respond: Parameters<typeof createHttpsServer>[1],
): Promise<string> => {
  const server = createHttpsServer(svidTls(credential), respond);
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  // It listens on a port.
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}/bundle.json`;
};

export const spiffe = (url: string, spiffeId = ID): Endpoint => ({ profile: 'https_spiffe', url, spiffeId });
export const fetched = (url: string, known: TrustBundle, more: Partial<BundleCall> = {}) =>
  fetchBundle({ endpoint: spiffe(url), trustDomain: DOMAIN, known, ...more });

export const coded = (code: string, message: RegExp) => ({ code, message: expect.stringMatching(message) });

export const raw = (url: string, options: object = {}) =>
  new Promise<{ status: number | undefined; headers: Record<string, unknown>; body: string }>(
    (resolve, reject) => {
      const sent = request(url, { rejectUnauthorized: false, agent: false, ...options }, (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          body += text;
        });
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body }));
      });
      sent.on('error', reject);
      sent.end();
    },
  );
