// Kubernetes' own client against an API server of the lab, held to the rules that the chart gives the webhook.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ConfigurationApi, connectConfiguration } from '../../../src/webhook/webhook-configuration.ts';
import { template } from '../../deploy/chart.ts';
import { startKubeApi } from '../../lab/kube-api.ts';
import type { KubeObject } from '../../lab/kube-store.ts';

const KIND = 'validatingwebhookconfigurations';
const directory = mkdtempSync(join(tmpdir(), 'vl3-webhook-'));
const file = (name: string): string => join(directory, name);
const stop = new AbortController();

let server: ReturnType<typeof startKubeApi>;
let kubeconfig: string;
let api: ConfigurationApi;

beforeAll(async () => {
  const names = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const out = ['-keyout', file('api.key'), '-out', file('api.crt')];
  execFileSync('openssl', ['req', '-x509', ...key, ...out, ...names], { stdio: 'ignore' });
  const values = 'registry.enabled=false,agent.enabled=false,webhook.enabled=true';
  writeFileSync(file('rbac.yaml'), template('--set', values));
  server = startKubeApi({
    port: 0,
    file: file('objects.json'),
    rbac: file('rbac.yaml'),
    certificate: file('api.crt'),
    key: file('api.key'),
    agentToken: 'webhook',
    adminToken: 'admin',
  });
  await once(server.server, 'listening');
  const { port } = server.server.address() as AddressInfo;
  kubeconfig = file('kubeconfig');
  const cluster = { server: `https://127.0.0.1:${port}`, 'certificate-authority': file('api.crt') };
  const config = {
    clusters: [{ name: 'lab', cluster }],
    users: [{ name: 'webhook', user: { token: 'webhook' } }],
    contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'webhook' } }],
    'current-context': 'lab',
  };
  writeFileSync(kubeconfig, JSON.stringify(config));
  api = await connectConfiguration('vl3-webhook', kubeconfig, stop.signal);
});
afterAll(() => {
  stop.abort();
  server.server.closeAllConnections();
  server.server.close();
  rmSync(directory, { recursive: true, force: true });
});

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const service = { namespace: 'vl3-system', name: 'vl3-webhook', path: '/validate', port: 443 };
const webhooks = [
  {
    name: 'a.vl3.io',
    rules: [],
    clientConfig: { service },
    matchConditions: [{ name: 'm', expression: 'true' }],
  },
  {
    name: 'b.vl3.io',
    rules: [],
    clientConfig: { url: 'https://10.0.0.7:9443/validate', caBundle: base64('old') },
  },
];
const found = (): KubeObject | undefined => server.store.get(KIND, '', 'vl3-webhook');

beforeEach(() => {
  const before = found();
  if (before !== undefined) server.store.delete(KIND, before);
  server.store.create(KIND, {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name: 'vl3-webhook', uid: '', resourceVersion: '', labels: { 'of-the-future': 'x' } },
    webhooks,
    fieldOfTheFuture: { kept: true },
  });
});

test('it is read: by what API servers call each webhook, and whom they trust', async () => {
  expect(await api.read()).toEqual({
    resourceVersion: found()?.metadata.resourceVersion,
    webhooks: [
      { name: 'a.vl3.io', host: 'vl3-webhook.vl3-system.svc', bundle: '' },
      { name: 'b.vl3.io', host: '10.0.0.7', bundle: 'old' },
    ],
  });
});

describe('whom they trust', () => {
  test('is written, and nothing else changes', async () => {
    const { resourceVersion } = await api.read();
    const before = found();
    await api.trust(resourceVersion, new Map([['a.vl3.io', 'new']]));
    const [first, second] = webhooks;
    expect(found()).toEqual({
      ...before,
      metadata: { ...before?.metadata, resourceVersion: expect.any(String) },
      webhooks: [{ ...first, clientConfig: { service, caBundle: base64('new') } }, second],
    });
  });

  test('is not written over what somebody else has written meanwhile', async () => {
    const { resourceVersion } = await api.read();
    await api.trust(resourceVersion, new Map([['a.vl3.io', 'first']]));
    await expect(api.trust(resourceVersion, new Map([['a.vl3.io', 'second']]))).rejects.toMatchObject({
      code: 'aborted',
    });
    expect((await api.read()).webhooks[0]?.bundle).toBe('first');
  });
});

describe('what goes wrong is a sentence', () => {
  test('where there is none', async () => {
    server.store.delete(KIND, found() as KubeObject);
    await expect(api.read()).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringMatching(/cannot read ValidatingWebhookConfiguration vl3-webhook/),
    });
  });

  test('where it is not allowed, since it is of another name', async () => {
    const other = await connectConfiguration('other', kubeconfig, stop.signal);
    await expect(other.read()).rejects.toMatchObject({
      code: 'permission-denied',
      message: expect.stringMatching(
        /^the webhook may not read ValidatingWebhookConfiguration other: apply the RBAC rules/,
      ),
    });
  });

  test('where there is no cluster', async () => {
    await expect(connectConfiguration('x', undefined, stop.signal)).rejects.toThrow(
      /run the webhook as a pod of the cluster/,
    );
    await expect(connectConfiguration('x', file('none'), stop.signal)).rejects.toThrow(
      /cannot be used .* check --kubeconfig/,
    );
  });
});
