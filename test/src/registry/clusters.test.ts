// Whose tokens are believed: tokens that are really signed, and everything that is nearly right.

import { createHmac } from 'node:crypto';
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { exportSPKI, importJWK, type JWTPayload } from 'jose';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { parseClusters } from '../../../src/registry/cluster-config.ts';
import { Clusters } from '../../../src/registry/clusters.ts';
import {
  AUDIENCE,
  ClustersFile,
  claimsOf,
  ISSUER,
  jwksOf,
  publish,
  type SigningKey,
  sign,
  signingKey,
  without,
} from './cluster-fixture.ts';
import { recordingLogger, TRUST_DOMAIN } from './fixture.ts';

const east = { name: 'east', issuer: ISSUER, keys: 'east.json' };

/** A registry that knows cluster "east" by one key. */
const world = async (key?: SigningKey) => {
  const own = key ?? (await signingKey());
  const file = new ClustersFile();
  file.write([east], { 'east.json': jwksOf(own) });
  return { key: own, file, ...opened(file) };
};
const opened = (file: ClustersFile, deps: object = {}) => {
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
const outcome = async (clusters: Clusters, token: string): Promise<string> => {
  try {
    const { node } = await clusters.verify(token);
    return `accepted as ${node}`;
  } catch (error) {
    const { code, reason, message } = error as { code: string; reason?: string; message: string };
    return `${reason ?? code}: ${message}`;
  }
};

describe('a token of the agent on a node', () => {
  test.each(['ES256', 'ES384', 'ES512', 'RS256'])(
    'that is signed by %s says which node it is',
    async (alg) => {
      const { clusters, key } = await world(await signingKey(alg));
      const claims = claimsOf('worker-1');
      expect(await clusters.verify(await sign(key, claims))).toEqual({
        cluster: 'east',
        kubernetesNode: 'worker-1',
        kubernetesUid: '11111111-1111-1111-1111-111111111111',
        node: 'east-worker-1',
        tokenHash: expect.stringMatching(/^[0-9a-f]{64}$/),
        tokenExpiresAt: (Number(claims.exp) + 30) * 1000,
      });
    },
  );

  test('is the same token however its signature is written', async () => {
    const { clusters, key } = await world();
    const token = await sign(key, claimsOf('worker-1'));
    // r and n - s sign as well as r and s: whoever has a token of ECDSA has another.
    const [head, body, signature = ''] = token.split('.');
    const bytes = Buffer.from(signature, 'base64url');
    const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
    const s = order - BigInt(`0x${bytes.subarray(32).toString('hex')}`);
    const mirrored = Buffer.concat([
      bytes.subarray(0, 32),
      Buffer.from(s.toString(16).padStart(64, '0'), 'hex'),
    ]);
    const twin = `${head}.${body}.${mirrored.toString('base64url')}`;
    expect(twin).not.toBe(token);
    const [one, two] = [await clusters.verify(token), await clusters.verify(twin)];
    expect(two.tokenHash).toBe(one.tokenHash);
    expect((await clusters.verify(await sign(key, claimsOf('worker-1')))).tokenHash).not.toBe(one.tokenHash);
  });

  test('may be of a node that has not been registered, which has no UID', async () => {
    const { clusters, key } = await world();
    expect(await outcome(clusters, await sign(key, without(claimsOf('n'), 'kubernetes.io/node/uid')))).toBe(
      'accepted as east-n',
    );
  });
});

describe('a token is refused', () => {
  const of = (over: Record<string, unknown>): JWTPayload => {
    const claims = claimsOf('worker-1');
    return { ...claims, 'kubernetes.io': { ...(claims['kubernetes.io'] as object), ...over } };
  };
  const now = () => Math.floor(Date.now() / 1000);
  const wrong: [string, () => JWTPayload, RegExp][] = [
    [
      'of another service account',
      () => claimsOf('n', { sub: 'system:serviceaccount:vl3-system:other' }),
      /^other-account: .*vl3-agent/,
    ],
    [
      'of another namespace',
      () => claimsOf('n', { sub: 'system:serviceaccount:team-a:vl3-agent' }),
      /^other-account/,
    ],
    ['of a user', () => claimsOf('n', { sub: 'admin' }), /^other-account/],
    ['that names another namespace within', () => of({ namespace: 'team-a' }), /^other-account/],
    [
      'that names another account within',
      () => of({ serviceaccount: { name: 'other', uid: 'u' } }),
      /^other-account/,
    ],
    [
      'for the API server',
      () => claimsOf('n', { aud: [ISSUER] }),
      /^other-audience: .*spiffe:\/\/test\.example\/registry/,
    ],
    [
      'for the registry of another domain',
      () => claimsOf('n', { aud: 'spiffe://other.example/registry' }),
      /^other-audience/,
    ],
    ['for nobody', () => without(claimsOf('n'), 'aud'), /^(other-audience|malformed)/],
    [
      'of another issuer',
      () => claimsOf('n', { iss: 'https://evil.example' }),
      /^other-issuer: .*"https:\/\/evil\.example".*no cluster/,
    ],
    [
      'that has expired',
      () => claimsOf('n', { iat: now() - 700, nbf: now() - 700, exp: now() - 100 }),
      /^expired/,
    ],
    ['that never expires', () => without(claimsOf('n'), 'exp'), /^malformed/],
    ['of which nobody knows when it was made', () => without(claimsOf('n'), 'iat'), /^malformed/],
    ['that is good from later on', () => claimsOf('n', { nbf: now() + 300 }), /^not-yet-valid/],
    ['that is good for a day', () => claimsOf('n', { exp: now() + 86_400 }), /^too-long: .*1440 min/],
    [
      'that is good for a day, and says that it is made in the end of it',
      () => claimsOf('n', { iat: now() + 86_000, exp: now() + 86_400 }),
      /^too-long: .*14[34]\d min/,
    ],
    [
      'that is good for ever',
      () => claimsOf('n', { iat: Number.MAX_VALUE, exp: Number.MAX_VALUE }),
      /^malformed/,
    ],
    ['whose end is between two seconds', () => claimsOf('n', { exp: now() + 600.5 }), /^malformed/],
    ['that names no node', () => without(claimsOf('n'), 'kubernetes.io/node'), /^no-node: .*1\.30/],
    ['that is bound to no pod', () => without(claimsOf('n'), 'kubernetes.io/pod'), /^no-node/],
    ['of a node that cannot be one', () => of({ node: { name: 'a/../b' } }), /^no-node/],
    ['of no cluster', () => without(claimsOf('n'), 'kubernetes.io'), /^malformed/],
    ['whose times are no numbers', () => claimsOf('n', { exp: 'tomorrow' } as never), /^malformed/],
  ];
  test.each(wrong)('%s', async (_, claims, reason) => {
    const { clusters, key } = await world();
    expect(await outcome(clusters, await sign(key, claims()))).toMatch(reason);
  });

  test('signed by another key under the name of the right one', async () => {
    const { clusters, key } = await world();
    const evil = await signingKey('ES256', key.jwk.kid);
    expect(await outcome(clusters, await sign(evil, claimsOf('n')))).toMatch(/^forged/);
  });

  test('signed by a key that nobody knows', async () => {
    const { clusters } = await world();
    expect(await outcome(clusters, await sign(await signingKey(), claimsOf('n')))).toMatch(/^other-key/);
  });

  test('signed by a key that it brings along', async () => {
    const { clusters, key } = await world();
    const evil = await signingKey('ES256', key.jwk.kid);
    const [, body = ''] = (await sign(evil, claimsOf('n'))).split('.');
    const header = { alg: 'ES256', kid: key.jwk.kid, jwk: evil.jwk, jku: 'https://evil.example/jwks' };
    const head = Buffer.from(JSON.stringify(header)).toString('base64url');
    const { privateKey } = evil;
    const data = new TextEncoder().encode(`${head}.${body}`);
    const made = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, privateKey, data);
    const token = `${head}.${body}.${Buffer.from(made).toString('base64url')}`;
    expect(await outcome(clusters, token)).toMatch(/^forged/);
  });

  test('that is not signed, or by a public key taken for a secret', async () => {
    const { clusters, key } = await world(await signingKey('RS256'));
    const [, body = ''] = (await sign(key, claimsOf('n'))).split('.');
    const made = (header: object, mac: (data: string) => string): string => {
      const data = `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${body}`;
      return `${data}.${mac(data)}`;
    };
    const { kid } = key.jwk;
    const publicKey = await importJWK(key.jwk, 'RS256');
    if (publicKey instanceof Uint8Array) throw new Error('no public key');
    const secrets = [await exportSPKI(publicKey), JSON.stringify(key.jwk), key.jwk.n ?? ''];
    for (const alg of ['none', 'None', 'NONE', ''])
      expect(
        await outcome(
          clusters,
          made({ alg, kid }, () => ''),
        ),
      ).toMatch(/^(forged|malformed)/);
    for (const secret of secrets)
      for (const alg of ['HS256', 'HS512']) {
        const token = made({ alg, kid }, (data) =>
          createHmac(alg === 'HS256' ? 'sha256' : 'sha512', secret)
            .update(data)
            .digest('base64url'),
        );
        expect(await outcome(clusters, token)).toMatch(/^forged/);
      }
  });

  test('of which a single character was changed', async () => {
    const { clusters, key } = await world();
    const token = await sign(key, claimsOf('worker-1'));
    for (let i = 0; i < token.length; i += 7) {
      const changed = `${token.slice(0, i)}${token[i] === 'A' ? 'B' : 'A'}${token.slice(i + 1)}`;
      expect(await outcome(clusters, changed)).not.toMatch(/^accepted/);
    }
  });

  test('that is none, without a throw of anything else', async () => {
    const { clusters } = await world();
    for (const text of ['', '.', '..', '...', 'a.b.c', 'e30.e30.e30', 'x'.repeat(100_000), '\0\0', '{}'])
      expect(await outcome(clusters, text)).toMatch(/^malformed: this is no token/);
  });
});

