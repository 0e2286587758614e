// The server as whoever reaches its port finds it: API servers, and everybody else.

import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Agent, type RequestOptions, request } from 'node:https';
import { connect as connectPlainly } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { judge } from '../../../native-free/kube/admission.ts';
import { REVIEW_PATH, ReviewServer } from '../../../src/webhook/review-server.ts';
import { makeServingCertificate, type ServingCertificate } from '../../../src/webhook/serving-certificate.ts';

const HOST = 'vl3-webhook.vl3-system.svc';
const SOON = { timeout: 20_000 };

let server: ReviewServer;
let made: ServingCertificate;
let ca: string;
const failures: unknown[] = [];

beforeAll(async () => {
  server = await ReviewServer.open(
    { host: '127.0.0.1', port: 0 },
    {
      judge: ({ name, admitted }) => {
        if (name.endsWith('/bug')) throw new Error('a bug');
        return judge(admitted, undefined);
      },
      failed: (error) => failures.push(error),
    },
  );
  const wish = { holder: 'h', hosts: [HOST], now: Date.now(), lifetimeMs: 3_600_000 };
  made = await makeServingCertificate(wish);
  server.show(made);
  ca = made.anchor.pem;
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(() => {
  failures.length = 0;
});

interface Said {
  status: number;
  text: string;
  headers: IncomingMessage['headers'];
}

const reach = (): RequestOptions => ({ host: '127.0.0.1', port: server.port, servername: HOST, ca });

const ask = async (body: string | Uint8Array, more: RequestOptions = {}): Promise<Said> => {
  const headers = { 'content-type': 'application/json', ...more.headers };
  const asked = request({
    ...reach(),
    path: `${REVIEW_PATH}?timeout=2s`,
    method: 'POST',
    agent: false,
    ...more,
    headers,
  });
  const answered = once(asked, 'response');
  asked.end(body);
  const [response]: IncomingMessage[] = await answered;
  if (response === undefined) throw new Error('no answer');
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return {
    status: response.statusCode ?? 0,
    text: Buffer.concat(chunks).toString(),
    headers: response.headers,
  };
};

const review = (annotations: Record<string, unknown>, name = 'web'): string =>
  JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u-1',
      resource: { group: '', version: 'v1', resource: 'pods' },
      operation: 'CREATE',
      namespace: 'team-a',
      object: { metadata: { name, annotations } },
      oldObject: null,
    },
  });

describe('a review', () => {
  test('is answered: allowed, refused with the place, warned', async () => {
    const good = await ask(review({ 'vl3.io/networks': 'red' }));
    expect(good).toMatchObject({ status: 200, headers: { 'content-type': 'application/json' } });
    expect(JSON.parse(good.text).response).toEqual({ uid: 'u-1', allowed: true });
    const bad = await ask(review({ 'vl3.io/networks': 'red, Blue' }));
    expect(JSON.parse(bad.text).response).toMatchObject({
      allowed: false,
      status: { code: 422, message: expect.stringMatching(/character 6: .*\n {2}red, Blue\n {7}\^$/) },
    });
    const odd = await ask(review({ 'vl3.io/network': 'red' }));
    expect(JSON.parse(odd.text).response).toEqual({
      uid: 'u-1',
      allowed: true,
      warnings: [expect.stringMatching(/not known to vl3/)],
    });
    expect(server.counts).toMatchObject({ allowed: 1, refused: 1, warned: 1 });
  });

  test('is timed', async () => {
    const times: number[] = [];
    server.onDone = (seconds) => times.push(seconds);
    await ask(review({}));
    await ask('{}');
    server.onDone = () => {};
    expect(times).toEqual([expect.any(Number)]);
  });

  test('of megabytes is read, with a type as people write it', async () => {
    const annotations = { 'vl3.io/networks': 'red', junk: 'x'.repeat(5 << 20) };
    const headers = { 'content-type': 'Application/JSON; charset=utf-8' };
    const { status, text } = await ask(review(annotations), { headers });
    expect(status).toBe(200);
    expect(JSON.parse(text).response.allowed).toBe(true);
  });

  test('many at once over kept connections are all answered', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 10 });
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        ask(review({ 'vl3.io/networks': i % 2 ? 'red' : 'red,' }), { agent }),
      ),
    );
    agent.destroy();
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(answers.filter(({ text }) => JSON.parse(text).response.allowed)).toHaveLength(100);
  });
});

