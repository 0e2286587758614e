// A Kubernetes cluster as far as its tokens go: keys, tokens signed with them, a server that publishes the keys,
// and what a registry says that knows one.

import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose';
import { onTestFinished } from 'vitest';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { formatKey } from '../../../src/identity/key.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { createServerCredential } from '../../../src/identity/tls.ts';
import { Clusters } from '../../../src/registry/clusters.ts';
import { recordingLogger, TRUST_DOMAIN, temporaryDirectory } from './fixture.ts';

export const ISSUER = 'https://kubernetes.default.svc.cluster.local';
export const AUDIENCE = `spiffe://${TRUST_DOMAIN}/registry`;
export const SUBJECT = 'system:serviceaccount:vl3-system:vl3-agent';

export type SigningKey = { readonly privateKey: CryptoKey; readonly jwk: JWK };

export const signingKey = async (alg = 'ES256', kid: string = randomUUID()): Promise<SigningKey> => {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
};

/** As API servers make them for a pod's projected volume. */
export const claimsOf = (node: string, over: Record<string, unknown> = {}): JWTPayload => {
  const now = Math.floor(Date.now() / 1000);
  return {
    aud: [AUDIENCE],
    exp: now + 600,
    iat: now,
    nbf: now,
    iss: ISSUER,
    jti: randomUUID(),
    sub: SUBJECT,
    'kubernetes.io': {
      namespace: 'vl3-system',
      node: { name: node, uid: '11111111-1111-1111-1111-111111111111' },
      pod: { name: 'vl3-agent-x7k2p', uid: '22222222-2222-2222-2222-222222222222' },
      serviceaccount: { name: 'vl3-agent', uid: '33333333-3333-3333-3333-333333333333' },
    },
    ...over,
  };
};

export const sign = async ({ privateKey, jwk }: SigningKey, claims: JWTPayload): Promise<string> =>
  await new SignJWT(claims)
    .setProtectedHeader({ alg: jwk.alg ?? '', ...(jwk.kid !== undefined && { kid: jwk.kid }) })
    .sign(privateKey);

/** Without the claims named, at any depth: "kubernetes.io/pod". */
export const without = (claims: JWTPayload, path: string): JWTPayload => {
  const copy = structuredClone(claims);
  const parts = path.split('/');
  let at: Record<string, unknown> = copy;
  for (const part of parts.slice(0, -1)) at = at[part] as Record<string, unknown>;
  delete at[parts.at(-1) ?? ''];
  return copy;
};

export const jwksOf = (...keys: readonly SigningKey[]): string =>
  JSON.stringify({ keys: keys.map(({ jwk }) => jwk) });

/** A file of clusters, and of their keys beside it. */
export class ClustersFile {
  readonly directory = temporaryDirectory();
  readonly path = join(this.directory, 'clusters.yaml');
  #writes = 0;

  /** Entries as they are written, and key sets by file name. */
  write(clusters: readonly Record<string, string>[], keySets: Record<string, string> = {}): void {
    for (const [name, text] of Object.entries(keySets)) writeFileSync(join(this.directory, name), text);
    // That it is another file is told by its time and size, which are coarse for who writes twice at once.
    writeFileSync(this.path, `${JSON.stringify({ clusters })}\n${'#'.repeat(++this.#writes)}\n`);
  }
}

export interface Publisher {
  url: string;
  readonly caFile: string;
  readonly tokenFile: string;
  readonly asked: string[];
  /** By path. */
  answers: Record<string, () => string | undefined>;
  /** Beats `answers`. */
  serve?: (response: ServerResponse) => void;
}

/** An API server's discovery, to whoever shows its token; whatever else comes is kept. */
export const publish = async (answers: Publisher['answers']): Promise<Publisher> => {
  const directory = temporaryDirectory();
  mkdirSync(join(directory, 'ca'), { mode: 0o700 });
  const ca = await CertificateAuthority.open(
    { directory: join(directory, 'ca'), trustDomain: 'api.example' },
    { now: Date.now },
  );
  const caFile = join(directory, 'ca.crt');
  const tokenFile = join(directory, 'token');
  writeFileSync(caFile, toPem(ca.trustBundle.certificates));
  writeFileSync(tokenFile, 'registry-token\n');
  const own = await createServerCredential(ca, ['127.0.0.1']);
  const asked: string[] = [];
  const publisher: Publisher = { url: '', caFile, tokenFile, asked, answers };
  const server = createServer(
    { key: formatKey(own.privateKey), cert: toPem(own.certificateChain) },
    (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { method, url = '', headers } = request;
        asked.push([method, url, Buffer.concat(chunks).toString()].filter(Boolean).join(' '));
        if (publisher.serve !== undefined) {
          publisher.serve(response);
          return;
        }
        const known = headers.authorization === 'Bearer registry-token';
        const text = known ? publisher.answers[url]?.() : undefined;
        // As API servers do it.
        if (url === '/openid/v1/jwks' && !headers.accept?.includes('application/jwk-set+json')) {
          response.writeHead(406).end();
          return;
        }
        response.writeHead(known ? (text === undefined ? 404 : 200) : 401).end(text ?? 'no');
      });
    },
  );
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  publisher.url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return publisher;
};

export const east = { name: 'east', issuer: ISSUER, keys: 'east.json' };

/** A registry that knows cluster "east" by one key. */
export const world = async (key?: SigningKey) => {
  const own = key ?? (await signingKey());
  const file = new ClustersFile();
  file.write([east], { 'east.json': jwksOf(own) });
  return { key: own, file, ...opened(file) };
};

export const opened = (file: ClustersFile, deps: object = {}) => {
  const log = recordingLogger();
  let now = 0;
  const clusters = new Clusters(
    { file: file.path, trustDomain: TRUST_DOMAIN },
    { logger: log.logger, now: Date.now, monotonic: () => now, ...deps },
  );
  const pass = (milliseconds: number): void => {
    now += milliseconds;
  };
  return { clusters, log, pass };
};

/** What became of a token. */
export const outcome = async (clusters: Clusters, token: string): Promise<string> => {
  try {
    const { node } = await clusters.verify(token);
    return `accepted as ${node}`;
  } catch (error) {
    const { code, reason, message } = error as { code: string; reason?: string; message: string };
    return `${reason ?? code}: ${message}`;
  }
};
