// A partner's bundle, fetched over TLS on the loopback by both profiles, and every server that lies or fails there.

import type { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type BundleCall, fetchBundle } from '../../../src/federation/bundle-call.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import type { Credential } from '../../../src/identity/tls.ts';
import { createServerCredential } from '../../../src/identity/tls.ts';
import { DAY, DOMAIN, type Issued, issueCa, openCa } from '../identity/fixture.ts';
import { answering, bundleOf, coded, credentialOf, fetched, ID, serve, spiffe } from './bundle-server.ts';

describe("a partner's endpoint with an SVID", () => {
  test('is believed when the CA that is held signed it, for the very ID, also one of SPIRE', async () => {
    const ca = await issueCa();
    const id = `spiffe://${DOMAIN}/spire/server`;
    const { url } = await serve(await credentialOf(ca, { uris: [id] }), () =>
      encodeSpiffeBundle(bundleOf(ca)),
    );
    const call = { trustDomain: DOMAIN, known: bundleOf(ca) };
    expect((await fetchBundle({ ...call, endpoint: spiffe(url, id) })).certificates).toHaveLength(1);
    await expect(fetchBundle({ ...call, endpoint: spiffe(url) })).rejects.toMatchObject(
      coded('unauthenticated', /the server is spiffe:.*spire\/server, not spiffe:.*registry/),
    );
  });

  test('is believed through an intermediate, and by an intermediate alone', async () => {
    const ca = await issueCa();
    const middle = await issueCa({ issuer: ca });
    const { privateKey, certificateChain } = await credentialOf(middle);
    const text = encodeSpiffeBundle(bundleOf(ca));
    const both = await serve({ privateKey, certificateChain: [...certificateChain, middle.der] }, () => text);
    expect((await fetched(both.url, bundleOf(ca))).text).toBe(text);
    const alone = await serve({ privateKey, certificateChain }, () => text);
    expect((await fetched(alone.url, bundleOf(middle))).text).toBe(text);
  });

  test.each<[string, (ca: Issued) => Promise<Credential>, RegExp]>([
    ['of another CA of the same name', async () => credentialOf(await issueCa()), /./],
    [
      'of the same CA, for another domain',
      (ca) => credentialOf(ca, { uris: ['spiffe://evil.example/registry'] }),
      /another trust domain/,
    ],
    [
      'of a node',
      (ca) => credentialOf(ca, { uris: [`spiffe://${DOMAIN}/node/n1`] }),
      /the server is .*node\/n1, not/,
    ],
    ['of nobody', (ca) => credentialOf(ca, { uris: [] }), /exactly one URI/],
    ['of two', (ca) => credentialOf(ca, { uris: [ID, `${ID}2`] }), /exactly one URI/],
    ['that has expired', (ca) => credentialOf(ca, { notAfter: Date.now() - 1000 }), /expired/],
    ['that is not valid yet', (ca) => credentialOf(ca, { notBefore: Date.now() + DAY / 2 }), /not yet valid/],
    ['that is a CA', (ca) => credentialOf(ca, { ca: true }), /./],
  ])('%s is told nothing, and refused', async (_, make, why) => {
    const ca = await issueCa();
    let asked = 0;
    const url = await answering(await make(ca), (_request, response) => {
      asked++;
      response.end(encodeSpiffeBundle(bundleOf(ca)));
    });
    await expect(fetched(url, bundleOf(ca))).rejects.toMatchObject(coded('unauthenticated', why));
    expect(asked).toBe(0);
  });

  test('is not asked while no bundle counts that it could be known by', async () => {
    await expect(fetched('https://127.0.0.1:1/', bundleOf())).rejects.toMatchObject(
      coded('failed-precondition', /an admin has to give one/),
    );
  });

  test("is never known by another domain's bundle", async () => {
    const ca = await issueCa();
    await expect(
      fetched('https://127.0.0.1:1/', { trustDomain: 'other.example', certificates: [ca.der] }),
    ).rejects.toMatchObject(coded('internal', /says nothing about/));
  });
});

describe("a partner's endpoint of the web", () => {
  const web = (url: string, ca?: string): BundleCall => ({
    endpoint: { profile: 'https_web', url },
    trustDomain: DOMAIN,
    ...(ca !== undefined && { ca }),
  });

  test("is refused when no CA of the web signed it, or it is another host's", async () => {
    const ca = await openCa();
    const here = await serve(await createServerCredential(ca, ['127.0.0.1']), () => '{"keys":[]}');
    await expect(fetchBundle(web(here.url))).rejects.toMatchObject(
      coded('unauthenticated', /not the one that is known/),
    );
    const pem = toPem(ca.trustBundle.certificates);
    const elsewhere = await serve(await createServerCredential(ca, ['192.0.2.1']), () => '{"keys":[]}');
    await expect(fetchBundle(web(elsewhere.url, pem))).rejects.toMatchObject(
      coded('unauthenticated', /not the one that is known/),
    );
    expect(await fetchBundle(web(here.url, pem))).toMatchObject({ certificates: [] });
  });
});

