// What the informer asks an API server, by a kubeconfig and by a service account, against that of the lab in this process, and what
// goes wrong in sentences; and that Kubernetes' own client understands the lab's as the informer does.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createProxy } from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { CoreV1Api, KubeConfig, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { serviceAccountAccess } from '../../../src/kube/api-access.ts';
import { connectKubernetes, type KubernetesApi, kubernetesApi } from '../../../src/kube/kubernetes-api.ts';
import { startKubeApi } from '../../lab/kube-api.ts';
import type { KubeObject } from '../../lab/kube-store.ts';

const RBAC = resolve(import.meta.dirname, '../../../deploy/manifests/rbac.yaml');
const directory = mkdtempSync(join(tmpdir(), 'vl3-kube-'));
const file = (name: string): string => join(directory, name);
const stop = new AbortController();

let server: ReturnType<typeof startKubeApi>;
let port: number;
let api: KubernetesApi;
/** That were opened. */
let connections = 0;

const kubeconfig = (name: string, token: string, at: number): string => {
  const cluster = { server: `https://127.0.0.1:${at}`, 'certificate-authority': file('api.crt') };
  const config = {
    clusters: [{ name: 'lab', cluster }],
    users: [{ name: 'agent', user: { token } }],
    contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'agent' } }],
    'current-context': 'lab',
  };
  writeFileSync(file(name), JSON.stringify(config));
  return file(name);
};
const connect = (path: string) =>
  connectKubernetes({ kubeconfig: path, nodeName: undefined }, () => 'node-1', stop.signal);
/** As the kubelet puts it into a pod. */
const writeAccount = (token: string): void => {
  writeFileSync(file('token'), `${token}\n`);
  writeFileSync(file('ca.crt'), readFileSync(file('api.crt')));
};
const asPod = (at = port) => {
  const environment = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(at) };
  return kubernetesApi(serviceAccountAccess({ directory, environment }), () => 'node-1', stop.signal);
};
const pod = (name: string, nodeName = 'node-1', annotations = {}): KubeObject =>
  server.store.create('pods', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'team-a', uid: '', resourceVersion: '', annotations },
    spec: { nodeName },
  });

const drop = (name: string): void => {
  const found = server.store.get('pods', 'team-a', name);
  if (found !== undefined) server.store.delete('pods', found);
};

const closedPort = async (): Promise<number> => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port: free } = other.address() as AddressInfo;
  other.close();
  return free;
};

beforeAll(async () => {
  const names = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const out = ['-keyout', file('api.key'), '-out', file('api.crt')];
  execFileSync('openssl', ['req', '-x509', ...key, ...out, ...names], { stdio: 'ignore' });
  server = startKubeApi({
    port: 0,
    file: file('objects.json'),
    rbac: RBAC,
    certificate: file('api.crt'),
    key: file('api.key'),
    agentToken: 'agent',
    adminToken: 'admin',
    page: 2,
    bookmarkMs: 20,
  });
  await once(server.server, 'listening');
  server.server.on('secureConnection', () => void connections++);
  ({ port } = server.server.address() as AddressInfo);
  kubeconfig('good', 'agent', port);
  kubeconfig('stranger', 'stranger', port);
  writeAccount('agent');
});
afterAll(() => {
  stop.abort();
  server.server.closeAllConnections();
  server.server.close();
  rmSync(directory, { recursive: true, force: true });
});

