// Kubernetes' own client against an API server of the lab, in this process: what it asks, and what goes wrong in sentences.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { connectKubernetes, type KubernetesApi } from '../../../src/kube/kubernetes-api.ts';
import { startKubeApi } from '../../lab/kube-api.ts';
import type { KubeObject } from '../../lab/kube-store.ts';

const RBAC = resolve(import.meta.dirname, '../../../deploy/manifests/rbac.yaml');
const directory = mkdtempSync(join(tmpdir(), 'vl3-kube-'));
const file = (name: string): string => join(directory, name);
const stop = new AbortController();

let server: ReturnType<typeof startKubeApi>;
let api: KubernetesApi;

const kubeconfig = (name: string, token: string, port: number): string => {
  const cluster = { server: `https://127.0.0.1:${port}`, 'certificate-authority': file('api.crt') };
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
const pod = (name: string, nodeName = 'node-1'): KubeObject =>
  server.store.create('pods', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'team-a', uid: '', resourceVersion: '' },
    spec: { nodeName },
  });

const closedPort = async (): Promise<number> => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  other.close();
  return port;
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
  const { port } = server.server.address() as AddressInfo;
  api = await connect(kubeconfig('good', 'agent', port));
  kubeconfig('stranger', 'stranger', port);
});
afterAll(() => {
  stop.abort();
  server.server.closeAllConnections();
  server.server.close();
  rmSync(directory, { recursive: true, force: true });
});

test('lists come in pages, of this node only', async () => {
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
  await vi.waitFor(() => expect(seen).toContain('BOOKMARK'));
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
    const [event] = server.store.list('events');
    expect(event).toMatchObject({
      reason,
      type: 'Warning',
      involvedObject: { kind: 'Pod', uid: 'u', name: 'one' },
    });
    expect(String(event?.['message'])).toHaveLength(1024);
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
  });
});
