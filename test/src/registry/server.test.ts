// The registry as a whole, over TLS: what two nodes get from it, what outlives a restart, and what it takes to start.

import { execFile } from 'node:child_process';
import { cpSync, existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createClient } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from '@connectrpc/connect-node';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { AdminService } from '../../../src/api/generated/vl3/v1/admin_pb.js';
import { readAdminCredential } from '../../../src/identity/identity-file.ts';
import { formatKey } from '../../../src/identity/key.ts';
import { toPem } from '../../../src/identity/pem.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import { startRegistry } from '../../../src/registry/server.ts';
import {
  agentOf,
  recordingLogger,
  red,
  refusal,
  startDomain,
  type TestNode,
  TRUST_DOMAIN,
  temporaryDirectory,
} from './fixture.ts';

const run = promisify(execFile);

test('two nodes that enrol join a network, are seen alive and get prefixes of their own', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  const created = await admin.createNetwork({ network: red });
  expect(created.network).toMatchObject({ name: 'red', nodePrefixLengthV4: 24, nodePrefixLengthV6: 112 });
  const a = await domain.enrol('a');
  const b = await domain.enrol('b');
  const { leases } = await a.client.joinNetwork({ network: 'red' });
  expect(leases.map(({ prefix }) => prefix)).toEqual(['10.60.0.0/24', 'fd00:60::/112']);
  await b.client.joinNetwork({ network: 'red' });
  const beat = await a.client.heartbeat({ agentVersion: '1.2.3' });
  expect(beat).toMatchObject({ observedAddress: '127.0.0.1', livenessTtlMs: 15_000 });
  const { nodes } = await admin.listNodes({});
  expect(nodes.map(({ name, alive, networks }) => ({ name, alive, networks }))).toEqual([
    { name: 'a', alive: true, networks: ['red'] },
    { name: 'b', alive: false, networks: ['red'] },
  ]);
  const { node } = await admin.getNode({ name: 'a' });
  expect(node).toMatchObject({
    spiffeId: `spiffe://${TRUST_DOMAIN}/node/a`,
    agentVersion: '1.2.3',
    observedAddress: '127.0.0.1',
  });
  expect(await admin.getStatus({})).toMatchObject({
    trustDomain: TRUST_DOMAIN,
    networks: 1,
    nodes: 2,
    nodesAlive: 1,
  });
});

test('N2: nodes that join at the same moment get disjoint prefixes inside the pool', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  // One after the other, until they are connected: the moment is that of joining.
  const nodes: TestNode[] = [];
  for (let i = 0; i < 24; i++) {
    const node = await domain.enrol(`n${i}`);
    await node.client.heartbeat({});
    nodes.push(node);
  }
  // Each asks twice at once, as an agent does that retries.
  const joined = await Promise.all(
    nodes.flatMap(({ client }) => [
      client.joinNetwork({ network: 'red' }),
      client.joinNetwork({ network: 'red' }),
    ]),
  );
  const prefixes = new Set(
    joined.flatMap(({ leases }) => leases.map(({ node, prefix }) => `${node} ${prefix}`)),
  );
  expect(prefixes.size).toBe(48);
  expect(new Set([...prefixes].map((pair) => pair.split(' ')[1])).size).toBe(48);
  for (const pair of prefixes) expect(pair).toMatch(/ (10\.60\.\d+\.0\/24|fd00:60::([0-9a-f]+:0)?\/112)$/);
});

test('no private key and no token reaches the log', async () => {
  const domain = await startDomain();
  const node = await domain.enrol('a');
  await node.client.heartbeat({});
  await refusal(node.client.joinNetwork({ network: 'none' }));
  const log = domain.log.lines.join('');
  expect(log).toContain('node enrolled');
  expect(log).not.toMatch(/PRIVATE KEY|vl3j1\./);
});