describe('of several clusters', () => {
  const two = async () => {
    const [one, other] = [await signingKey(), await signingKey()];
    const file = new ClustersFile();
    // Most clusters have the same issuer.
    const west = { name: 'west', issuer: ISSUER, keys: 'west.json', 'service-account': 'net/agent' };
    file.write([east, west], { 'east.json': jwksOf(one), 'west.json': jwksOf(other) });
    return { one, other, file, east, west, ...opened(file) };
  };
  const ofWest = () =>
    claimsOf('n', {
      sub: 'system:serviceaccount:net:agent',
      'kubernetes.io': {
        ...(claimsOf('n')['kubernetes.io'] as object),
        namespace: 'net',
        serviceaccount: { name: 'agent', uid: 'u' },
      },
    });

  test('that one is asked whose key it is, also where the issuer is the same', async () => {
    const { clusters, one, other } = await two();
    expect(await outcome(clusters, await sign(one, claimsOf('n')))).toBe('accepted as east-n');
    expect(await outcome(clusters, await sign(other, ofWest()))).toBe('accepted as west-n');
  });

  test('none speaks for another, nor with the rights of its account', async () => {
    const { clusters, one, other } = await two();
    expect(await outcome(clusters, await sign(one, ofWest()))).toMatch(/^other-account: .*cluster "east"/);
    expect(await outcome(clusters, await sign(other, claimsOf('n')))).toMatch(
      /^other-account: .*cluster "west"/,
    );
    const posing = { ...other, jwk: { ...other.jwk, kid: one.jwk.kid ?? '' } };
    expect(await outcome(clusters, await sign(posing, claimsOf('n')))).toMatch(/^forged/);
  });

  test('two that sign with the same key admit nobody', async () => {
    const { clusters, one, file, west } = await two();
    const { 'service-account': _, ...twin } = west;
    file.write([east, twin], { 'west.json': jwksOf(one) });
    expect(await outcome(clusters, await sign(one, claimsOf('n')))).toMatch(
      /^other-key: .*sign with the same key/,
    );
  });

  test('one that was taken out admits nobody any more, at once', async () => {
    const { clusters, one, other, file, west } = await two();
    const token = await sign(one, claimsOf('n'));
    expect(await outcome(clusters, token)).toBe('accepted as east-n');
    file.write([west]);
    expect(await outcome(clusters, token)).toMatch(/^other-key: .*cluster "west"/);
    file.write([]);
    expect(await outcome(clusters, token)).toMatch(/^other-issuer/);
    expect(await outcome(clusters, await sign(other, ofWest()))).toMatch(/^other-issuer/);
  });

  test('when the file cannot be read any more, none admits', async () => {
    const { clusters, one, file, log } = await two();
    const token = await sign(one, claimsOf('n'));
    writeFileSync(file.path, 'clusters: [');
    expect(await outcome(clusters, token)).toMatch(
      /^unavailable: the registry cannot read its list of clusters/,
    );
    for (let i = 0; i < 20; i++) expect(await outcome(clusters, token)).toMatch(/^unavailable/);
    // Whoever asks and asks does not fill the log.
    expect(log.lines.filter((line) => line.includes('no node enrols by any of them'))).toHaveLength(1);
    unlinkSync(file.path);
    expect(await outcome(clusters, token)).toMatch(/^unavailable/);
    file.write([east]);
    expect(await outcome(clusters, token)).toBe('accepted as east-n');
  });
});

