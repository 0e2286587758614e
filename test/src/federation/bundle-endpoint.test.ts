// A domain's bundle, served and fetched over TLS on the loopback by both profiles, and everything that lies or fails there.

import { createServer as createHttpsServer, request } from 'node:https';
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcpServer,
  type Socket,
} from 'node:net';
import { connect as connectTls } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  type BundleVerdict,
  type HeldBundle,
  judgeBundle,
  UNCONFIRMED_MS,
} from '../../../native-free/federation/bundle-rules.ts';
import type { BundleEndpoint as Endpoint } from '../../../native-free/federation/endpoint.ts';
import { type BundleCall, fetchBundle } from '../../../src/federation/bundle-call.ts';
import { BundleEndpoint, svidTls } from '../../../src/federation/bundle-endpoint.ts';
import { BundleFetcher } from '../../../src/federation/bundle-fetcher.ts';
import type { TrustBundle } from '../../../src/identity/chain.ts';
import { formatKey } from '../../../src/identity/key.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import type { Credential } from '../../../src/identity/tls.ts';
import { createServerCredential } from '../../../src/identity/tls.ts';
import { DAY, DOMAIN, type Issued, issue, issueCa, openCa } from '../identity/fixture.ts';
import { recordingLogger } from '../registry/fixture.ts';

const ID = `spiffe://${DOMAIN}/registry`;

const bundleOf = (...cas: Issued[]): TrustBundle => ({
  trustDomain: DOMAIN,
  certificates: cas.map((ca) => ca.der),
});
/** What a CA signs for the server of the bundle; any shape. */
const credentialOf = async (ca: Issued, shape: Parameters<typeof issue>[0] = {}): Promise<Credential> => {
  const leaf = await issue({ uris: [ID], issuer: ca, ...shape });
  return { privateKey: leaf.key, certificateChain: [leaf.der] };
};

const serve = async (credential: Credential, current: () => string, maxAge = 300) => {
  const options = { host: '127.0.0.1', port: 0, path: '/bundle.json', tls: svidTls(credential), maxAge };
  const server = await BundleEndpoint.open(options, current);
  onTestFinished(() => server[Symbol.asyncDispose]());
  return { server, url: `https://127.0.0.1:${server.port}/bundle.json` };
};