test('everything survives a restart, and the same clients go on', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  await admin.createNetwork({ network: red });
  const a = await domain.enrol('a');
  const { leases } = await a.client.joinNetwork({ network: 'red' });
  await a.client.putAttachments({
    network: 'red',
    attachments: [
      {
        id: 'web',
        workload: 'web-1',
        addresses: ['10.60.0.9'],
        interfaceName: 'red',
        labels: { app: 'web' },
      },
    ],
  });
  const before = {
    networks: await admin.listNetworks({}),
    node: await admin.getNode({ name: 'a' }),
    attachments: await admin.listAttachments({ network: 'red', node: 'a' }),
    tokens: await admin.listTokens({}),
  };
  const { storeId, revision } = await admin.getStatus({});
  await domain.stop();
  expect(await refusal(a.client.heartbeat({}))).toMatch(
    /^unavailable: no registry answers at 127\.0\.0\.1:\d+ \(/,
  );
  await domain.start();
  expect((await a.client.joinNetwork({ network: 'red' })).leases).toEqual(leases);
  expect({
    networks: await admin.listNetworks({}),
    node: await admin.getNode({ name: 'a' }),
    attachments: await admin.listAttachments({ network: 'red', node: 'a' }),
    tokens: await admin.listTokens({}),
  }).toEqual(before);
  const after = await admin.getStatus({});
  expect(after.storeId).toBe(storeId);
  // Its time goes on, and the lease was renewed.
  expect(after.revision).toBeGreaterThan(revision);
});

test('a node is alive through a restart that is longer than its lease', async () => {
  const domain = await startDomain({ livenessTtlMs: 1500 });
  const admin = await domain.admin();
  const isAlive = async () => (await admin.getNode({ name: 'a' })).node?.alive;
  const a = await domain.enrol('a');
  await a.client.heartbeat({});
  await domain.stop();
  await new Promise((resolve) => setTimeout(resolve, 1600));
  await domain.start();
  expect(await isAlive()).toBe(true);
  await vi.waitFor(async () => expect(await isAlive()).toBe(false), { timeout: 30_000 });
});

test('an SVID is renewed by the node itself, and both work until the old one ends', async () => {
  const domain = await startDomain();
  const a = await domain.enrol('a');
  const { createCertificateRequest } = await import('../../../src/identity/certificate-request.ts');
  const { generateKey } = await import('../../../src/identity/key.ts');
  const { renewIdentity } = await import('../../../src/identity/identity.ts');
  const privateKey = await generateKey();
  const certificateRequest = await createCertificateRequest(privateKey);
  const { certificateChain } = await a.client.renewSvid({ certificateRequest });
  const renewed = renewIdentity(a.identity, { certificateChain, privateKey }, Date.now());
  await agentOf(renewed).heartbeat({});
  await a.client.heartbeat({});
  expect(await refusal(a.client.renewSvid({ certificateRequest: new Uint8Array(10) }))).toMatch(
    /^invalid-argument/,
  );
});

test('T2: an SVID that has expired opens no call, on an old connection neither', async () => {
  const domain = await startDomain();
  const a = await domain.enrol('a');
  await a.client.heartbeat({});
  domain.clockAheadMs = 8 * 24 * 60 * 60_000;
  expect(await refusal(a.client.heartbeat({}))).toMatch(/^unauthenticated: .*has expired/);
});

describe('curl', () => {
  test('with a client certificate gets JSON, over HTTP/1.1 and HTTP/2, and without one a sentence', async () => {
    const domain = await startDomain();
    await (await domain.admin()).createNetwork({ network: red });
    const identity = await readAdminCredential(domain.registry.adminFile);
    const directory = temporaryDirectory();
    const file = (name: string, content: string) => {
      writeFileSync(join(directory, name), content, { mode: 0o600 });
      return join(directory, name);
    };
    const ca = file('ca.pem', toPem(identity.trustBundle.certificates));
    const cert = file('cert.pem', toPem(identity.certificateChain));
    const key = file('key.pem', formatKey(identity.privateKey));
    const url = `https://127.0.0.1:${domain.registry.port}/vl3.v1.AdminService/GetNetwork`;
    const common = [
      '-sS',
      '--cacert',
      ca,
      '-H',
      'content-type: application/json',
      '-d',
      '{"name":"red"}',
      url,
    ];
    for (const version of ['--http1.1', '--http2']) {
      const { stdout } = await run('curl', [version, '--cert', cert, '--key', key, ...common]);
      expect(JSON.parse(stdout)).toMatchObject({ network: { name: 'red', poolV4: '10.60.0.0/16' } });
    }
    const { stdout } = await run('curl', common);
    expect(JSON.parse(stdout)).toMatchObject({
      code: 'unauthenticated',
      message: expect.stringMatching(/certificate/),
    });
  });
});

