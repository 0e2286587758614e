// What SPIRE is made of on the other side of the socket: a server by grpc-go, and go-spiffe's client. Runs where GO_SPIFFE
// names the program that `go build` makes of go-spiffe/ beside this.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { IdentitySource } from '../../src/identity/identity-source.ts';
import { WorkloadApi } from '../../src/identity/workload-api.ts';
import { SpiffeAuthority } from '../lab/spiffe-authority.ts';
import { answerOf, WorkloadApiServer } from '../lab/workload-api.ts';

const SOON = { timeout: 20_000, interval: 50 };
const PROGRAM = process.env['GO_SPIFFE'] ?? '';

const socketPath = (): string => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3t-go-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'api.sock');
};

const run = (...args: readonly string[]) => {
  const child = spawn(PROGRAM, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += String(data)));
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, ended, output: () => output };
};

describe.skipIf(PROGRAM === '')('with go-spiffe', () => {
  test('SVIDs come from its server, rotate, and come again after it was gone', async () => {
    const socket = socketPath();
    const ids = ['/registry', '/admission', '/node/n1'].map((path) => `spiffe://test.example${path}`);
    const serve = () => run('serve', `unix://${socket}`, '500ms', ...ids);
    const server = serve();
    const source = new IdentitySource(
      new WorkloadApi({ socket }),
      { kind: 'node' },
      { logger: pino({ level: 'silent' }), now: Date.now, monotonic: () => performance.now() },
    );
    onTestFinished(() => source[Symbol.asyncDispose]());
    let changes = 0;
    source.onChange(() => changes++);
    await vi.waitFor(() => expect(changes).toBeGreaterThan(3), SOON);
    expect(source.svid?.id).toEqual({ kind: 'node', trustDomain: 'test.example', name: 'n1' });
    expect(source.federated?.map(({ trustDomain }) => trustDomain)).toEqual(['partner.example']);
    expect(source.problem).toBeUndefined();
    server.child.kill('SIGKILL');
    await vi.waitFor(() => expect(source.problem).toMatch(/cannot be used/), SOON);
    const before = changes;
    serve();
    await vi.waitFor(() => expect(changes).toBeGreaterThan(before), SOON);
    expect(source.problem).toBeUndefined();
  });

  test("its client takes what the lab's server gives, through an intermediate CA as well", async () => {
    const [authority, partner] = [
      await SpiffeAuthority.create(),
      await SpiffeAuthority.create('partner.example'),
    ];
    await using server = new WorkloadApiServer(socketPath());
    const node = await authority.issue('/node/n1', { isNested: true });
    server.publish(
      answerOf(
        { 'spiffe://test.example/node/n1': node },
        { 'spiffe://partner.example': new Uint8Array(Buffer.concat(partner.bundle)) },
      ),
    );
    await server.start();
    const { ended, output } = run('fetch', server.endpoint);
    expect(await ended).toBe(0);
    expect(output()).toMatch(/^spiffe:\/\/test\.example\/node\/n1 .*\n2 bundles\n$/);
  });
});
