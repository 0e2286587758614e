// Enrolment by the word of a cluster, over the wire: a real registry, real signed tokens, and nodes that use what they got.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { expect, onTestFinished, test, vi } from 'vitest';
import { EnrollmentService } from '../../../src/api/generated/vl3/v1/enrollment_pb.js';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { type DomainAddress, parseDomainAddress } from '../../../src/identity/domain-address.ts';
import { enroll, enrollByCluster } from '../../../src/identity/enroll.ts';
import type { Identity } from '../../../src/identity/identity.ts';
import { readAdminCredential } from '../../../src/identity/identity-file.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import { parseJoinToken } from '../../../src/identity/token.ts';
import { ClustersFile, claimsOf, ISSUER, jwksOf, publish, sign, signingKey } from './cluster-fixture.ts';
import { agentOf, recordingLogger, refusal, TestDomain, temporaryDirectory } from './fixture.ts';

const world = async (options: ConstructorParameters<typeof TestDomain>[0] = {}) => {
  const key = await signingKey();
  const file = new ClustersFile();
  file.write([{ name: 'east', issuer: ISSUER, keys: 'east.json' }], { 'east.json': jwksOf(key) });
  const domain = new TestDomain({ clustersFile: file.path, ...options });
  await domain.start();
  const token = (node = 'worker-1', over = {}) => sign(key, claimsOf(node, over));
  // What a join token says, too, without its secret.
  const address: DomainAddress = parseJoinToken(await domain.token());
  const enrol = async (kubernetesToken?: string, directory = temporaryDirectory(), node?: string) =>
    await enrollByCluster({
      ...{ domain: address, directory, node },
      kubernetesToken: kubernetesToken ?? (await token()),
    });
  return { key, file, domain, token, address, enrol, admin: await domain.admin() };
};
const beat = (identity: Identity) => agentOf(identity).heartbeat({ agentVersion: '1' });

test('a node enrols by its cluster alone, under the name that its token says, and works as one', async () => {
  const { enrol, admin } = await world();
  const identity = await enrol();
  expect(identity.name).toBe('east-worker-1');
  await beat(identity);
  const { nodes } = await admin.listNodes({});
  expect(nodes).toMatchObject([
    { name: 'east-worker-1', alive: true, cluster: 'east', kubernetesNode: 'worker-1' },
  ]);
});

test('what the node says of itself counts for nothing', async () => {
  const { enrol, token } = await world();
  expect(await refusal(enrol(await token(), undefined, 'east-worker-2'))).toMatch(
    /^permission-denied: to its cluster this is "east-worker-1", and not another/,
  );
  expect((await enrol(await token(), undefined, 'east-worker-1')).name).toBe('east-worker-1');
});

test('refusals are counted by reason, and their tokens are in no log', async () => {
  const { enrol, token, admin, domain } = await world();
  const stranger = await sign(await signingKey(), claimsOf('worker-1'));
  const expired = await token('worker-1', { iat: 1, nbf: 1, exp: 2 });
  expect(await refusal(enrol(stranger))).toMatch(/^permission-denied: the token is signed with a key/);
  expect(await refusal(enrol(expired))).toMatch(/^permission-denied: .* has expired/);
  expect(await refusal(enrol('nonsense'))).toMatch(/^permission-denied: this is no token/);
  const { refusedEnrolments } = await admin.getStatus({});
  expect(refusedEnrolments).toEqual({ 'other-key': 1n, expired: 1n, malformed: 1n });
  await enrol();
  const log = domain.log.lines.join('\n');
  expect(log).toMatch(/"node":"east-worker-1".*"cluster":"east".*node enrolled/);
  for (const text of [stranger, expired]) expect(log).not.toContain(text.split('.')[2]);
});

test('a registry without clusters refuses all their tokens, and takes join tokens as before', async () => {
  const { domain, address, token } = await world();
  const plain = new TestDomain();
  await plain.start();
  const own = parseJoinToken(await plain.token());
  const directory = temporaryDirectory();
  expect(await refusal(enrollByCluster({ domain: own, kubernetesToken: await token(), directory }))).toMatch(
    /^permission-denied: this registry knows no Kubernetes cluster/,
  );
  expect((await enroll({ token: own, node: 'a', directory: temporaryDirectory() })).name).toBe('a');
  expect((await domain.enrol('b')).name).toBe('b');
  expect(address.registries).not.toEqual(own.registries);
});