test('without a certificate nobody can have it parse more than an enrolment takes', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const body = (bytes: number) => JSON.stringify({ tokenSecret: '', ignored: 'x'.repeat(bytes) });
  const post = async (method: string, bytes: number): Promise<string> => {
    const url = `https://127.0.0.1:${domain.registry.port}/vl3.v1.${method}`;
    const file = join(temporaryDirectory(), 'body');
    writeFileSync(file, body(bytes));
    const request = ['-ks', '-H', 'content-type: application/json', '--data-binary', `@${file}`, url];
    return (await run('curl', request)).stdout;
  };
  for (const method of ['EnrollmentService/Enroll', 'AdminService/ListNodes']) {
    expect(await post(method, 100_000)).toMatch(/resource_exhausted/);
    expect(await post(method, 1000)).not.toMatch(/resource_exhausted/);
  }
});

test('gRPC, gRPC-Web and Connect are served on the one port', async () => {
  const domain = await startDomain();
  const identity = await readAdminCredential(domain.registry.adminFile);
  const baseUrl = `https://127.0.0.1:${domain.registry.port}`;
  const nodeOptions = clientTlsOptions(identity.trustBundle, identity);
  const sessions = [0, 1, 2].map(() => new Http2SessionManager(baseUrl, {}, nodeOptions));
  onTestFinished(() => sessions.forEach((session) => void session.abort()));
  const [first, second, third] = sessions.map((sessionManager) => ({ baseUrl, sessionManager }));
  if (first === undefined || second === undefined || third === undefined) throw new Error('no sessions');
  for (const transport of [
    createGrpcTransport(first),
    createGrpcWebTransport({ ...second, httpVersion: '2' }),
    createConnectTransport({ ...third, httpVersion: '2', useBinaryFormat: false }),
  ]) {
    expect(await createClient(AdminService, transport).getStatus({})).toMatchObject({
      trustDomain: TRUST_DOMAIN,
    });
  }
});

describe('starting', () => {
  const options = (stateDirectory: string, port: number) => ({
    stateDirectory,
    trustDomain: TRUST_DOMAIN,
    listen: { host: '127.0.0.1', port },
  });
  const { logger } = recordingLogger();

  test('on a taken port says so with the remedy, and leaves nothing open', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void taken.close());
    const address = taken.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    const state = temporaryDirectory();
    expect(await refusal(startRegistry(options(state, port), { logger }))).toMatch(
      /^failed-precondition: 127\.0\.0\.1:\d+ is taken by another program/,
    );
    await using registry = await startRegistry(options(state, 0), { logger });
    expect(registry.port).toBeGreaterThan(0);
  });

  test('a second time on one state directory is refused', async () => {
    const state = temporaryDirectory();
    await using _first = await startRegistry(options(state, 0), { logger });
    expect(await refusal(startRegistry(options(state, 0), { logger }))).toMatch(
      /another registry has it open/,
    );
  });

  test('with another trust domain on the same state is refused', async () => {
    const state = temporaryDirectory();
    await (await startRegistry(options(state, 0), { logger }))[Symbol.asyncDispose]();
    expect(
      await refusal(startRegistry({ ...options(state, 0), trustDomain: 'other.example' }, { logger })),
    ).toMatch(/^failed-precondition: .*other\.example/);
  });

  test('without the CA that its store knows, or with another one, is refused, and no CA is made', async () => {
    const domain = await startDomain();
    await domain.stop();
    const ca = join(domain.stateDirectory, 'ca');
    renameSync(ca, `${ca}.away`);
    expect(await refusal(domain.start())).toMatch(/^failed-precondition: the CA in .* is gone/);
    expect(existsSync(ca)).toBe(false);
    const other = await startDomain();
    await other.stop();
    cpSync(join(other.stateDirectory, 'ca'), ca, { recursive: true });
    expect(await refusal(domain.start())).toMatch(/^failed-precondition: the store belongs to the CA with/);
    rmSync(ca, { recursive: true });
    renameSync(`${ca}.away`, ca);
    await domain.start();
  });

  test('names the advertised addresses in join tokens and in the admin credential', async () => {
    const advertise = [{ host: 'registry.example', port: 443 }];
    const domain = await startDomain({ advertise });
    expect(domain.registry.registries).toEqual(['registry.example:443']);
    expect((await readAdminCredential(domain.registry.adminFile)).registries).toEqual([
      'registry.example:443',
    ]);
  });
});
