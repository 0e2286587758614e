// Whose tokens are believed: tokens that are really signed, and everything that is nearly right.

import { createHmac } from 'node:crypto';
import { unlinkSync, writeFileSync } from 'node:fs';
import { exportSPKI, importJWK, type JWTPayload } from 'jose';
import { describe, expect, test } from 'vitest';
import {
  ClustersFile,
  claimsOf,
  east,
  ISSUER,
  jwksOf,
  opened,
  outcome,
  sign,
  signingKey,
  without,
  world,
} from './cluster-fixture.ts';

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
