// What an admin types about SPIFFE bundles: one's own, and those of others, from files and from endpoints.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { BundleEndpoint, svidTls } from '../../../src/federation/bundle-endpoint.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { createServerCredential } from '../../../src/identity/tls.ts';
import { DOMAIN, openCa } from '../../src/identity/fixture.ts';
import { startDomain, TRUST_DOMAIN, temporaryDirectory } from '../../src/registry/fixture.ts';
import { inProcess } from './in-process.ts';

const written = (text: string): string => {
  const path = join(temporaryDirectory(), 'bundle.json');
  writeFileSync(path, text);
  return path;
};
const check = (...args: string[]) => inProcess(['registry', 'bundle', '--check', ...args]);

test("the domain's bundle is printed as it stands in the standard, also while the registry is off, and checks", async () => {
  const domain = await startDomain();
  await domain.stop();
  const printed = await inProcess([
    'registry',
    'bundle',
    '--admin',
    join(domain.stateDirectory, 'admin.json'),
  ]);
  expect(printed).toMatchObject({ code: 0, err: '' });
  expect(decodeSpiffeBundle(printed.out, TRUST_DOMAIN).certificates).toHaveLength(1);
  const checked = await check(written(printed.out), '--trust-domain', TRUST_DOMAIN);
  expect(checked.code).toBe(0);
  expect(checked.out).toMatch(/a good bundle of test\.example, sequence \d+, to be asked for every 300 s/);
});

test("another domain's bundle under this name is refused, and so is one that goes back, or is none", async () => {
  const { trustBundle } = await openCa();
  const of = ['--trust-domain', DOMAIN];
  const file = written(encodeSpiffeBundle(trustBundle, { sequence: 5n }));
  expect(await check(file, '--trust-domain', 'other.example')).toMatchObject({
    code: 1,
    err: expect.stringMatching(
      /holds the CA of spiffe:\/\/aws-prod\.example, not of spiffe:\/\/other\.example/,
    ),
  });
  const newer = written(encodeSpiffeBundle(trustBundle, { sequence: 6n }));
  expect(await check(file, ...of, '--known', newer)).toMatchObject({
    code: 1,
    err: expect.stringMatching(/would not be taken: its sequence 5 is lower than 6/),
  });
  expect((await check(newer, ...of, '--known', file)).out).toMatch(/it is the known one/);
  expect((await check(written('{}'), ...of)).err).toMatch(/no array "keys"/);
  expect((await check('/nowhere/at/all', ...of)).err).toMatch(/cannot read \/nowhere\/at\/all/);
  expect(await check(file)).toMatchObject({ code: 2, err: expect.stringMatching(/needs --trust-domain/) });
  const said = JSON.parse((await check(file, ...of, '-o', 'json')).out) as { sequence: string };
  expect(said.sequence).toBe('5');
  expect((await check(written('{"keys":[]}'), ...of)).out).toMatch(/takes back all that it ever signed/);
});

test('a bundle is fetched from its endpoint by either profile', async () => {
  const ca = await openCa();
  const text = encodeSpiffeBundle(ca.trustBundle);
  const tls = svidTls(await createServerCredential(ca, ['127.0.0.1']));
  const options = { host: '127.0.0.1', port: 0, path: '/', tls, maxAge: 1 };
  const server = await BundleEndpoint.open(options, () => text);
  onTestFinished(() => server[Symbol.asyncDispose]());
  const url = `https://127.0.0.1:${server.port}/`;
  const of = ['--trust-domain', DOMAIN];
  const spiffe = [...of, '--profile', 'https_spiffe'];
  expect((await check(url, ...spiffe, '--known', written(text))).code).toBe(0);
  expect((await check(url, ...spiffe)).err).toMatch(/give one that you have with --known/);
  expect(
    (await check(url, ...spiffe, '--known', written(text), '--spiffe-id', `spiffe://${DOMAIN}/spire/server`))
      .err,
  ).toMatch(/the server is spiffe:\/\/aws-prod\.example\/registry, not/);
  expect((await check(url, ...of)).err).toMatch(/not the one that is known/);
  const caFile = written(toPem(ca.trustBundle.certificates));
  expect((await check(url, ...of, '--ca-file', caFile)).code).toBe(0);
  expect((await check('http://127.0.0.1/', ...of)).err).toMatch(/is not where a bundle can be/);
});
