import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createClient } from '@connectrpc/connect';
import { expect, onTestFinished, test } from 'vitest';
import { AdminService } from '../../../src/api/generated/vl3/v1/admin_pb.js';
import { connectAdmin } from '../../../src/registry/client.ts';
import { connectRegistry } from '../../../src/registry/connection.ts';
import { unusedPort } from '../../lab/unused-port.ts';
import { refusal, startDomain } from './fixture.ts';

/** A port that takes connections and never says a word. */
const silentPort = async (): Promise<number> => {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
};

const clientOf = (port: number) => {
  const connection = connectRegistry({
    registries: [`127.0.0.1:${port}`],
    tls: { rejectUnauthorized: false },
    connectTimeoutMs: 400,
  });
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return createClient(AdminService, connection.transport);
};

test('callers who wait for one silent registry are all told that it does not answer', async () => {
  const client = clientOf(await silentPort());
  const first = refusal(client.getStatus({}));
  await new Promise((resolve) => setTimeout(resolve, 150));
  const refusals = await Promise.all([first, refusal(client.getStatus({})), refusal(client.listNodes({}))]);
  for (const sentence of refusals)
    expect(sentence).toMatch(/no registry answers at .*\(no answer in 0\.4 s\)/);
});

test('callers at once of a registry that is not running are all told why', async () => {
  const client = clientOf(await unusedPort());
  const refusals = await Promise.all(Array.from({ length: 5 }, () => refusal(client.getStatus({}))));
  for (const sentence of refusals)
    expect(sentence).toMatch(/no registry answers at .*\(connect ECONNREFUSED/);
});

test('a registry of another CA is told apart from none', async () => {
  const [ours, other] = [await startDomain(), await startDomain()];
  const [mine, theirs] = [ours, other].map(({ stateDirectory }) =>
    JSON.parse(readFileSync(join(stateDirectory, 'admin.json'), 'utf8')),
  );
  const misled = join(ours.stateDirectory, 'misled.json');
  writeFileSync(misled, JSON.stringify({ ...mine, registries: theirs.registries }), { mode: 0o600 });
  await using connection = await connectAdmin(misled);
  expect(await refusal(connection.client.getStatus({}))).toMatch(/certificate is of another CA/);
});
