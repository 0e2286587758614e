// What agents may write to pods, judged by Kubernetes' own API server: only where KUBE_APISERVER names one.

import type { KubernetesObject } from '@kubernetes/client-node';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Host } from '../lab/host.ts';
import { ControlPlane } from '../lab/kube-control-plane.ts';
import { Lab } from '../lab/lab.ts';
import { DOMAIN, render } from './chart.ts';

const APIS = '/apis/admissionregistration.k8s.io/v1';
const STATUS = 'vl3.io/network-status';
const isReal = ControlPlane.isReal;

let lab: Lab;
let host: Host;
let plane: ControlPlane;
let token: string;

const pod = (name: string, nodeName: string, namespace = 'team-a') => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, labels: { app: 'web' }, annotations: { own: 'yes' } },
  spec: { nodeName, serviceAccountName: 'vl3-agent', containers: [{ name: 'main', image: 'none' }] },
});
const path = (name: string, namespace = 'team-a'): string => `/api/v1/namespaces/${namespace}/pods/${name}`;

beforeAll(async () => {
  if (!isReal) return;
  lab = await Lab.create();
  host = await lab.host('plane');
  await host.ip('link set lo up');
  const rbac = new URL('../../deploy/manifests/rbac.yaml', import.meta.url).pathname;
  plane = await ControlPlane.start({
    host,
    directory: `${lab.scratch}/kube`,
    address: '192.0.2.1',
    account: 'vl3-agent',
    rbac,
  });
  const objects: KubernetesObject[] = render(...DOMAIN).filter(({ kind }) =>
    kind?.startsWith('ValidatingAdmission'),
  );
  for (const object of objects)
    await plane.request('POST', `${APIS}/${object.kind?.toLowerCase().replace(/y$/, 'ie')}s`, object);
  const account = {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'vl3-agent', namespace: 'vl3-system' },
  };
  await plane.request('POST', '/api/v1/namespaces/vl3-system/serviceaccounts', account);
  for (const name of ['node-1', 'node-2'])
    await plane.request('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name } });
  await plane.request(
    'POST',
    '/api/v1/namespaces/vl3-system/pods',
    pod('vl3-agent-x', 'node-1', 'vl3-system'),
  );
  await plane.request('POST', '/api/v1/namespaces/team-a/pods', pod('own', 'node-1'));
  await plane.request('POST', '/api/v1/namespaces/team-a/pods', pod('other', 'node-2'));
  const { metadata } = (await plane.request('GET', path('vl3-agent-x', 'vl3-system'))) as KubernetesObject;
  const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name: 'vl3-agent-x', uid: metadata?.uid };
  const asked = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { boundObjectRef } };
  const answer = await plane.request(
    'POST',
    '/api/v1/namespaces/vl3-system/serviceaccounts/vl3-agent/token',
    asked,
  );
  ({ token } = (answer as { status: { token: string } }).status);
  // A policy is obeyed a moment after it was made.
  await vi.waitFor(
    async () => expect(await patch('other', { annotations: { [STATUS]: 'x' } })).toMatch(/^422|^403/),
    {
      timeout: 60_000,
      interval: 500,
    },
  );
}, 180_000);
afterAll(async () => {
  await plane?.stop();
  await lab?.close();
});

/** As the agent of node-1: the status and what is said. */
const patch = async (name: string, metadata: object, status?: object): Promise<string> => {
  const body = JSON.stringify({ metadata, ...(status === undefined ? {} : { status }) });
  const headers = [
    '-H',
    `Authorization: Bearer ${token}`,
    '-H',
    'Content-Type: application/merge-patch+json',
  ];
  const to = `https://127.0.0.1:6443${path(name)}/status`;
  const output = await host.run(
    ['curl', '-sS', '-k', '-X', 'PATCH', ...headers, '--data-binary', '@-', '-w', '\n%{http_code}', to],
    { input: body },
  );
  const at = output.lastIndexOf('\n');
  return `${output.slice(at + 1)} ${output.slice(0, at)}`;
};

test.runIf(isReal)('an agent writes its annotation to pods of its own node, and to no others', async () => {
  expect(await patch('own', { annotations: { [STATUS]: '[]' } })).toMatch(/^200/);
  expect(await patch('own', { annotations: { [STATUS]: null } })).toMatch(/^200/);
  expect(await patch('other', { annotations: { [STATUS]: '[]' } })).toMatch(/own nodes only/);
});

test.runIf(isReal).each<[string, object, object | undefined]>([
  ['another annotation', { annotations: { own: 'no' } }, undefined],
  ['an annotation less', { annotations: { own: null } }, undefined],
  ['a label', { labels: { app: 'other' } }, undefined],
  ['a finalizer', { finalizers: ['a.example/b'] }, undefined],
  ['the status', {}, { phase: 'Failed' }],
])('an agent does not write %s', async (_, metadata, status) => {
  expect(await patch('own', metadata, status)).toMatch(/^(403|422) [\s\S]*vl3's agents/);
});