describe('keys', () => {
  test('that are changed in their file count at once', async () => {
    const { clusters, key, file } = await world();
    const token = await sign(key, claimsOf('n'));
    const next = await signingKey();
    writeFileSync(join(file.directory, 'east.json'), `${jwksOf(next)}\n`);
    expect(await outcome(clusters, token)).toMatch(/^other-key/);
    expect(await outcome(clusters, await sign(next, claimsOf('n')))).toBe('accepted as east-n');
  });

  const many = JSON.stringify({ keys: Array.from({ length: 65 }, () => ({ kty: 'EC' })) });
  const huge = JSON.stringify({ keys: [{ kty: 'RSA', n: 'A'.repeat(20_000), e: 'AQAB' }] });
  test.each([
    ['of enormous size', `${' '.repeat(300_000)}{"keys":[]}`, /longer than/],
    ['of more than a file may be', ' '.repeat(2_000_000), /longer than/],
    ['that are too many', many, /keys/],
    ['that are too long', huge, /keys\.0\.n/],
    ['that are none', '{"keys":[]}', /keys/],
    ['that are no JSON', 'hello', /no JSON/],
    ['that are private', '{"keys":[{"kty":"EC","d":"x"}]}', /a private key/],
    ['that are secrets', '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}', /a secret/],
  ])('%s are refused whole, and said in the log', async (_, text, reason) => {
    const { clusters, key, file, log } = await world();
    writeFileSync(join(file.directory, 'east.json'), text);
    expect(await outcome(clusters, await sign(key, claimsOf('n')))).toMatch(
      /^unavailable: the registry cannot get the cluster's keys now/,
    );
    expect(log.lines.join()).toMatch(reason);
  });
});

