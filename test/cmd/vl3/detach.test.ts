// What people read when they detach.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { run } from '../../../cmd/vl3/program.ts';
import { LocalApi } from '../../../src/agent/local-api.ts';
import type { LocalAttachment } from '../../../src/agent/local-messages.ts';

const web: LocalAttachment = {
  id: 'a1',
  network: 'red',
  workload: 'web',
  interfaceName: 'red',
  addresses: ['10.0.0.2'],
  labels: {},
  netns: '/run/netns/web',
  ready: true,
  pending: '',
};

const detach = async (detached: LocalAttachment[], ...options: string[]): Promise<string> => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3-detach-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, 'agent.sock');
  const never = async () => expect.fail('only detaching was asked for');
  const cni = { add: never, check: never, del: never, gc: never };
  const stockPeers = { create: never, list: () => [], remove: never };
  const handlers = {
    attach: never,
    detach: async () => detached,
    attachments: () => [],
    stockPeers,
    status: never,
    cni,
  };
  await using _api = await LocalApi.listen(socket, handlers, pino({ level: 'silent' }));
  const lines: string[] = [];
  await run(['detach', '--id', 'a1', '--socket', socket, ...options], {
    env: {},
    out: (line) => lines.push(line),
    err: (line) => lines.push(`err: ${line}`),
    signal: new AbortController().signal,
    exit: (code) => lines.push(`exit: ${code}`),
  });
  return lines.join('\n');
};

test('who detaches nothing is told so, and a program gets an empty list', async () => {
  expect(await detach([])).toBe('nothing was attached there');
  expect(await detach([], '-o', 'json')).toBe('[]');
});

test('what was detached is shown', async () => {
  expect(await detach([web])).toMatch(
    /^ID +NETWORK +WORKLOAD +INTERFACE +ADDRESSES\na1 +red +web +red +10\.0\.0\.2$/,
  );
  expect(await detach([{ ...web, addresses: [] }])).toMatch(/red +-$/);
});
