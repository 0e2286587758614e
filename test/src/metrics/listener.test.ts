// The listener on its own: what it says before the program is up, when it is not well, and when it does not answer.

import { createServer } from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { EventLoop } from '../../../src/metrics/event-loop.ts';
import { MetricsListener, type Observed } from '../../../src/metrics/listener.ts';

let listener: MetricsListener | undefined;
afterEach(async () => {
  await listener?.[Symbol.asyncDispose]();
  listener = undefined;
});

const open = async (): Promise<(path: string, method?: string) => Promise<[number, string]>> => {
  listener = await MetricsListener.open({ host: '127.0.0.1', port: 0 });
  const { port } = listener;
  return async (path, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
    return [response.status, await response.text()];
  };
};

const observed = (given: Partial<Observed>): Observed => ({
  metrics: async () => 'x 1\n',
  health: async () => [],
  readiness: async () => [],
  [Symbol.dispose]: () => {},
  ...given,
});

test('before the program is up it is healthy and not ready', async () => {
  const ask = await open();
  expect(await ask('/healthz')).toEqual([200, 'ok\n']);
  expect(await ask('/readyz')).toEqual([503, expect.stringContaining('starting')]);
  expect(await ask('/metrics')).toEqual([200, '']);
});

test('what is wrong is said, a line each', async () => {
  const ask = await open();
  listener?.observe(observed({ health: async () => ['one', 'two'] }));
  expect(await ask('/healthz')).toEqual([503, 'one\ntwo\n']);
  expect(await ask('/readyz?verbose')).toEqual([200, 'ok\n']);
  expect(await ask('/metrics')).toEqual([200, 'x 1\n']);
});

test('nothing else is served, and nothing can be sent', async () => {
  const ask = await open();
  expect((await ask('/'))[0]).toBe(404);
  expect((await ask('/debug/pprof'))[0]).toBe(404);
  expect((await ask('/healthz', 'POST'))[0]).toBe(405);
});

test('a check that does not end is an answer too', { timeout: 20_000 }, async () => {
  const ask = await open();
  listener?.observe(observed({ health: () => new Promise(() => {}) }));
  expect(await ask('/healthz')).toEqual([503, 'the check takes too long\n']);
});

test('a check that fails harms nobody', async () => {
  const ask = await open();
  listener?.observe(observed({ health: () => Promise.reject(new Error('no')) }));
  await expect(ask('/healthz')).rejects.toThrow();
  expect((await ask('/readyz'))[0]).toBe(200);
});

test('an address that is taken is refused by the name of its setting', async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const address = taken.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  await expect(MetricsListener.open({ host: '127.0.0.1', port })).rejects.toThrow(
    `127.0.0.1:${port} is taken by another program: choose another --metrics-listen, or leave it out`,
  );
  taken.close();
});

test('an event loop that stood still is late by that long', async () => {
  using loop = new EventLoop();
  const turn = () => new Promise((resolve) => setTimeout(resolve, 60));
  await turn();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 700);
  await turn();
  expect(loop.lag.maxSeconds).toBeGreaterThan(0.5);
});