test('a key that is no key admits nobody, and is said in the log', async () => {
  const { clusters, key, file, log } = await world();
  const broken = { ...key, jwk: { ...key.jwk, x: 'AAAA' } };
  writeFileSync(join(file.directory, 'east.json'), jwksOf(broken));
  expect(await outcome(clusters, await sign(key, claimsOf('n')))).toMatch(/^unavailable: /);
  expect(log.lines.join()).toMatch(/a key of cluster \\"east\\" cannot be used/);
});

describe("keys of the registry's own cluster", () => {
  const JWKS = '/openid/v1/jwks';
  const CONFIGURATION = '/.well-known/openid-configuration';
  const own = { name: 'home', keys: 'in-cluster' };
  const running = async (entry: Record<string, string> = own) => {
    const key = await signingKey('RS256');
    const api = await publish({
      [JWKS]: () => jwksOf(key),
      [CONFIGURATION]: () => JSON.stringify({ issuer: ISSUER, jwks_uri: 'https://evil.example/jwks' }),
    });
    const file = new ClustersFile();
    const written = (one: Record<string, string>) =>
      Object.fromEntries(Object.entries(one).map(([name, text]) => [name, text.replace('URL', api.url)]));
    file.write([
      written({
        ...entry,
        ...(entry['ca-file'] && { 'ca-file': api.caFile }),
        ...(entry['token-file'] && { 'token-file': api.tokenFile }),
      }),
    ]);
    const inCluster = () => ({ url: api.url, caFile: api.caFile, tokenFile: api.tokenFile });
    return { key, api, file, ...opened(file, { inCluster }) };
  };

  test('are fetched from its API server, with its issuer, and kept for a while', async () => {
    const { clusters, key, api, pass } = await running();
    expect(api.asked).toEqual([]);
    for (let i = 0; i < 3; i++)
      expect(await outcome(clusters, await sign(key, claimsOf('n')))).toBe('accepted as home-n');
    expect(api.asked).toEqual([`GET ${JWKS}`, `GET ${CONFIGURATION}`]);
    pass(5 * 60_000);
    expect(await outcome(clusters, await sign(key, claimsOf('n')))).toBe('accepted as home-n');
    expect(api.asked).toHaveLength(4);
  });

  test('that are rotated are fetched when the first token comes, and however many strange ones come, seldom', async () => {
    const { clusters, key, api, pass } = await running();
    await clusters.verify(await sign(key, claimsOf('n')));
    const next = await signingKey('RS256');
    api.answers[JWKS] = () => jwksOf(next, key);
    pass(60_000);
    expect(await outcome(clusters, await sign(next, claimsOf('n')))).toBe('accepted as home-n');
    const strange = await signingKey();
    const before = api.asked.length;
    for (let i = 0; i < 20; i++) {
      expect(await outcome(clusters, await sign(strange, claimsOf('n')))).toMatch(/^other-key/);
      pass(900);
    }
    expect(api.asked.length - before).toBeLessThanOrEqual(4);
  });

  test('that were taken back admit nobody after minutes, also when a strange token comes first', async () => {
    const { clusters, key, api, pass } = await running();
    const token = await sign(key, claimsOf('n'));
    await clusters.verify(token);
    const next = await signingKey('RS256');
    api.answers[JWKS] = () => jwksOf(next);
    pass(5 * 60_000);
    expect(await outcome(clusters, token)).toMatch(/^other-key/);
  });

  test('count for an hour while the API server is gone, and no longer', async () => {
    const { clusters, key, api, pass } = await running();
    const token = await sign(key, claimsOf('n'));
    await clusters.verify(token);
    api.answers = {};
    pass(59 * 60_000);
    expect(await outcome(clusters, token)).toBe('accepted as home-n');
    pass(60_000);
    expect(await outcome(clusters, token)).toMatch(/^unavailable/);
    api.answers = { [JWKS]: () => jwksOf(key), [CONFIGURATION]: () => JSON.stringify({ issuer: ISSUER }) };
    pass(10_000);
    expect(await outcome(clusters, token)).toBe('accepted as home-n');
  });

  test('of enormous size are not read to their end', async () => {
    const { clusters, key, api, log } = await running();
    api.answers[JWKS] = () => 'x'.repeat(50_000_000);
    expect(await outcome(clusters, await sign(key, claimsOf('n')))).toMatch(/^unavailable/);
    expect(log.lines.join()).toMatch(/the answer is longer than 262144 bytes/);
  });

  test.each([301, 302, 303, 307, 308])('are looked for nowhere else, whatever a %i says', async (status) => {
    const { clusters, key, api, log } = await running();
    const other = await publish({ [JWKS]: () => jwksOf(key) });
    api.serve = (response) =>
      response.writeHead(status, { location: `${other.url}${JWKS}` }).end(jwksOf(key));
    expect(await outcome(clusters, await sign(key, claimsOf('n')))).toMatch(/^unavailable/);
    expect(log.lines.join()).toContain(`the answer is ${status}`);
    expect(other.asked).toEqual([]);
  });

  test('that come a byte at a time are given up', async () => {
    const { clusters, key, api, log } = await running();
    let isOver = false;
    api.serve = (response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(' '), 100);
      response.on('close', () => {
        clearInterval(timer);
        isOver = true;
      });
    };
    expect(await outcome(clusters, await sign(key, claimsOf('n')))).toMatch(/^unavailable/);
    expect(log.lines.join()).toMatch(/no answer in time/);
    await vi.waitFor(() => expect(isOver).toBe(true));
  }, 30_000);

  test('that are slow to come keep few waiting, since only so many may enrol at once', async () => {
    const entry = { name: 'west', issuer: ISSUER, keys: `URL${JWKS}`, 'ca-file': 'x', 'token-file': 'x' };
    const { clusters, key, api } = await running(entry);
    const held: (() => void)[] = [];
    api.serve = (response) => void held.push(() => response.end(jwksOf(key)));
    const outcomes: string[] = [];
    const tokens = await Promise.all(Array.from({ length: 10 }, () => sign(key, claimsOf('n'))));
    const all = tokens.map(async (token) => outcomes.push(await outcome(clusters, token)));
    await vi.waitFor(() => expect(held).toHaveLength(1));
    expect(outcomes).toHaveLength(8);
    expect(new Set(outcomes.map((one) => one.split(':')[0]))).toEqual(new Set(['unavailable']));
    for (const release of held) release();
    await Promise.all(all);
    expect(outcomes.slice(8)).toEqual(['accepted as west-n', 'accepted as west-n']);
    // Once they are there nobody waits, also those who name keys that there are not.
    const strange = await signingKey();
    const junk = await Promise.all(Array.from({ length: 10 }, () => sign(strange, claimsOf('n'))));
    const refused = await Promise.all(junk.map((token) => outcome(clusters, token)));
    expect(new Set(refused.map((one) => one.split(':')[0]))).toEqual(new Set(['other-key']));
  });

  test('that cannot be had hold up no other cluster', async () => {
    const { file, api, key } = await running();
    const silent = createServer(() => {});
    await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
    onTestFinished(() => void silent.close());
    const { port } = silent.address() as AddressInfo;
    const dead = ['a', 'b', 'c'].map((name) => ({
      name,
      issuer: ISSUER,
      keys: `https://127.0.0.1:${port}/`,
    }));
    file.write([...dead, own]);
    const { clusters } = opened(file, {
      inCluster: () => ({ url: api.url, caFile: api.caFile, tokenFile: api.tokenFile }),
    });
    // An agent waits for 15 s: were they asked one after the other, that would be over.
    expect(await outcome(clusters, await sign(key, claimsOf('n')))).toBe('accepted as home-n');
  }, 14_000);

  test('are taken from nobody else: a server of another CA is refused', async () => {
    const { file, api, key } = await running();
    const other = await publish({ [JWKS]: () => jwksOf(key) });
    const { clusters, log } = opened(file, {
      inCluster: () => ({ url: other.url, caFile: api.caFile, tokenFile: api.tokenFile }),
    });
    expect(await outcome(clusters, await sign(key, claimsOf('n')))).toMatch(/^unavailable/);
    expect(log.lines.join()).toMatch(/certificate|signature|self-signed/);
    expect(other.asked).toEqual([]);
  });

  test('may be of any address, by CA and token of its own', async () => {
    const entry = { name: 'west', issuer: ISSUER, keys: `URL${JWKS}`, 'ca-file': 'x', 'token-file': 'x' };
    const { clusters, key, api } = await running(entry);
    expect(await outcome(clusters, await sign(key, claimsOf('n')))).toBe('accepted as west-n');
    expect(api.asked).toEqual([`GET ${JWKS}`]);
  });
});