describe('what is no review is answered as HTTP has it', () => {
  test.each<[string, string | Uint8Array, RequestOptions, number, RegExp]>([
    ['another path', review({}), { path: '/' }, 404, /there is \/validate only/],
    ['a path around it', review({}), { path: '/validate/../metrics' }, 404, /only/],
    ['another method', '', { method: 'GET' }, 405, /use POST/],
    ['another type', review({}), { headers: { 'content-type': 'text/plain' } }, 415, /application\/json/],
    ['no type', review({}), { headers: { 'content-type': '' } }, 415, /application\/json/],
    ['an encoding', review({}), { headers: { 'content-encoding': 'gzip' } }, 415, /not encoded/],
    ['nothing', '', {}, 400, /no JSON/],
    ['no JSON', '{"apiVersion":', {}, 400, /no JSON/],
    ['no UTF-8', Uint8Array.of(0x22, 0xff, 0x22), {}, 400, /UTF-8/],
    [
      'other JSON',
      '{"apiVersion":"v1","kind":"Pod"}',
      {},
      400,
      /this is no AdmissionReview of admission\.k8s\.io\/v1/,
    ],
    [
      'a review with a number for an annotation',
      review({ 'vl3.io/networks': 7 }),
      {},
      400,
      /annotations\.vl3\.io\/networks/,
    ],
    ['JSON that goes very deep', '['.repeat(1 << 17) + ']'.repeat(1 << 17), {}, 400, /AdmissionReview/],
    ['JSON of brackets alone', '['.repeat(3 << 20) + ']'.repeat(3 << 20), {}, 413, /at most \d+ values/],
    ['JSON of little objects', `[${'{},'.repeat(2 << 20)}{}]`, {}, 413, /at most \d+ values/],
  ])('%s', async (_, body, options, status, sentence) => {
    const before = server.counts.malformed;
    const said = await ask(body, options);
    expect(said).toMatchObject({ status, text: expect.stringMatching(sentence) });
    expect(server.counts.malformed).toBe(before + 1);
    expect(failures).toEqual([]);
  });

  test('GET is told what is allowed', async () => {
    expect((await ask('', { method: 'GET' })).headers.allow).toBe('POST');
  });

  test('what says that it is too long is not read', async () => {
    const asked = request({
      ...reach(),
      path: REVIEW_PATH,
      method: 'POST',
      agent: false,
      headers: { 'content-type': 'application/json', 'content-length': 1 << 30 },
    });
    asked.on('error', () => {});
    asked.flushHeaders();
    const [response]: IncomingMessage[] = await once(asked, 'response');
    expect(response?.statusCode).toBe(413);
    expect(response?.headers.connection).toBe('close');
    asked.destroy();
  });

  test('what turns out too long is not kept', async () => {
    const asked = request({
      ...reach(),
      path: REVIEW_PATH,
      method: 'POST',
      agent: false,
      headers: { 'content-type': 'application/json' },
    });
    asked.on('error', () => {});
    const answered = once(asked, 'response');
    const chunk = Buffer.alloc(1 << 20, 0x20);
    const writing = setInterval(() => asked.write(chunk), 1);
    const [response]: IncomingMessage[] = await answered;
    clearInterval(writing);
    expect(response?.statusCode).toBe(413);
    asked.destroy();
  });
});

