// Service-account tokens of the small Kubernetes API server: made for a pod as TokenRequest makes them, and the keys that they
// are verified by.

import { createHash, createPrivateKey, createPublicKey, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { KubeObject, KubeStore } from './kube-store.ts';

const ISSUER = 'https://lab.example';

interface TokenRequest {
  spec: { audiences: string[]; expirationSeconds: number; boundObjectRef?: { name: string; uid: string } };
}

export class KubeTokens {
  readonly #key;
  readonly #kid: string;
  readonly #store: KubeStore;

  /** `file`: the private key (RSA, PEM). */
  constructor(file: string, store: KubeStore) {
    this.#key = createPrivateKey(readFileSync(file));
    const spki = createPublicKey(this.#key).export({ type: 'spki', format: 'der' });
    this.#kid = createHash('sha256').update(spki).digest('base64url');
    this.#store = store;
  }

  /** What is published, by path; undefined: something else. */
  published(path: string): unknown {
    if (path === '/.well-known/openid-configuration') return { issuer: ISSUER };
    if (path !== '/openid/v1/jwks') return undefined;
    const jwk = createPublicKey(this.#key).export({ format: 'jwk' });
    return { keys: [{ ...jwk, use: 'sig', alg: 'RS256', kid: this.#kid }] };
  }

  /** What whoever asks for it has to take, as Kubernetes' own has it. */
  typeOf(path: string): string {
    return path === '/openid/v1/jwks' ? 'application/jwk-set+json' : 'application/json';
  }

  /** For `POST …/namespaces/NAMESPACE/serviceaccounts/ACCOUNT/token`; undefined: it is bound to a pod that there is not. */
  request(namespace: string, account: string, { spec }: TokenRequest): unknown {
    const bound = spec.boundObjectRef;
    const pod = bound && this.#store.get('pods', namespace, bound.name);
    if (bound !== undefined && pod?.metadata.uid !== bound.uid) return undefined;
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      ...{ aud: spec.audiences, iss: ISSUER, jti: randomUUID() },
      ...{ iat: now, nbf: now, exp: now + spec.expirationSeconds },
      sub: `system:serviceaccount:${namespace}:${account}`,
      'kubernetes.io': {
        namespace,
        serviceaccount: { name: account, uid: randomUUID() },
        ...(pod && ofPod(pod)),
      },
    };
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const data = `${encode({ alg: 'RS256', kid: this.#kid })}.${encode(claims)}`;
    const signature = sign('sha256', Buffer.from(data), this.#key).toString('base64url');
    return { kind: 'TokenRequest', spec, status: { token: `${data}.${signature}` } };
  }
}

const ofPod = ({ metadata, spec }: KubeObject) => ({
  pod: { name: metadata.name, uid: metadata.uid },
  ...(spec?.nodeName !== undefined && { node: { name: spec.nodeName } }),
});
