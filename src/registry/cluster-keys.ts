// The public keys that a cluster signs its tokens with (a JSON Web Key Set, RFC 7517), from a file or from whoever publishes
// them, fetched again when they are old and when a token names a key that is not among them. What is too large, private or no
// key set is refused whole, and then what there was before goes on for an hour at most.

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createLocalJWKSet, type JWTVerifyGetKey } from 'jose';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { type ClusterConfig, IN_CLUSTER, type KeysConfig } from './cluster-config.ts';
import { callHttps, MAX_ANSWER_BYTES } from './https-call.ts';

export interface Keys {
  readonly issuer: string;
  readonly find: JWTVerifyGetKey;
}

export interface KeySource {
  /** Throws Vl3Error('unavailable'). */
  current(): Promise<Keys>;
  /** As `current`, asked when a key was not among those: they may have been changed since. */
  renewed(): Promise<Keys>;
}

/** How the API server of the cluster is reached that this process is a pod of. */
export interface InCluster {
  readonly url: string;
  readonly caFile: string;
  readonly tokenFile: string;
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Throws Vl3Error('failed-precondition') outside of a pod. */
export const inCluster = (env: NodeJS.ProcessEnv = process.env): InCluster => {
  const [host, port = '443'] = [env['KUBERNETES_SERVICE_HOST'], env['KUBERNETES_SERVICE_PORT']];
  if (host === undefined || host === '') {
    throw new Vl3Error(
      'failed-precondition',
      'this is no pod of a Kubernetes cluster (KUBERNETES_SERVICE_HOST is not set): name an address or a file instead of in-cluster',
    );
  }
  return {
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    caFile: join(SERVICE_ACCOUNT, 'ca.crt'),
    tokenFile: join(SERVICE_ACCOUNT, 'token'),
  };
};

/** One domain's clusters change their keys a few times a year, and have two or three. */
const MAX_KEYS = 64;
/** RSA of 8192 bits, in base64url. */
const MAX_NUMBER = 1366;
const short = (max: number) => z.exactOptional(z.string().max(max));
const jwks = z.object({
  keys: z
    .array(
      z.object({
        kty: z.string().max(16),
        kid: short(256),
        alg: short(16),
        use: short(16),
        crv: short(16),
        n: short(MAX_NUMBER),
        e: short(16),
        x: short(MAX_NUMBER),
        y: short(MAX_NUMBER),
        // A private key, or a secret: whoever has it makes tokens, so it should be nowhere near.
        d: z.exactOptional(z.never('a private key')),
        k: z.exactOptional(z.never('a secret')),
      }),
    )
    .min(1)
    .max(MAX_KEYS),
});

/** Throws Vl3Error('unavailable'); `where` names it. */
export const readKeySet = (text: string, where: string): JWTVerifyGetKey => {
  const fail = (why: string): Vl3Error =>
    new Vl3Error('unavailable', `${where} is not a cluster's public keys (${why})`);
  if (text.length > MAX_ANSWER_BYTES) throw fail(`longer than ${MAX_ANSWER_BYTES} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw fail('no JSON');
  }
  const read = jwks.safeParse(json);
  if (!read.success) {
    const [issue] = read.error.issues;
    throw fail(`${issue?.path.join('.')}: ${issue?.message}`);
  }
  return createLocalJWKSet(read.data);
};

interface SourceDeps {
  /** Monotonic ms. */
  readonly monotonic: () => number;
  readonly inCluster: () => InCluster;
}

/** Throws Vl3Error when there is nothing to fetch by. Nothing is read yet. */
export const keySource = ({ issuer, keys }: ClusterConfig, deps: SourceDeps): KeySource => {
  if (keys.kind === 'file') return new KeyFile(keys.path, issuer ?? '');
  const fetch =
    keys.kind === IN_CLUSTER ? askApiServer(deps.inCluster(), issuer) : askUrl(keys, issuer ?? '');
  return new FetchedKeys(fetch, deps.monotonic);
};

/** Read anew whenever it has changed. */
class KeyFile implements KeySource {
  readonly #path: string;
  readonly #issuer: string;
  #read: { readonly stamp: string; readonly keys: Keys } | undefined;

  constructor(path: string, issuer: string) {
    this.#path = path;
    this.#issuer = issuer;
  }

  async current(): Promise<Keys> {
    try {
      const stamp = stampOf(this.#path);
      if (this.#read?.stamp !== stamp) {
        const find = readKeySet(readFileSync(this.#path, 'utf8'), this.#path);
        this.#read = { stamp, keys: { issuer: this.#issuer, find } };
      }
      return this.#read.keys;
    } catch (cause) {
      if (cause instanceof Vl3Error) throw cause;
      throw new Vl3Error('unavailable', `${this.#path} cannot be read: ${String(cause)}`, { cause });
    }
  }

  renewed(): Promise<Keys> {
    return this.current();
  }
}

/** Another when the file is another. Throws when there is none, or it is too large to be one. */
export const stampOf = (path: string): string => {
  const { mtimeNs, ctimeNs, size, ino } = statSync(path, { bigint: true });
  if (size > 4 * MAX_ANSWER_BYTES) throw new Vl3Error('unavailable', `${path} is longer than 1 MiB`);
  return `${mtimeNs} ${ctimeNs} ${size} ${ino}`;
};

const FRESH_MS = 5 * 60_000;
/** So long they count when they cannot be fetched. */
const USABLE_MS = 60 * 60_000;
/** However many tokens name keys that there are not. */
const LEAST_MS = 10_000;
/**
 * Callers who wait for keys that are under way keep their places among those few who may enrol at once: a cluster whose keys
 * are slow to come must not hold up the others' nodes. Further ones are told to try again.
 */
const MAX_WAITING = 2;

class FetchedKeys implements KeySource {
  readonly #fetch: () => Promise<Keys>;
  readonly #monotonic: () => number;
  #fetched: { readonly at: number; readonly keys: Keys } | undefined;
  #tried: { readonly at: number; readonly done: Promise<Vl3Error | undefined>; isOver: boolean } | undefined;
  #waiting = 0;

