// A domain's bundle as we serve it, over TLS on the loopback.

import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { type BundleCall, fetchBundle } from '../../../src/federation/bundle-call.ts';
import { BundleEndpoint, svidTls } from '../../../src/federation/bundle-endpoint.ts';
import { formatKey } from '../../../src/identity/key.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { createServerCredential } from '../../../src/identity/tls.ts';
import { DOMAIN, issueCa, openCa } from '../identity/fixture.ts';
import { bundleOf, coded, credentialOf, fetched, raw, serve } from './bundle-server.ts';

describe('our endpoint', () => {
  test('serves the bundle by an SVID of our CA, and by a certificate for its host', async () => {
    const ca = await openCa();
    const text = encodeSpiffeBundle(ca.trustBundle);
    const { url } = await serve(await createServerCredential(ca, ['127.0.0.1']), () => text);
    expect((await fetched(url, ca.trustBundle)).text).toBe(text);
    // To the other profile any CA is one of the web that the file names.
    const web: BundleCall = {
      endpoint: { profile: 'https_web', url },
      trustDomain: DOMAIN,
      ca: toPem(ca.trustBundle.certificates),
    };
    expect((await fetchBundle(web)).text).toBe(text);
  });

  test('asks nobody who he is, says what it is, how long it may be kept, and whether it has changed', async () => {
    const ca = await issueCa();
    let text = encodeSpiffeBundle(bundleOf(ca));
    const { url } = await serve(await credentialOf(ca), () => text, 120);
    const first = await raw(url);
    expect(first).toMatchObject({
      status: 200,
      body: text,
      headers: { 'content-type': 'application/json', 'cache-control': 'public, max-age=120' },
    });
    const { etag } = first.headers;
    const again = { headers: { 'if-none-match': etag } };
    expect(await raw(url, again)).toMatchObject({ status: 304, body: '' });
    text = encodeSpiffeBundle(bundleOf(ca), { sequence: 99n });
    expect(await raw(url, again)).toMatchObject({ status: 200, body: text });
  });

  test('serves nothing else, and takes nothing but GET', async () => {
    const ca = await issueCa();
    const { url } = await serve(await credentialOf(ca), () => '{"keys":[]}');
    for (const method of ['POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS'])
      expect(await raw(url, { method }), method).toMatchObject({
        status: 405,
        headers: { allow: 'GET' },
        body: '',
      });
    for (const path of [
      '/',
      '/bundle.json/',
      '/../bundle.json',
      '//bundle.json',
      '/metrics',
      '/bundle.jso%6e',
    ])
      expect(await raw(url, { path }), path).toMatchObject({ status: 404, body: '' });
  });

  test('sends away whoever comes and says nothing, before TLS, after it, or in the middle of a head', async () => {
    const ca = await issueCa();
    const tls = svidTls(await credentialOf(ca));
    const options = { host: '127.0.0.1', port: 0, path: '/', tls, maxAge: 1, timeoutMs: 300 };
    await using server = await BundleEndpoint.open(options, () => '{"keys":[]}');
    const { port } = server;
    const silent = [
      connectTcp(port, '127.0.0.1'),
      connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }),
      connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }),
    ];
    silent[2]?.write('GET / HTTP/1.1\r\nhost: a\r\nx: ');
    await Promise.all(
      silent.map(async (socket) => {
        socket.on('error', () => {});
        socket.resume();
        await new Promise<void>((resolve) => socket.on('close', () => resolve()));
      }),
    );
    expect((await raw(`https://127.0.0.1:${port}/`)).status).toBe(200);
  });

  test('says which address it cannot have', async () => {
    const ca = await issueCa();
    const tls = svidTls(await credentialOf(ca));
    const options = { host: '192.0.2.1', port: 7, path: '/', tls, maxAge: 1 };
    await expect(BundleEndpoint.open(options, () => '')).rejects.toMatchObject(
      coded('failed-precondition', /cannot be served on 192\.0\.2\.1:7/),
    );
  });
});

test('a key is served to nobody', async () => {
  const ca = await issueCa();
  const credential = await credentialOf(ca);
  const { url } = await serve(credential, () => encodeSpiffeBundle(bundleOf(ca)));
  const secret = formatKey(credential.privateKey).split('\n')[1] ?? '';
  expect((await raw(url)).body).not.toContain(secret);
  expect(Object.keys(JSON.parse((await raw(url)).body).keys[0])).toEqual([
    'use',
    'kty',
    'crv',
    'x',
    'y',
    'x5c',
  ]);
});
