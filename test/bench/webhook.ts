// What a call of the admission webhook costs, as an API server sees it: over a connection that is kept, over a new one each time,
// for a pod of usual size and a large one, alone and 50 at once. Beside it, in turn, an HTTPS server that reads the same and
// knows the answer. Processor time is that of the called process.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeServingCertificate } from '../../src/webhook/serving-certificate.ts';
import { setup, teardown } from '../lab/bundle-commands.ts';
import { eventually } from '../lab/eventually.ts';
import { startKubeApi } from '../lab/kube-api.ts';
import { vl3 } from '../lab/program.ts';
import { quantile } from '../lab/spread.ts';

const HOST = 'vl3-webhook.vl3-system.svc';
const NAME = 'vl3-webhook';
const TICKS_PER_SECOND = 100;
const CALLS = 500;
const AT_ONCE = 50;

const ROLE = {
  kind: 'ClusterRole',
  rules: [{ resources: ['validatingwebhookconfigurations'], resourceNames: [NAME], verbs: ['get', 'patch'] }],
};

/** Answers "allowed" to whatever it is sent. */
const REFERENCE = `
  const { createServer } = require('node:https');
  const server = createServer({ ...JSON.parse(process.env.TLS), minVersion: 'TLSv1.3' }, async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { request: { uid } } = JSON.parse(Buffer.concat(chunks));
    const text = JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response: { uid, allowed: true } });
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text);
  });
  server.keepAliveTimeout = 120000;
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
`;

interface Called {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  readonly ca: () => string;
}

/** As large as pods usually are, with what an API server adds; `filler` bytes more. */
const review = (annotation: string, filler: number): string => {
  const container = {
    image: 'registry.example/web:1',
    resources: { requests: { cpu: '100m', memory: '128Mi' } },
    env: Array.from({ length: 20 }, (_, i) => ({ name: `SETTING_${i}`, value: 'some value or other' })),
    volumeMounts: [{ name: 'kube-api-access', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' }],
  };
  const annotations = { 'vl3.io/networks': annotation, filler: 'x'.repeat(filler) };
  const managedFields = Array.from({ length: 3 }, (_, i) => ({
    manager: `manager-${i}`,
    fieldsV1: Object.fromEntries(Array.from({ length: 40 }, (_, j) => [`f:field-${j}`, {}])),
  }));
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'team-a',
      operation: 'CREATE',
      userInfo: { username: 'system:serviceaccount:kube-system:replicaset-controller' },
      object: {
        metadata: { generateName: 'web-', labels: { app: 'web' }, annotations, managedFields },
        spec: {
          containers: [
            { name: 'web', ...container },
            { name: 'log', ...container },
          ],
        },
      },
      oldObject: null,
    },
  });
};

const call = async ({ port, ca }: Called, body: string, agent: Agent | false): Promise<number> => {
  const began = performance.now();
  const asked = request({
    ...{ host: '127.0.0.1', port, servername: HOST, ca: ca(), agent },
    ...{ path: '/validate?timeout=2s', method: 'POST' },
    headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
  });
  const answered = once(asked, 'response');
  asked.end(body);
  const [response] = await answered;
  let text = '';
  for await (const chunk of response) text += chunk;
  if (response.statusCode !== 200) throw new Error(`${response.statusCode} ${text}`);
  return performance.now() - began;
};

const cpuMs = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_SECOND;
};

const residentMb = (pid: number): number =>
  Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);

interface Case {
  readonly what: string;
  readonly body: string;
  readonly atOnce: number;
  readonly isKept: boolean;
}

const CASES: readonly Case[] = [
  { what: 'a pod', body: review('red, green', 0), atOnce: 1, isKept: true },
  { what: 'a wrong one', body: review('red, Green', 0), atOnce: 1, isKept: true },
  { what: 'a pod of 200 KB', body: review('red, green', 200_000), atOnce: 1, isKept: true },
  { what: `a pod, ${AT_ONCE} at once`, body: review('red, green', 0), atOnce: AT_ONCE, isKept: true },
  { what: 'a pod, over a new connection', body: review('red, green', 0), atOnce: 1, isKept: false },
];

const measure = async (
  called: Called,
  { body, atOnce, isKept }: Case,
): Promise<{ all: number[]; cpu: number }> => {
  const agent = isKept ? new Agent({ keepAlive: true, maxSockets: atOnce }) : false;
  const before = cpuMs(called.pid);
  const all: number[] = [];
  for (let i = 0; i < CALLS; i += atOnce)
    all.push(...(await Promise.all(Array.from({ length: atOnce }, () => call(called, body, agent)))));
  if (agent !== false) agent.destroy();
  return { all, cpu: cpuMs(called.pid) - before };
};