  constructor(fetch: () => Promise<Keys>, monotonic: () => number) {
    this.#fetch = fetch;
    this.#monotonic = monotonic;
  }

  current(): Promise<Keys> {
    return this.#within(FRESH_MS);
  }

  renewed(): Promise<Keys> {
    return this.#within(0);
  }

  async #within(ageMs: number): Promise<Keys> {
    const failure = this.#age >= ageMs ? await this.#try() : undefined;
    if (this.#fetched !== undefined && this.#age < USABLE_MS) return this.#fetched.keys;
    throw failure ?? new Vl3Error('unavailable', "the cluster's keys are not known");
  }

  get #age(): number {
    return this.#fetched === undefined ? Number.POSITIVE_INFINITY : this.#monotonic() - this.#fetched.at;
  }

  /** One at a time, and not often; answers why the latest one failed. */
  async #try(): Promise<Vl3Error | undefined> {
    const now = this.#monotonic();
    if (this.#tried === undefined || now - this.#tried.at >= LEAST_MS) {
      const tried = { at: now, done: this.#load(now), isOver: false };
      void tried.done.then(() => {
        tried.isOver = true;
      });
      this.#tried = tried;
    }
    const { done, isOver } = this.#tried;
    if (isOver) return await done;
    if (this.#waiting >= MAX_WAITING)
      throw new Vl3Error('unavailable', "the cluster's keys are being fetched: try again");
    this.#waiting++;
    try {
      return await done;
    } finally {
      this.#waiting--;
    }
  }

  async #load(at: number): Promise<Vl3Error | undefined> {
    try {
      this.#fetched = { at, keys: await this.#fetch() };
      return undefined;
    } catch (error) {
      if (error instanceof Vl3Error) return error;
      return new Vl3Error('unavailable', String(error), { cause: error });
    }
  }
}

const askUrl =
  ({ url, caFile, tokenFile }: Extract<KeysConfig, { kind: 'url' }>, issuer: string) =>
  async (): Promise<Keys> => ({
    issuer,
    find: readKeySet(await callHttps({ url, caFile, tokenFile }), url),
  });

const discovery = z.object({ issuer: z.string().min(1).max(1024) });

/** Where the keys are is not taken from its answer: this is the server that has them. */
const askApiServer =
  ({ url, caFile, tokenFile }: InCluster, issuer: string | undefined) =>
  async (): Promise<Keys> => {
    const ask = (path: string) => callHttps({ url: `${url}${path}`, caFile, tokenFile });
    const text = await ask('/openid/v1/jwks');
    const find = readKeySet(text, `${url}/openid/v1/jwks`);
    if (issuer !== undefined) return { issuer, find };
    const path = '/.well-known/openid-configuration';
    const said = discovery.safeParse(JSON.parse(await ask(path)));
    if (!said.success)
      throw new Vl3Error('unavailable', `${url}${path} names no issuer: write it into the cluster's entry`);
    return { issuer: said.data.issuer, find };
  };
