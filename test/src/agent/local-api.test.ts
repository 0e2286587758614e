import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { LocalApi, type LocalApiHandlers } from '../../../src/agent/local-api.ts';
import { LocalClient } from '../../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../../src/agent/local-messages.ts';

const logger = pino({ level: 'silent' });
let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-api-'));
  path = join(directory, 'run', 'agent.sock');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const attachment: LocalAttachment = {
  id: 'a1',
  network: 'red',
  workload: 'web',
  interfaceName: 'red',
  addresses: ['10.0.0.2'],
  labels: { app: 'web' },
  netns: '/run/netns/web',
  ready: true,
  pending: '',
};

const unasked = async (): Promise<never> => {
  throw new Error('it is not asked here');
};
const handlers = (change: Partial<LocalApiHandlers> = {}): LocalApiHandlers => ({
  attach: async () => attachment,
  detach: async () => [attachment],
  attachments: () => [attachment],
  stockPeers: { create: unasked, list: () => [], remove: unasked },
  status: async () => {
    throw new Vl3Error('unavailable', 'no status today');
  },
  cni: { add: unasked, check: unasked, del: unasked, gc: unasked },
  ...change,
});

const raw = (method: string, route: string, body: string): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const call = request({ socketPath: path, method, path: route }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += String(chunk);
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    call.on('error', reject);
    call.end(body);
  });

test('a client attaches, lists and detaches over the socket', async () => {
  const asked: unknown[] = [];
  const attach = async (what: unknown) => {
    asked.push(what);
    return attachment;
  };
  await using _api = await LocalApi.listen(path, handlers({ attach }), logger);
  const client = new LocalClient(path);
  const request = { network: 'red', netns: '/run/netns/web', labels: { app: 'web' } };
  expect(await client.attach(request)).toEqual(attachment);
  expect(asked).toEqual([request]);
  expect(await client.attachments()).toEqual([attachment]);
  expect(await client.detach({ id: 'a1' })).toEqual([attachment]);
});

test('only its owner can open the socket', async () => {
  await using _api = await LocalApi.listen(path, handlers(), logger);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(join(directory, 'run')).mode & 0o777).toBe(0o700);
});

test('an error keeps its code and its sentence', async () => {
  await using _api = await LocalApi.listen(path, handlers(), logger);
  const failure = new LocalClient(path).status({ probe: false });
  await expect(failure).rejects.toMatchObject({ code: 'unavailable', message: 'no status today' });
});

test('a path that is no URL is answered as one that is not there', async () => {
  await using _api = await LocalApi.listen(path, handlers(), logger);
  const { status, text } = await raw('GET', '//', '');
  expect({ status, code: JSON.parse(text).code }).toEqual({ status: 404, code: 'not-found' });
});

test('a body that is too large is refused with a sentence that arrives', async () => {
  await using _api = await LocalApi.listen(path, handlers(), logger);
  for (let n = 0; n < 20; n++) {
    const { status, text } = await raw('POST', '/v1/attach', ' '.repeat(200_000));
    expect({ status, code: JSON.parse(text).code }).toEqual({ status: 400, code: 'invalid-argument' });
  }
});

test('an annotation of a pod that is too long is refused in words about the annotation', async () => {
  await using _ = await LocalApi.listen(path, handlers(), logger);
  const owner = { cniNetwork: 'c', containerId: 'c', ifName: 'eth0' };
  const wanted = { by: 'pod', key: 'vl3.io/networks', text: 'x'.repeat(262_144) };
  const body = JSON.stringify({ owner, netns: '/run/netns/x', wanted, waitMs: 0 });
  const { status, text } = await raw('POST', '/v1/cni/add', body);
  expect(status).toBe(400);
  expect(JSON.parse(text).message).toMatch(/the annotation is longer than 16384 characters: ask for less/);
});

test('an unexpected error does not show its inside', async () => {
  const attachments = () => {
    throw new Error('secret detail');
  };
  await using _api = await LocalApi.listen(path, handlers({ attachments }), logger);
  const { status, text } = await raw('GET', '/v1/attachments', '');
  expect(status).toBe(500);
  expect(text).not.toContain('secret detail');
});

test.each([
  ['no JSON', '{"network":', /not JSON/],
  ['an unknown field', '{"network":"red","netns":"/x","sudo":true}', /the request: .*sudo/],
  ['a relative namespace', '{"network":"red","netns":"x"}', /netns: write the whole path/],
  ['a number for a name', '{"network":7,"netns":"/x"}', /network: /],
  ['a network that is no name', '{"network":"Red!","netns":"/x"}', /network: use a DNS label/],
  [
    'a workload the registry would not take',
    '{"network":"red","netns":"/x","workload":"A B"}',
    /workload: use a DNS name/,
  ],
  [
    'a label the registry would not take',
    '{"network":"red","netns":"/x","labels":{"a":"b c"}}',
    /labels\.a: use a Kubernetes label value/,
  ],
  ['an array', '[]', /the request: /],
  ['too many bytes', JSON.stringify({ network: 'x'.repeat(100_000) }), /at most 65536 bytes/],
])('a request with %s is refused before anything happens', async (_what, body, sentence) => {
  const attach = async () => {
    throw new Error('must not be called');
  };
  await using _api = await LocalApi.listen(path, handlers({ attach }), logger);
  const { status, text } = await raw('POST', '/v1/attach', body);
  expect(status).toBe(400);
  expect(text).toMatch(sentence);
});

test('an unknown route is refused', async () => {
  await using _api = await LocalApi.listen(path, handlers(), logger);
  expect((await raw('DELETE', '/v1/attach', '')).status).toBe(404);
});

test('the socket of a dead agent is replaced, that of a living one is not', async () => {
  {
    await using _first = await LocalApi.listen(path, handlers(), logger);
    await expect(LocalApi.listen(path, handlers(), logger)).rejects.toThrow(
      /another agent answers.*--run-dir/,
    );
  }
  const dead = createServer().listen(path);
  await new Promise((resolve) => dead.once('listening', resolve));
  // Closing without unlinking is what a kill leaves behind.
  const left = `${path}.left`;
  renameSync(path, left);
  await new Promise((resolve) => dead.close(resolve));
  renameSync(left, path);
  await using _second = await LocalApi.listen(path, handlers(), logger);
  expect(await new LocalClient(path).attachments()).toEqual([attachment]);
});

test('what is no socket is never removed', async () => {
  rmSync(directory, { recursive: true });
  mkdirSync(join(directory, 'run'), { recursive: true });
  const target = join(directory, 'precious');
  writeFileSync(target, 'data');
  symlinkSync(target, path);
  await expect(LocalApi.listen(path, handlers(), logger)).rejects.toThrow(/is not a socket/);
  expect(readFileSync(target, 'utf8')).toBe('data');
});

test('without an agent the client says how to start one', async () => {
  const failure = new LocalClient(path).attachments();
  await expect(failure).rejects.toMatchObject({ code: 'unavailable' });
  await expect(failure).rejects.toThrow(/no agent answers on .*vl3 agent run/);
});