export const benchWebhook = async (repetitions: number): Promise<void> => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3-webhook-'));
  const at = (name: string): string => join(directory, name);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const names = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const out = ['-keyout', at('api.key'), '-out', at('api.crt')];
  execFileSync('openssl', ['req', '-x509', ...key, ...out, ...names], { stdio: 'ignore' });
  writeFileSync(at('rbac.yaml'), JSON.stringify(ROLE));
  const { server, store } = startKubeApi({
    ...{ port: 0, file: at('objects.json'), rbac: at('rbac.yaml') },
    ...{ certificate: at('api.crt'), key: at('api.key'), agentToken: 'webhook', adminToken: 'admin' },
  });
  const made = await makeServingCertificate({
    ...{ holder: 'reference', hosts: [HOST], now: Date.now(), lifetimeMs: 3_600_000 },
  });
  const reference = spawn(process.execPath, ['-e', REFERENCE], {
    env: { ...process.env, TLS: JSON.stringify({ key: made.key, cert: made.certificate }) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let webhook: ReturnType<typeof spawn> | undefined;
  try {
    // What ships does without type stripping.
    await setup();
    if (!server.listening) await once(server, 'listening');
    const clientConfig = { service: { name: NAME, namespace: 'vl3-system', path: '/validate' } };
    store.create('validatingwebhookconfigurations', {
      ...{ apiVersion: 'admissionregistration.k8s.io/v1', kind: 'ValidatingWebhookConfiguration' },
      metadata: { name: NAME, uid: '', resourceVersion: '' },
      webhooks: [{ name: 'networks.vl3.io', clientConfig, rules: [] }],
    });
    const { port } = server.address() as AddressInfo;
    const cluster = { server: `https://127.0.0.1:${port}`, 'certificate-authority': at('api.crt') };
    const config = {
      clusters: [{ name: 'lab', cluster }],
      users: [{ name: 'webhook', user: { token: 'webhook' } }],
      contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'webhook' } }],
      'current-context': 'lab',
    };
    writeFileSync(at('kubeconfig'), JSON.stringify(config));
    const [free = 0, metrics = 0] = [49_443, 49_645];
    const options = ['--kubeconfig', at('kubeconfig'), '--listen', `127.0.0.1:${free}`];
    const [program = '', ...args] = vl3(
      'webhook',
      'run',
      ...options,
      '--metrics-listen',
      `127.0.0.1:${metrics}`,
      '--log-level',
      'warn',
    );
    webhook = spawn(program, args, { stdio: 'inherit' });
    await eventually(
      async () => {
        const { status } = await fetch(`http://127.0.0.1:${metrics}/readyz`);
        if (status !== 200) throw new Error('the webhook is not ready');
      },
      { timeout: 60_000, interval: 100 },
    );
    const idleMb = residentMb(webhook.pid ?? 0);
    const [line] = await (async () => {
      for await (const chunk of reference.stdout) return [String(chunk)];
      return [];
    })();
    const trusted = (): string => {
      const found = store.get('validatingwebhookconfigurations', '', NAME);
      const [one] = (found?.['webhooks'] ?? []) as { clientConfig: { caBundle?: string } }[];
      return Buffer.from(one?.clientConfig.caBundle ?? '', 'base64').toString();
    };
    const ca = trusted();
    const contenders: Called[] = [
      { name: 'vl3 webhook', port: free, pid: webhook.pid ?? 0, ca: () => ca },
      {
        name: 'HTTPS and JSON alone',
        port: Number(line),
        pid: reference.pid ?? 0,
        ca: () => made.anchor.pem,
      },
    ];
    const sums = new Map<string, { all: number[]; cpu: number }>();
    // The first round only warms up.
    for (let round = 0; round <= repetitions; round++)
      for (const one of CASES)
        for (const called of contenders) {
          const { all, cpu } = await measure(called, one);
          const sum = sums.get(`${one.what}: ${called.name}`) ?? { all: [], cpu: 0 };
          if (round > 0)
            sums.set(`${one.what}: ${called.name}`, { all: [...sum.all, ...all], cpu: sum.cpu + cpu });
        }
    console.log(
      `a call of the webhook, ms; processor time of the called process; load ${loadavg()[0]?.toFixed(1)}`,
    );
    console.table(
      [...sums].map(([what, { all, cpu }]) => ({
        what,
        p50: Number(quantile(all, 0.5).toFixed(2)),
        p99: Number(quantile(all, 0.99).toFixed(2)),
        cpuMs: Number((cpu / all.length).toFixed(2)),
      })),
    );
    console.log(`vl3 webhook, before the first call: ${idleMb} MB resident`);
    for (const { name, pid } of contenders) console.log(`${name}: ${residentMb(pid)} MB resident`);
  } finally {
    reference.kill();
    webhook?.kill();
    if (webhook !== undefined && webhook.exitCode === null) await once(webhook, 'exit');
    server.closeAllConnections();
    server.close();
    teardown();
    rmSync(directory, { recursive: true, force: true });
  }
};
