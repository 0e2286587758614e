// The whole webhook in one process with an API server of the lab, which calls it as it was told to and trusts only whom it was
// told to trust.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { PACE } from '../../../src/webhook/certificates.ts';
import { readAnchors } from '../../../src/webhook/serving-certificate.ts';
import { type RunningWebhook, startWebhook } from '../../../src/webhook/webhook.ts';
import { startKubeApi } from '../../lab/kube-api.ts';
import type { KubeObject } from '../../lab/kube-store.ts';

const KEY = 'vl3.io/networks';
const KIND = 'validatingwebhookconfigurations';
const SOON = { timeout: 20_000, interval: 20 };
const RULES = {
  kind: 'ClusterRole',
  rules: [{ resources: [KIND], resourceNames: ['vl3-webhook'], verbs: ['get', 'patch'] }],
};
const directory = mkdtempSync(join(tmpdir(), 'vl3-webhook-'));
const file = (name: string): string => join(directory, name);
const lines: Record<string, unknown>[] = [];
const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });

let server: ReturnType<typeof startKubeApi>;
let port: number;
let webhook: RunningWebhook;

const start = (name: string): Promise<RunningWebhook> =>
  startWebhook(
    {
      listen: { host: '127.0.0.1', port: 0 },
      name,
      configuration: 'vl3-webhook',
      kubeconfig: file('kubeconfig'),
      trustDomain: 'home.example',
      pace: { ...PACE, readyAfterMs: 0, lookMs: 20, hastyMs: 20 },
    },
    { logger },
  );

const create = (kind: string, metadata: object, more: object = {}): KubeObject => {
  const named = { name: '', uid: '', resourceVersion: '', ...metadata };
  return server.store.create(kind, { apiVersion: '', kind: '', metadata: named, ...more });
};

/** Leads API servers to this replica. */
const lead = (to: RunningWebhook): void => {
  const before = server.store.get(KIND, '', 'vl3-webhook');
  const service = { namespace: 'vl3-system', name: 'vl3-webhook', path: '/validate', port: to.port };
  const webhooks = [
    {
      name: 'networks.vl3.io',
      clientConfig: { service },
      failurePolicy: 'Fail',
      rules: [{ operations: ['CREATE', 'UPDATE'], apiGroups: [''], resources: ['pods', 'namespaces'] }],
    },
  ];
  if (before === undefined) create(KIND, { name: 'vl3-webhook' }, { webhooks });
  else server.store.replace(KIND, before, { ...before, webhooks });
};

const bundle = (): string => {
  const found = server.store.get(KIND, '', 'vl3-webhook');
  const [one] = (found?.['webhooks'] ?? []) as { clientConfig: { caBundle?: string } }[];
  return Buffer.from(one?.clientConfig.caBundle ?? '', 'base64').toString();
};

const pod = async (
  name: string,
  annotation: string,
  others: Readonly<Record<string, string>> = {},
): Promise<{ status?: number; message: string; warning?: string }> => {
  const asked = request({
    ...{ host: '127.0.0.1', port, path: '/api/v1/namespaces/team-a/pods', method: 'POST', agent: false },
    headers: { authorization: 'Bearer admin', 'content-type': 'application/json' },
    rejectUnauthorized: false,
  });
  const answered = once(asked, 'response');
  asked.end(JSON.stringify({ metadata: { name, annotations: { ...others, [KEY]: annotation } } }));
  const [response] = await answered;
  let text = '';
  for await (const chunk of response) text += chunk;
  const { message = '' } = JSON.parse(text);
  return { status: response.statusCode, message, warning: response.headers.warning };
};

beforeAll(async () => {
  const names = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const out = ['-keyout', file('api.key'), '-out', file('api.crt')];
  execFileSync('openssl', ['req', '-x509', ...key, ...out, ...names], { stdio: 'ignore' });
  writeFileSync(file('rbac.yaml'), JSON.stringify(RULES));
  server = startKubeApi({
    ...{ port: 0, file: file('objects.json'), rbac: file('rbac.yaml') },
    ...{ certificate: file('api.crt'), key: file('api.key'), agentToken: 'webhook', adminToken: 'admin' },
  });
  await once(server.server, 'listening');
  ({ port } = server.server.address() as AddressInfo);
  const cluster = { server: `https://127.0.0.1:${port}`, 'certificate-authority': file('api.crt') };
  const config = {
    clusters: [{ name: 'lab', cluster }],
    users: [{ name: 'webhook', user: { token: 'webhook' } }],
    contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'webhook' } }],
    'current-context': 'lab',
  };
  writeFileSync(file('kubeconfig'), JSON.stringify(config));
  create('services', { name: 'vl3-webhook', namespace: 'vl3-system' }, { spec: { clusterIP: '127.0.0.1' } });
  webhook = await start('one');
});
afterAll(async () => {
  await webhook[Symbol.asyncDispose]();
  server.server.closeAllConnections();
  server.server.close();
  rmSync(directory, { recursive: true, force: true });
});

test('it waits for its configuration, and is trusted once that is there', async () => {
  const { certificates } = webhook.observed;
  await vi.waitFor(() => expect(certificates.problems).toEqual([expect.stringMatching(/not found/)]), SOON);
  lead(webhook);
  await vi.waitFor(() => expect(certificates.problems).toEqual([]), SOON);
});

describe('through the API server', () => {
  test('what is wrong is refused with the place, and said in the log with the name', async () => {
    const { status, message } = await pod('wrong', 'red, Blue');
    expect(status).toBe(422);
    expect(message).toMatch(/denied the request: vl3\.io\/networks, character 6: .*\n {2}red, Blue\n {7}\^$/);
    expect(lines).toContainEqual(
      expect.objectContaining({ pod: 'team-a/wrong', msg: 'an annotation is refused' }),
    );
    expect(server.store.get('pods', 'team-a', 'wrong')).toBeUndefined();
  });

  test('what is good is let in, and what is odd with a warning', async () => {
    expect(await pod('good', 'red, green@home.example')).toMatchObject({ status: 201, warning: undefined });
    // Only nodes know with whom their domain is federated.
    expect(await pod('far', 'red@partner.example')).toMatchObject({ status: 201, warning: undefined });
    expect(await pod('odd', 'red', { 'vl3.io/netwroks': 'red' })).toMatchObject({
      status: 201,
      warning: expect.stringMatching(/annotation vl3\.io\/netwroks is not known to vl3/),
    });
  });
});

test('another replica is trusted beside it; the one that goes takes its certificate along', async () => {
  const other = await start('two');
  try {
    await vi.waitFor(() => expect(readAnchors(bundle())).toHaveLength(2), SOON);
    expect((await pod('wrong', ',')).status).toBe(422);
    lead(other);
    await vi.waitFor(() => expect(readAnchors(bundle())).toHaveLength(2), SOON);
    expect((await pod('wrong', ',')).status).toBe(422);
  } finally {
    await other[Symbol.asyncDispose]();
  }
  expect(readAnchors(bundle())).toHaveLength(1);
  lead(webhook);
  await vi.waitFor(() => expect(readAnchors(bundle())).toHaveLength(1), SOON);
  expect((await pod('wrong', ',')).status).toBe(422);
});