test('whoever shows both, or neither, is refused', async () => {
  const { domain, token } = await world();
  const { trustBundle, registries } = await readAdminCredential(join(domain.stateDirectory, 'admin.json'));
  const baseUrl = `https://${registries[0]}`;
  const sessionManager = new Http2SessionManager(baseUrl, {}, clientTlsOptions(trustBundle));
  onTestFinished(() => sessionManager.abort());
  const client = createClient(
    EnrollmentService,
    createConnectTransport({ baseUrl, httpVersion: '2', sessionManager }),
  );
  const certificateRequest = await createCertificateRequest(await generateKey());
  const { secret } = parseJoinToken(await domain.token());
  const both = { tokenSecret: secret, kubernetesToken: await token(), node: 'a', certificateRequest };
  await expect(client.enroll(both)).rejects.toThrow(/not both/);
  await expect(client.enroll({ certificateRequest, node: 'a' })).rejects.toThrow(/not one of this registry/);
  expect((await client.enroll({ kubernetesToken: await token(), certificateRequest })).node).toBe(
    'east-worker-1',
  );
});

test('a token that enrolled a node enrols no other machine as it, and a fresh one does only when it is gone', async () => {
  const { enrol, token } = await world({ livenessTtlMs: 3000 });
  const shown = await token();
  const identity = await enrol(shown);
  expect(await refusal(enrol(shown))).toMatch(/has enrolled node "east-worker-1" already, under another key/);
  await beat(identity);
  expect(await refusal(enrol())).toMatch(/^already-exists: node "east-worker-1" is alive, under another key/);
  expect((await beat(identity)).storeId).not.toBe('');
  // Its machine lost its state, and so its heartbeats end.
  const anew = await vi.waitFor(() => enrol(), { timeout: 30_000, interval: 500 });
  await beat(anew);
  expect(await refusal(beat(identity))).toMatch(/from an earlier enrolment/);
});

test('a node that was deleted is let in when an admin says so, and not before', async () => {
  const { enrol, admin } = await world();
  const directory = temporaryDirectory();
  const identity = await enrol(undefined, directory);
  await admin.deleteNode({ name: 'east-worker-1' });
  expect(await refusal(beat(identity))).toMatch(/was deleted/);
  expect(await refusal(enrol(undefined, directory))).toMatch(
    /does not come back by itself.*vl3 node readmit/,
  );
  await admin.readmitNode({ name: 'east-worker-1' });
  await beat(await enrol(undefined, directory));
  expect(await refusal(beat(identity))).toMatch(/from an earlier enrolment/);
});

test('when a cluster is taken out, its nodes stay until they are deleted, and none is added', async () => {
  const { enrol, file, token } = await world();
  const identity = await enrol();
  file.write([]);
  await beat(identity);
  expect(await refusal(enrol(await token('worker-2')))).toMatch(/no cluster of that issuer is configured/);
});

test('no registry starts with a list of clusters that it cannot read, nor makes anything', async () => {
  const file = new ClustersFile();
  const domain = new TestDomain({ clustersFile: file.path });
  await expect(domain.start()).rejects.toThrow(/cannot read the clusters in/);
  file.write([{ name: 'east', keys: 'east.json' }]);
  await expect(domain.start()).rejects.toThrow(/issuer is missing/);
  expect(() => readFileSync(join(domain.stateDirectory, 'store.db'))).toThrow(/ENOENT/);
});

test('the registry says where it is in a ConfigMap, again after it failed, and what it says lets a node in', async () => {
  const path = '/api/v1/namespaces/vl3-system/configmaps/vl3-domain';
  const api = await publish({});
  const { startRegistry } = await import('../../../src/registry/server.ts');
  const log = recordingLogger();
  const key = await signingKey();
  const file = new ClustersFile();
  file.write([{ name: 'home', keys: 'in-cluster' }]);
  api.answers = {
    '/openid/v1/jwks': () => jwksOf(key),
    '/.well-known/openid-configuration': () => JSON.stringify({ issuer: ISSUER }),
  };
  const { url, caFile, tokenFile } = api;
  await using registry = await startRegistry(
    {
      stateDirectory: temporaryDirectory(),
      trustDomain: 'test.example',
      listen: { host: '127.0.0.1', port: 0 },
      clustersFile: file.path,
      publishDomain: { namespace: 'vl3-system', name: 'vl3-domain' },
    },
    { logger: log.logger, inCluster: () => ({ url, caFile, tokenFile }) },
  );
  await vi.waitFor(() => expect(log.lines.join()).toMatch(/cannot be told where the registry is/), {
    timeout: 30_000,
  });
  api.answers[path] = () => '{}';
  await vi.waitFor(() => expect(log.lines.join()).toMatch(/are told where it is/), { timeout: 30_000 });
  const said = api.asked.findLast((one) => one.startsWith('PATCH'))?.replace(`PATCH ${path} `, '') ?? '';
  const { data } = JSON.parse(said);
  const address = parseDomainAddress(data.domain);
  expect(address).toMatchObject({ registries: registry.registries, trustDomain: 'test.example' });
  const identity = await enrollByCluster({
    ...{ domain: address, directory: temporaryDirectory() },
    kubernetesToken: await sign(key, claimsOf('worker-9')),
  });
  expect(identity.name).toBe('home-worker-9');
});