describe('an answer', () => {
  type Respond = NonNullable<Parameters<typeof createHttpsServer>[1]>;
  const outcome = async (respond: Respond, more: Partial<BundleCall> = {}) => {
    const ca = await issueCa();
    return fetched(await answering(await credentialOf(ca), respond), bundleOf(ca), more);
  };

  test.each<[string, Respond, string, RegExp]>([
    [
      'of another status',
      (_, response) => response.writeHead(503).end('{"keys":[]}'),
      'unavailable',
      /the answer is 503/,
    ],
    ['that is no bundle', (_, response) => response.end('<html>'), 'invalid-argument', /no SPIFFE bundle/],
    [
      'that is not UTF-8',
      (_, response) => response.end(Buffer.of(0x7b, 0xff, 0x7d)),
      'unavailable',
      /not text in UTF-8/,
    ],
    [
      'that is compressed',
      (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('x'),
      'unavailable',
      /compressed, which was not asked for/,
    ],
    [
      'that says it is huge',
      (_, response) => response.writeHead(200, { 'content-length': 10_000_000 }).flushHeaders(),
      'unavailable',
      /longer than 131072 bytes/,
    ],
    [
      'that is cut off',
      (_, response) => {
        response.writeHead(200, { 'content-length': 50 }).write('{"keys":');
        setTimeout(() => response.destroy(), 20);
      },
      'unavailable',
      /was cut off/,
    ],
    [
      'with endless headers',
      (_, response) => response.setHeader('x', 'y'.repeat(40_000)).end('{"keys":[]}'),
      'unavailable',
      /./,
    ],
  ])('%s is refused', async (_, respond, code, why) => {
    await expect(outcome(respond)).rejects.toMatchObject(coded(code, why));
  });

  test('that never ends is given up once it is longer than any bundle', async () => {
    let sent = 0;
    const endless: Respond = (_, response) => {
      const more = () => {
        while (!response.destroyed && response.write(' '.repeat(65_536))) sent += 65_536;
      };
      response.on('drain', more);
      more();
    };
    await expect(outcome(endless)).rejects.toMatchObject(coded('unavailable', /longer than 131072 bytes/));
    expect(sent).toBeLessThan(50_000_000);
  });

  test('that comes a byte at a time is given up in time, and so is none at all', async () => {
    const trickle: Respond = (_, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(' '), 20);
      response.on('close', () => clearInterval(timer));
    };
    for (const respond of [trickle, () => {}])
      await expect(outcome(respond, { timeoutMs: 1500 })).rejects.toMatchObject(
        coded('unavailable', /no answer in time/),
      );
    const silent = createTcpServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void silent.close());
    const ca = await issueCa();
    // It listens on a port.
    const url = `https://127.0.0.1:${(silent.address() as AddressInfo).port}/`;
    await expect(fetched(url, bundleOf(ca), { timeoutMs: 500 })).rejects.toMatchObject(
      coded('unavailable', /no answer in time/),
    );
  });

  test('ends when whoever asked does not want it any more, with his reason', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    await expect(outcome(() => abort.abort(reason), { signal: abort.signal })).rejects.toBe(reason);
  });

  test('may redirect within the same host and port, a few times', async () => {
    const hop: Respond = ({ url }, response) => {
      if (url === '/there') response.end('{"keys":[]}');
      else response.writeHead(302, { location: '/there' }).end();
    };
    expect(await outcome(hop)).toMatchObject({ certificates: [] });
    const loop: Respond = ({ url }, response) => response.writeHead(307, { location: `${url}x` }).end();
    await expect(outcome(loop)).rejects.toMatchObject(coded('unavailable', /more than 3 redirects/));
  });

  test.each([
    'https://127.0.0.1:1/',
    'http://127.0.0.1/',
    'https://localhost/bundle.json',
    '//evil.example/',
    'file:///etc/passwd',
  ])('that redirects elsewhere (%s) is not followed', async (location) => {
    const away: Respond = (_, response) => response.writeHead(302, { location }).end();
    await expect(outcome(away)).rejects.toMatchObject(
      coded('unavailable', /redirects to another place, which is not followed/),
    );
  });
});