describe('a list of clusters', () => {
  const refused = (text: string): string => {
    const file = new ClustersFile();
    writeFileSync(file.path, text);
    try {
      opened(file);
      return 'accepted';
    } catch (error) {
      return String(error).replaceAll(file.path, 'F');
    }
  };
  const entry = (over: Record<string, unknown>) => JSON.stringify({ clusters: [{ ...east, ...over }] });
  test.each([
    ['clusters: [', /F: this is not the YAML it should be/],
    ['', /F: this: /],
    ['a: &a [1]\nclusters: *a\n', /F: /],
    ['clusters: []\nmore: 1\n', /F: .*more/],
    [entry({ name: 'East' }), /F: clusters\[0\]\.name: use a DNS label of at most 30/],
    [entry({ name: 'a'.repeat(31) }), /clusters\[0\]\.name/],
    [entry({ isuer: 'x' }), /isuer/],
    [
      JSON.stringify({ clusters: [{ name: 'east', keys: 'east.json' }] }),
      /cluster "east": issuer is missing/,
    ],
    [entry({ keys: 'http://127.0.0.1/jwks' }), /by https alone/],
    [entry({ 'ca-file': 'x' }), /ca-file and token-file go with keys that are fetched/],
    [entry({ 'service-account': 'vl3-agent' }), /<namespace>\/<name>/],
    [JSON.stringify({ clusters: [east, east] }), /two clusters are called "east"/],
    [
      JSON.stringify({ clusters: [east, { ...east, name: 'east-1' }] }),
      /"east" and "east-1" would have nodes of the same name/,
    ],
    [`clusters: [{name: own, keys: in-cluster}]`, /this is no pod of a Kubernetes cluster/],
  ])('is refused at the start, with its place: %s', (text, reason) => {
    expect(refused(text)).toMatch(reason);
  });

  test('is as the example has it, also with what is commented out there', () => {
    const path = resolve(import.meta.dirname, '../../../deploy/examples/clusters.yaml');
    const text = readFileSync(path, 'utf8').replace(/^( +)# (?=[a-z-]+: \S+$)/gm, '$1');
    expect(parseClusters('/etc/vl3/clusters.yaml', text, 'default')).toEqual([
      expect.objectContaining({
        name: 'home',
        issuer: undefined,
        audience: 'default',
        keys: { kind: 'in-cluster' },
      }),
      expect.objectContaining({ name: 'east', keys: { kind: 'file', path: '/etc/vl3/east.json' } }),
      {
        name: 'west',
        issuer: 'https://oidc.example/id/1234',
        audience: 'spiffe://aws-prod.example/registry',
        subject: 'system:serviceaccount:vl3-system:vl3-agent',
        keys: {
          kind: 'url',
          url: 'https://oidc.example/id/1234/keys',
          caFile: '/etc/vl3/west-ca.crt',
          tokenFile: '/etc/vl3/west-token',
        },
      },
    ]);
  });

  test('may be empty, and then nobody enrols', async () => {
    const file = new ClustersFile();
    file.write([]);
    const { clusters } = opened(file);
    expect(await outcome(clusters, await sign(await signingKey(), claimsOf('n')))).toMatch(/^other-issuer/);
    expect(AUDIENCE).toBe('spiffe://test.example/registry');
  });
});