describe.each([
  ['a kubeconfig', () => connect(file('good'))],
  ["its pod's service account", async () => asPod()],
])('by %s', (_, open) => {
  beforeAll(async () => {
    api = await open();
  });

  test('lists come in pages, of this node only', async () => {
    for (const { metadata } of server.store.list('pods')) drop(metadata.name);
    for (const name of ['a', 'b', 'c']) pod(name);
    pod('elsewhere', 'node-2');
    const first = await api.list('pods', '');
    expect(first.items).toHaveLength(2);
    const second = await api.list('pods', first.more);
    expect(second).toMatchObject({ more: '', resourceVersion: first.resourceVersion });
    expect([...first.items, ...second.items]).toMatchObject(
      ['a', 'b', 'c'].map((name) => ({ metadata: { name } })),
    );
    server.store.compact();
    await expect(api.list('pods', first.more)).rejects.toMatchObject({ code: 'aborted' });
  });

  test('a watch tells changes of this node and bookmarks, until it is told to stop', async () => {
    const { resourceVersion } = await api.list('namespaces', '');
    const seen: string[] = [];
    const watching = api.watch('pods', resourceVersion, (type, object) => {
      const { name } = (object as KubeObject).metadata;
      seen.push(name === undefined ? type : `${type} ${name}`);
      return type !== 'DELETED';
    });
    await vi.waitFor(() => expect(seen).toContain('BOOKMARK'), { timeout: 30_000 });
    const made = pod('watched');
    pod('watched-elsewhere', 'node-2');
    server.store.delete('pods', made);
    await watching;
    expect(seen.filter((one) => one !== 'BOOKMARK')).toEqual(['ADDED watched', 'DELETED watched']);
  });

  test('a watch from too long ago is told so', async () => {
    server.store.compact();
    const seen: unknown[] = [];
    await api.watch('pods', '1', (type, object) => {
      seen.push([type, object]);
      return false;
    });
    expect(seen).toMatchObject([['ERROR', { code: 410 }]]);
  });

  describe('one pod', () => {
    const shown = () => server.store.get('pods', 'team-a', 'one')?.metadata.annotations;

    test('is annotated by a merge patch, if it is still the same', async () => {
      drop('one');
      const { metadata } = pod('one');
      const ref = { namespace: 'team-a', name: 'one', uid: metadata.uid };
      await api.annotatePod(ref, 'vl3.io/network-status', '[]');
      expect(shown()).toEqual({ 'vl3.io/network-status': '[]' });
      await expect(api.annotatePod({ ...ref, uid: 'other' }, 'x', 'y')).rejects.toMatchObject({
        code: 'aborted',
      });
      await api.annotatePod(ref, 'vl3.io/network-status', null);
      expect(shown()).toEqual({});
      expect(await api.readPod('team-a', 'one')).toMatchObject({ metadata: { uid: metadata.uid } });
      await expect(api.readPod('team-a', 'none')).rejects.toMatchObject({ code: 'not-found' });
    });

    test('gets events', async () => {
      const reason = 'InvalidAnnotation';
      await api.createEvent({
        namespace: 'team-a',
        name: 'one',
        uid: 'u',
        reason,
        message: 'x'.repeat(2000),
        at: 0,
      });
      const event = server.store.list('events').at(-1);
      expect(event).toMatchObject({
        reason,
        type: 'Warning',
        involvedObject: { kind: 'Pod', uid: 'u', name: 'one' },
      });
      expect(String(event?.['message'])).toHaveLength(1024);
    });
  });

  test('calls share connections, and one that the server has closed is made anew', async () => {
    await api.list('pods', '');
    const before = connections;
    for (let call = 0; call < 20; call++) await api.list('namespaces', '');
    expect(connections).toBe(before);
    server.server.closeIdleConnections();
    await api.list('namespaces', '');
    await Promise.all(Array.from({ length: 50 }, () => api.list('pods', '')));
    expect(connections - before).toBeLessThanOrEqual(9);
  });

  test('an object that comes in many pieces is one', async () => {
    const { resourceVersion } = await api.list('pods', '');
    const text = '\u{1f600}'.repeat(60_000);
    drop('large');
    let seen: unknown;
    const watching = api.watch('pods', resourceVersion, (type, object) => {
      seen = type === 'ADDED' ? (object as KubeObject).metadata.annotations : undefined;
      return seen === undefined;
    });
    pod('large', 'node-1', { text });
    await watching;
    expect(seen).toEqual({ text });
    drop('large');
  });

  test('a watch ends in a sentence when the server dies', async () => {
    const { resourceVersion } = await api.list('pods', '');
    const watching = api.watch('pods', resourceVersion, () => true);
    await new Promise((resolve) => setTimeout(resolve, 100));
    server.server.closeAllConnections();
    await expect(watching).rejects.toMatchObject({ code: 'unavailable' });
  });
});

