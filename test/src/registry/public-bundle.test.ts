// Where a domain's bundle is found: on the registry's own port, and on one of its own by either profile.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { milliseconds } from '../../../cmd/vl3/timestamp.ts';
import { fetchBundle } from '../../../src/federation/bundle-call.ts';
import { formatKey } from '../../../src/identity/key.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { createServerCredential } from '../../../src/identity/tls.ts';
import { bundleLocation } from '../../../src/registry/public-bundle.ts';
import { openCa } from '../identity/fixture.ts';
import { companies, federate, HOME } from './companies.ts';
import { refusal, startDomain, temporaryDirectory } from './fixture.ts';

test('the port of the registry serves the bundle to whoever asks, and nothing else without a certificate', async () => {
  const domain = await startDomain({ trustDomain: HOME });
  const { signer, ownBundle, ownAddress } = domain.registry.observed.context;
  const { bundleEndpoint: endpoint } = ownAddress();
  expect(endpoint).toMatchObject({ profile: 'https_spiffe', spiffeId: `spiffe://${HOME}/registry` });
  const bundle = await fetchBundle({ endpoint, trustDomain: HOME, known: signer.trustBundle });
  expect(bundle.text).toBe(ownBundle.text);
  const other = { ...endpoint, url: endpoint.url.replace('bundle.json', 'bundle') };
  expect(
    await refusal(fetchBundle({ endpoint: other, trustDomain: HOME, known: signer.trustBundle })),
  ).toMatch(/^unavailable/);
});

test('on a port of its own the bundle is served by the SVID', async () => {
  const domain = await startDomain({
    trustDomain: HOME,
    publicBundle: { listen: { host: '127.0.0.1', port: 0 } },
  });
  const { signer, ownBundle, ownAddress } = domain.registry.observed.context;
  const { bundleEndpoint: endpoint, registries } = ownAddress();
  expect(endpoint.url).not.toContain(registries[0]);
  const bundle = await fetchBundle({ endpoint, trustDomain: HOME, known: signer.trustBundle });
  expect(bundle.text).toBe(ownBundle.text);
});

test('with a certificate of the web the partner goes by that, and the federation is confirmed', async () => {
  const directory = temporaryDirectory();
  // To this profile any CA is one of the web that the file names.
  const web = await openCa('web.example');
  const shown = await createServerCredential(web, ['127.0.0.1']);
  const [certificateFile, keyFile] = [join(directory, 'tls.crt'), join(directory, 'tls.key')];
  writeFileSync(certificateFile, toPem(shown.certificateChain));
  writeFileSync(keyFile, formatKey(shown.privateKey));
  const both = await companies(
    { publicBundle: { listen: { host: '127.0.0.1', port: 0 }, certificateFile, keyFile } },
    { partnerLinks: { ca: toPem(web.trustBundle.certificates) } },
  );
  await federate(both);
  const at = async () => (await (await both.partner.federation()).listPartners({})).partners[0];
  const before = await at();
  expect(before?.bundleLocation?.profile).toBe('https_web');
  const { partnerLinks } = both.partner.registry.observed.context;
  await partnerLinks.look(HOME);
  const after = await at();
  expect([after?.bundleProblem, after?.bundleSequence]).toEqual(['', before?.bundleSequence]);
  expect(milliseconds(after?.bundleConfirmedAt)).toBeGreaterThan(milliseconds(before?.bundleConfirmedAt) - 1);
});

test('files that are no certificate are said at the start', async () => {
  const file = join(temporaryDirectory(), 'none.pem');
  expect(
    await refusal(
      startDomain({
        trustDomain: HOME,
        publicBundle: { listen: { host: '127.0.0.1', port: 0 }, certificateFile: file, keyFile: file },
      }),
    ),
  ).toMatch(/^failed-precondition: the bundle cannot be served with/);
});

test('partners are told an address that they can reach: none of a cluster, and not every address of the machine', () => {
  const registries = ['vl3-registry.vl3-system.svc:7443', 'registry.home.example:7443'];
  const own = bundleLocation(HOME, registries, undefined, undefined);
  expect(own.url).toBe('https://registry.home.example:7443/bundle.json');
  const apart = (host: string) =>
    bundleLocation(HOME, registries, undefined, { port: 8443, options: { listen: { host, port: 8443 } } })
      .url;
  expect(apart('0.0.0.0')).toBe('https://registry.home.example:8443/bundle.json');
  expect(apart('::')).toBe('https://registry.home.example:8443/bundle.json');
  expect(apart('192.0.2.1')).toBe('https://192.0.2.1:8443/bundle.json');
  const onlyHere = bundleLocation(HOME, registries.slice(0, 1), undefined, undefined);
  expect(onlyHere.url).toBe('https://vl3-registry.vl3-system.svc:7443/bundle.json');
});