describe('whoever stays', () => {
  const open = async (port = server.port): Promise<TLSSocket> => {
    const socket = connect({ host: '127.0.0.1', port, servername: HOST, ca });
    socket.on('error', () => {});
    await once(socket, 'secureConnect');
    return socket;
  };
  const head = `POST ${REVIEW_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n`;

  test('in the middle of a head, a body or a chunk is sent away, and nobody waits for it', async () => {
    const deps = {
      judge: () => ({ refusal: undefined, warnings: [] }),
      failed: (e: unknown) => failures.push(e),
    };
    await using strict = await ReviewServer.open({ host: '127.0.0.1', port: 0 }, { ...deps, requestMs: 600 });
    strict.show(made);
    const sent = [
      head,
      `${head}Content-Length: 1000\r\n\r\n{"apiVersion"`,
      `${head}Transfer-Encoding: chunked\r\n\r\n400\r\n{`,
    ];
    const closed = sent.map(async (text) => {
      const socket = await open(strict.port);
      socket.write(text);
      socket.resume();
      await once(socket, 'close');
    });
    expect((await ask(review({}), { port: strict.port })).status).toBe(200);
    await Promise.all(closed);
    expect(failures).toEqual([]);
  });

  test('goes in the middle of a body leaves nothing', async () => {
    const before = { ...server.counts };
    for (let i = 0; i < 20; i++) {
      const socket = await open();
      socket.write(`${head}Content-Length: 6000000\r\n\r\n${' '.repeat(500_000)}`, () => socket.destroy());
    }
    expect((await ask(review({}))).status).toBe(200);
    expect({ ...server.counts, allowed: before.allowed }).toEqual(before);
    expect(failures).toEqual([]);
  });

  test('speaks an old TLS is not understood', async () => {
    const socket = connect({
      host: '127.0.0.1',
      port: server.port,
      servername: HOST,
      ca,
      maxVersion: 'TLSv1.2',
    });
    const [error] = await once(socket, 'error').catch((reason: unknown) => [reason]);
    expect(String(error)).toMatch(/version/i);
  });

  test('speaks no TLS at all is sent away', async () => {
    const socket = connectPlainly(server.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\n\r\n');
    socket.resume();
    await once(socket, 'close');
  });
});

test('many large bodies at once are not all kept', async () => {
  const agentless = Array.from({ length: 16 }, () => {
    const asked = request({
      ...reach(),
      path: REVIEW_PATH,
      method: 'POST',
      agent: false,
      headers: { 'content-type': 'application/json', 'content-length': 7 << 20 },
    });
    asked.on('error', () => {});
    const status = once(asked, 'response').then(
      ([response]: IncomingMessage[]) => response?.statusCode,
      () => undefined,
    );
    // All but its last byte.
    asked.write(Buffer.alloc((7 << 20) - 1, 0x20));
    return { asked, status };
  });
  const refused = Promise.race(agentless.map(({ status }) => status));
  expect(await refused).toBe(503);
  for (const { asked } of agentless) asked.destroy();
  await vi.waitFor(async () => expect((await ask(review({}))).status).toBe(200), SOON);
});

test('a bug costs the one answer, and is told', async () => {
  await expect(ask(review({}, 'bug'))).rejects.toThrow();
  expect(failures).toEqual([new Error('a bug')]);
  expect((await ask(review({}))).status).toBe(200);
});

test('a port that is taken is told at once', async () => {
  const deps = { judge: () => ({ refusal: undefined, warnings: [] }), failed: () => {} };
  await expect(ReviewServer.open({ host: '127.0.0.1', port: server.port }, deps)).rejects.toThrow(
    /127\.0\.0\.1:\d+ is taken by another program: choose another --listen/,
  );
});

test('a server that closes answers what is under way, and nobody after', async () => {
  const deps = { judge: () => ({ refusal: undefined, warnings: [] }), failed: () => {} };
  const other = await ReviewServer.open({ host: '127.0.0.1', port: 0 }, deps);
  other.show(made);
  const options = { ...reach(), port: other.port };
  const body = review({});
  const asked = request({
    ...options,
    path: REVIEW_PATH,
    method: 'POST',
    headers: { 'content-type': 'application/json', 'content-length': body.length },
  });
  const answered = once(asked, 'response');
  asked.write(body.slice(0, 10));
  await once(asked, 'socket').then(([socket]) => once(socket, 'secureConnect'));
  await new Promise((resolve) => setTimeout(resolve, 50));
  const closed = other[Symbol.asyncDispose]();
  asked.end(body.slice(10));
  const [response]: IncomingMessage[] = await answered;
  expect(response?.statusCode).toBe(200);
  response?.resume();
  await closed;
  await expect(ask(body, options)).rejects.toThrow(/ECONNREFUSED/);
});