/** A server that answers as it likes. */
const answering = async (
  credential: Credential,
  respond: Parameters<typeof createHttpsServer>[1],
): Promise<string> => {
  const server = createHttpsServer(svidTls(credential), respond);
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  // It listens on a port.
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}/bundle.json`;
};

const spiffe = (url: string, spiffeId = ID): Endpoint => ({ profile: 'https_spiffe', url, spiffeId });
const fetched = (url: string, known: TrustBundle, more: Partial<BundleCall> = {}) =>
  fetchBundle({ endpoint: spiffe(url), trustDomain: DOMAIN, known, ...more });
const coded = (code: string, message: RegExp) => ({ code, message: expect.stringMatching(message) });

const raw = (url: string, options: object = {}) =>
  new Promise<{ status: number | undefined; headers: Record<string, unknown>; body: string }>(
    (resolve, reject) => {
      const sent = request(url, { rejectUnauthorized: false, agent: false, ...options }, (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          body += text;
        });
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body }));
      });
      sent.on('error', reject);
      sent.end();
    },
  );

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

describe('a fetcher', () => {
  /** A partner whose CAs, sequence and server may change, and one who follows it. */
  const follow = async (first: Issued) => {
    const served = { text: encodeSpiffeBundle(bundleOf(first), { sequence: 1n }) };
    const { server, url } = await serve(await credentialOf(first), () => served.text);
    const start = decodeSpiffeBundle(served.text, DOMAIN);
    const initial = judgeBundle(undefined, start, 'admin', Date.now());
    const state: { held: HeldBundle | undefined; now: number } = {
      held: initial.kind === 'replaced' ? initial.held : undefined,
      now: Date.now(),
    };
    const log = recordingLogger();
    const fetcher = new BundleFetcher(
      { trustDomain: DOMAIN, endpoint: spiffe(url), timeoutMs: 5000 },
      {
        held: () => state.held,
        keep: (held) => {
          state.held = held;
        },
        logger: log.logger,
        now: () => state.now,
        random: () => 0.5,
      },
    );
    const publish = (sequence: bigint, ...cas: Issued[]) => {
      served.text = encodeSpiffeBundle(bundleOf(...cas), { sequence });
    };
    const show = async (ca: Issued) => server.setTls(svidTls(await credentialOf(ca)));
    return { state, fetcher, publish, show, log, served };
  };
  const kindOf = (look: BundleVerdict | { kind: 'failed' } | undefined) => look?.kind;

  test("follows a rotation of the partner's CA with overlap, though each server is known by the bundle before", async () => {
    const [old, next] = [await issueCa(), await issueCa()];
    const { fetcher, publish, show, state } = await follow(old);
    expect(kindOf(await fetcher.look())).toBe('confirmed');
    publish(2n, old, next);
    expect(await fetcher.look()).toMatchObject({ kind: 'replaced', overlaps: true });
    await show(next);
    expect(kindOf(await fetcher.look())).toBe('confirmed');
    publish(3n, next);
    expect(await fetcher.look()).toMatchObject({ kind: 'replaced', overlaps: true });
    expect(state.held?.bundle.certificates.map(({ der }) => der)).toEqual([next.der]);
    expect(fetcher.problem).toBeUndefined();
  });

  test('keeps what it holds when the CA is changed without overlap, and when an old bundle is replayed', async () => {
    const [old, next] = [await issueCa(), await issueCa()];
    const { fetcher, publish, show, state } = await follow(old);
    publish(5n, old);
    await fetcher.look();
    await show(next);
    publish(6n, next);
    expect(await fetcher.look()).toMatchObject({ kind: 'failed', error: { code: 'unauthenticated' } });
    await show(old);
    publish(4n, old, next);
    expect(kindOf(await fetcher.look())).toBe('refused');
    expect(fetcher.problem).toMatch(/its sequence 4 is lower than 5/);
    expect(state.held?.bundle.certificates.map(({ der }) => der)).toEqual([old.der]);
  });

  test('says once what fails again and again, and goes on', async () => {
    const ca = await issueCa();
    const { fetcher, served, log } = await follow(ca);
    const good = served.text;
    served.text = 'nonsense';
    for (let i = 0; i < 5; i++) expect(kindOf(await fetcher.look())).toBe('failed');
    expect(log.lines.filter((line) => line.includes('no SPIFFE bundle'))).toHaveLength(1);
    served.text = good;
    expect(kindOf(await fetcher.look())).toBe('confirmed');
    expect(fetcher.problem).toBeUndefined();
  });

  test('once its bundle counts no more, waits for an admin instead of believing a server by it', async () => {
    const ca = await issueCa();
    const { fetcher, state } = await follow(ca);
    state.now += UNCONFIRMED_MS;
    expect(await fetcher.look()).toMatchObject({ kind: 'failed', error: { code: 'failed-precondition' } });
  });

  test('tells it loudly when a partner takes all of its CAs back', async () => {
    const ca = await issueCa();
    const { fetcher, publish, log, state } = await follow(ca);
    publish(2n);
    expect(kindOf(await fetcher.look())).toBe('replaced');
    expect(state.held?.bundle.certificates).toEqual([]);
    expect(log.lines.join()).toMatch(/has taken back all of its CAs/);
  });

  test('asks on and on until it is stopped, with the pauses that the bundle asks for', async () => {
    const ca = await issueCa();
    const served = encodeSpiffeBundle(bundleOf(ca), { sequence: 1n, refreshHint: 3600 });
    const { url } = await serve(await credentialOf(ca), () => served);
    const initial = judgeBundle(undefined, decodeSpiffeBundle(served, DOMAIN), 'admin', Date.now());
    if (initial.kind !== 'replaced') throw new Error('not taken');
    let held = initial.held;
    const stop = new AbortController();
    const pauses: number[] = [];
    let kept = 0;
    const fetcher = new BundleFetcher(
      { trustDomain: DOMAIN, endpoint: spiffe(url) },
      {
        held: () => held,
        keep: (one) => {
          held = one;
          kept++;
        },
        logger: recordingLogger().logger,
        now: Date.now,
        random: () => 0.5,
        sleep: async (milliseconds) => {
          pauses.push(milliseconds);
          if (pauses.length === 3) stop.abort();
        },
      },
    );
    await fetcher.run(stop.signal);
    expect(kept).toBe(3);
    expect(pauses).toEqual([3_420_000, 3_420_000, 3_420_000]);
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
