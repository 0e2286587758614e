// Where the keys come from that a cluster's tokens are judged by, and what counts once they are changed, gone or nonsense.

import { writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  ClustersFile,
  claimsOf,
  ISSUER,
  jwksOf,
  opened,
  outcome,
  publish,
  sign,
  signingKey,
  world,
} from './cluster-fixture.ts';

/** How long something may take that happens at once, on a machine that is busy. */
const SOON = { timeout: 30_000 };

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
    // Ten times what is read, and soon sent also by a busy machine.
    api.answers[JWKS] = () => 'x'.repeat(3_000_000);
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
    await vi.waitFor(() => expect(isOver).toBe(true), SOON);
  }, 30_000);

  test('that are slow to come keep few waiting, since only so many may enrol at once', async () => {
    const entry = { name: 'west', issuer: ISSUER, keys: `URL${JWKS}`, 'ca-file': 'x', 'token-file': 'x' };
    const { clusters, key, api } = await running(entry);
    const held: (() => void)[] = [];
    api.serve = (response) => void held.push(() => response.end(jwksOf(key)));
    const outcomes: string[] = [];
    const tokens = await Promise.all(Array.from({ length: 10 }, () => sign(key, claimsOf('n'))));
    const all = tokens.map(async (token) => outcomes.push(await outcome(clusters, token)));
    await vi.waitFor(() => expect(held).toHaveLength(1), SOON);
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