test('a token that was renewed is used', async () => {
  const mine = asPod();
  writeAccount('of yesterday');
  await expect(mine.list('pods', '')).rejects.toMatchObject({ code: 'unauthenticated' });
  writeAccount('agent');
  expect((await mine.list('pods', '')).items).not.toEqual([]);
});

test("Kubernetes' own client sees the same", async () => {
  const config = new KubeConfig();
  config.loadFromFile(file('good'));
  const core = config.makeApiClient(CoreV1Api);
  const names = (all: { metadata?: { name?: string } }[]) => all.map(({ metadata }) => metadata?.name);
  const mine = asPod();
  const { items } = await mine.list('pods', '');
  const theirs = await core.listPodForAllNamespaces({ fieldSelector: 'spec.nodeName=node-1', limit: 2 });
  expect(names(theirs.items)).toEqual(names(items as KubeObject[]));
  const [name = ''] = names(theirs.items);
  const how = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
  const body = { metadata: { annotations: { own: 'yes' } } };
  await core.patchNamespacedPodStatus({ namespace: 'team-a', name, body }, how);
  expect(await mine.readPod('team-a', name)).toMatchObject({ metadata: { annotations: { own: 'yes' } } });
  await expect(core.patchNamespacedPod({ namespace: 'team-a', name, body }, how)).rejects.toMatchObject({
    code: 403,
  });
});

describe('what cannot be', () => {
  test('is a sentence with the remedy', async () => {
    const stranger = await connect(file('stranger'));
    await expect(stranger.list('pods', '')).rejects.toMatchObject({
      code: 'unauthenticated',
      message: expect.stringMatching(/does not know who asks to list pods: check/),
    });
    const nowhere = await connect(kubeconfig('nowhere', 'agent', await closedPort()));
    await expect(nowhere.list('pods', '')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/cannot be asked to list pods: .*ECONNREFUSED/),
    });
    await expect(nowhere.watch('pods', '1', () => true)).rejects.toMatchObject({ code: 'unavailable' });
    await expect(asPod(await closedPort()).list('pods', '')).rejects.toThrow(/ECONNREFUSED/);
  });

  test.each([
    ['<html>Sign in', 200, /its answer is not JSON but begins with "<html>Sign in"/],
    ['{"kind":"Status"}', 200, /list pods: its answer is no list$/],
    ['<html>Bad gateway', 502, /answers 502 when asked to list pods/],
  ])('is told when somebody else answers %s', async (body, status, reason) => {
    const tls = { cert: readFileSync(file('api.crt')), key: readFileSync(file('api.key')) };
    const proxy = createProxy(tls, (_, response) => response.writeHead(status).end(body)).listen(
      0,
      '127.0.0.1',
    );
    await once(proxy, 'listening');
    const { port: at } = proxy.address() as AddressInfo;
    await expect(asPod(at).list('pods', '')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(reason),
    });
    proxy.closeAllConnections();
    proxy.close();
  });

  test('is refused before anything is asked, when the configuration is none', async () => {
    writeFileSync(file('empty'), '{}');
    for (const path of [file('empty'), file('missing')])
      await expect(connect(path)).rejects.toMatchObject({
        code: 'failed-precondition',
        message: expect.stringMatching(/cannot be used \(.*\): check --kubeconfig$/),
      });
    const inCluster = connectKubernetes(
      { kubeconfig: undefined, nodeName: undefined },
      () => 'n',
      stop.signal,
    );
    await expect(inCluster).rejects.toThrow(/no service account of a cluster here.*--kubeconfig/);
    const environment = { KUBERNETES_SERVICE_HOST: '127.0.0.1' };
    expect(() => serviceAccountAccess({ directory: '/nowhere', environment })).toThrow(
      /ENOENT.*--kubeconfig/,
    );
    expect(() => serviceAccountAccess({ directory, environment: {} })).toThrow(/KUBERNETES_SERVICE_HOST/);
    expect(
      serviceAccountAccess({ directory, environment: { KUBERNETES_SERVICE_HOST: 'fd00::1' } }).server.href,
    ).toBe('https://[fd00::1]/');
  });
});
