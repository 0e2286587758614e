// K5: what is wrong with an annotation is said as it is written, by several replicas of the webhook as the chart installs it.
// With KUBE_APISERVER=/path Kubernetes' own API server calls them, and judges what to send at all. One file, since making
// cluster and replicas takes most of its time.

import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  KubernetesObject,
  V1Deployment,
  V1EnvVar,
  V1ValidatingWebhookConfiguration,
} from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readAnchors } from '../../src/webhook/serving-certificate.ts';
import { only, ROOT, render } from '../deploy/chart.ts';
import type { Daemon } from '../lab/daemon.ts';
import type { Host } from '../lab/host.ts';
import { ControlPlane } from '../lab/kube-control-plane.ts';
import { type Endpoint, KubeService } from '../lab/kube-service.ts';
import { Lab } from '../lab/lab.ts';
import { isLong } from '../lab/long.ts';
import { vl3 } from '../lab/program.ts';
import type { WebhookProgramOptions } from '../lab/webhook-program.ts';
import { parsePrometheusText, sumOf } from '../src/metrics/prometheus-text.ts';

const KEY = 'vl3.io/networks';
const CLUSTER_IP = '10.96.0.50';
const CONFIGURATIONS = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';
const OWN = `${CONFIGURATIONS}/vl3-webhook`;
const SOON = { timeout: 90_000, interval: 200 };
const MERGE = 'application/merge-patch+json';
/** Of a certificate, with calls all the while. */
const RENEWALS = isLong ? 2 : 1;

let lab: Lab;
let host: Host;
let plane: ControlPlane;
let service: KubeService;
let objects: KubernetesObject[];

const directory = (): string => join(lab.scratch, 'kube');

interface Replica extends Endpoint {
  readonly name: string;
  readonly program: Daemon;
}

let made = 0;
const place = async (name = `vl3-webhook-${made}`): Promise<Endpoint & { name: string }> => {
  made += 1;
  const address = `10.244.0.${10 + made}`;
  await service.place(address);
  return { name, address, port: 9443, metricsPort: 9645 };
};

/** A pod of the Deployment, as far as its environment goes. */
const start = async (name?: string): Promise<Replica> => {
  const at = await place(name);
  const { spec } = only<V1Deployment>(objects, 'Deployment');
  const { env = [], args = [] } = spec?.template.spec?.containers[0] ?? {};
  const textOf = ({ value, valueFrom }: V1EnvVar): string =>
    valueFrom?.fieldRef?.fieldPath === 'metadata.name'
      ? at.name
      : (value ?? '').replace('0.0.0.0', at.address);
  const given = Object.fromEntries(env.map((one) => [one.name, textOf(one)]));
  const command = vl3(...args, '--kubeconfig', join(directory(), 'kubeconfig'));
  return { ...at, program: host.start(command, { env: given }) };
};

const ready = async (...some: readonly Replica[]): Promise<void> => {
  for (const one of some)
    await vi.waitFor(async () => {
      if (!one.program.running) throw new Error(one.program.output());
      await service.isReady(one);
    }, SOON);
};

/** What is answered, whatever it is. */
const ask = async (
  method: string,
  path: string,
  body?: unknown,
  type = 'application/json',
): Promise<{ status: number; warnings: string[]; message: string; object: KubernetesObject }> => {
  const { stdout } = await host.tryRun(
    [
      ...['curl', '-sS', '-i', '--max-time', '20', '-X', method, '--cacert', join(directory(), 'ca.crt')],
      ...['-H', 'Authorization: Bearer admin-token', '-H', `Content-Type: ${type}`, '--http1.1'],
      ...(body === undefined ? [] : ['--data-binary', '@-']),
      `https://127.0.0.1:6443${path}`,
    ],
    body === undefined ? {} : { input: JSON.stringify(body) },
  );
  const end = stdout.indexOf('\r\n\r\n');
  const head = stdout.slice(0, end);
  const said = JSON.parse(stdout.slice(end));
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]),
    warnings: [...head.matchAll(/^warning: 299 - (".*")\r?$/gim)].map(([, one = '']) => JSON.parse(one)),
    message: said.message ?? '',
    object: said,
  };
};

const PODS = '/api/v1/namespaces/team-a/pods';
const create = (name: string, annotations: Record<string, string> = {}, more: object = {}, pods = PODS) =>
  ask('POST', pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, annotations },
    spec: { containers: [{ name: 'main', image: 'none' }], ...more },
  });
const change = (path: string, metadata: object) => ask('PATCH', path, { metadata }, MERGE);

const bundle = async (): Promise<string> => {
  const object: V1ValidatingWebhookConfiguration = (await ask('GET', OWN)).object;
  return Buffer.from(object.webhooks?.[0]?.clientConfig.caBundle ?? '', 'base64').toString();
};

const metricsOf = async ({ address, metricsPort }: Endpoint) =>
  parsePrometheusText(await host.run(['curl', '-sS', `http://${address}:${metricsPort}/metrics`]));
const reviews = async (): Promise<number> => {
  let sum = 0;
  for (const one of service.endpoints) sum += sumOf(await metricsOf(one), 'vl3_webhook_reviews_total') ?? 0;
  return sum;
};

let one: Replica;
let two: Replica;

beforeAll(async () => {
  lab = Lab.create();
  host = await lab.host('api');
  service = new KubeService(host, CLUSTER_IP, 443);
  await service.place('10.244.0.1');
  objects = render('--set', 'registry.trustDomain=home.example,webhook.enabled=true').filter(
    ({ metadata }) => metadata?.labels?.['app.kubernetes.io/component'] === 'webhook',
  );
  const rules = objects.filter(({ kind }) => kind?.startsWith('ClusterRole'));
  const rbac = join(lab.scratch, 'rbac.yaml');
  writeFileSync(rbac, rules.map((each) => `---\n${JSON.stringify(each)}\n`).join(''));
  plane = await ControlPlane.start({
    host,
    directory: directory(),
    address: '10.244.0.1',
    account: 'vl3-webhook',
    rbac,
  });
  console.log(`the API server is ${await plane.version()}`);
  await service.open();
  // Before what makes them of use, as Helm does.
  one = await start();
  two = await start();
}, 180_000);

afterAll(async () => {
  await lab?.close();
});

describe('what is installed', () => {
  test('is not ready before API servers know of it, and says why', async () => {
    const sentence = /ValidatingWebhookConfiguration vl3-webhook/;
    await vi.waitFor(() => expect(service.isReady(one)).rejects.toThrow(sentence), SOON);
    // It lives: it is not to be started again.
    await host.run(['curl', '-sSf', `http://${one.address}:${one.metricsPort}/healthz`]);
  });

  test('becomes ready once they do, each replica with a certificate that is trusted', async () => {
    const [of, configuration] = [only(objects, 'Service'), only(objects, 'ValidatingWebhookConfiguration')];
    Object.assign(Reflect.get(of, 'spec'), { clusterIP: CLUSTER_IP });
    expect(await ask('POST', '/api/v1/namespaces/vl3-system/services', of)).toMatchObject({ status: 201 });
    expect(await ask('POST', CONFIGURATIONS, configuration)).toMatchObject({ status: 201 });
    await ready(one, two);
    expect(readAnchors(await bundle())).toHaveLength(2);
    await service.route([one, two]);
  });

  test('may not look at any other configuration', async () => {
    const token = ['-H', 'Authorization: Bearer account-token', '--cacert', join(directory(), 'ca.crt')];
    const at = (path: string) => [
      'curl',
      '-sS',
      '-o',
      '/dev/null',
      '-w',
      '%{http_code}',
      ...token,
      `https://127.0.0.1:6443${path}`,
    ];
    expect(await host.run(at(OWN))).toBe('200');
    for (const path of [`${CONFIGURATIONS}/other`, CONFIGURATIONS, PODS, '/api/v1/namespaces'])
      expect(await host.run(at(path)), path).toBe('403');
  });
});

describe('a pod', () => {
  test('with a wrong annotation is refused, with the place', async () => {
    const { status, message } = await create('wrong', { [KEY]: 'red, Blue' });
    expect(status).toBe(422);
    expect(message).toMatch(
      /^admission webhook "networks\.vl3\.io" denied the request: vl3\.io\/networks, character 6: "Blue" is not the name of a network: .*\n {2}red, Blue\n {7}\^$/,
    );
    expect((await ask('GET', `${PODS}/wrong`)).status).toBe(404);
    const nsm = await create('wrong', { 'networkservicemesh.io': 'kernel://red/interface-too-long' });
    expect(nsm).toMatchObject({
      status: 422,
      message: expect.stringMatching(/networkservicemesh\.io, character 29:/),
    });
  });

  test('with a good one is made, as it was asked for, without a word', async () => {
    const annotations = { [KEY]: 'red, green/net1?app=web' };
    const { status, warnings, object } = await create('good', annotations);
    expect({ status, warnings }).toEqual({ status: 201, warnings: [] });
    expect(object.metadata?.annotations).toEqual(annotations);
  });

  test('with an odd one is made, with warnings', async () => {
    const annotations = { [KEY]: 'red', 'vl3.io/network': 'x' };
    const { status, warnings } = await create('odd', annotations, { hostNetwork: true });
    expect(status).toBe(201);
    expect(warnings).toEqual([
      expect.stringMatching(/^annotation vl3\.io\/network is not known to vl3/),
      expect.stringMatching(/left out/),
    ]);
  });

  test('that runs is not changed to a wrong one, and can be changed otherwise', async () => {
    const bad = await change(`${PODS}/good`, { annotations: { [KEY]: 'red,' } });
    expect(bad).toMatchObject({ status: 422, message: expect.stringMatching(/character 5: /) });
    expect((await change(`${PODS}/good`, { annotations: { [KEY]: 'green' } })).status).toBe(200);
    expect((await change(`${PODS}/good`, { annotations: { [KEY]: null } })).status).toBe(200);
  });
});

describe('a namespace', () => {
  const namespace = (name: string, annotations: Record<string, string>) =>
    ask('POST', '/api/v1/namespaces', {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, annotations },
    });

  test('is held to the same', async () => {
    expect(await namespace('team-b', { [KEY]: 'red red' })).toMatchObject({
      status: 422,
      message: expect.stringMatching(/character 5: a comma is missing/),
    });
    expect((await namespace('team-b', { [KEY]: 'red' })).status).toBe(201);
    const wrong = await change('/api/v1/namespaces/team-b', { annotations: { [KEY]: '/' } });
    expect(wrong).toMatchObject({ status: 422, message: expect.stringMatching(/character 1: /) });
  });

  test('of the cluster itself, or of vl3, is left alone with all that is in it', async () => {
    const before = await reviews();
    if (ControlPlane.isReal) {
      // It makes this one itself, in its own time.
      await vi.waitFor(
        async () => expect((await ask('GET', '/api/v1/namespaces/kube-system')).status).toBe(200),
        SOON,
      );
    } else await namespace('kube-system', {});
    for (const name of ['kube-system', 'vl3-system']) {
      expect((await change(`/api/v1/namespaces/${name}`, { annotations: { [KEY]: ',' } })).status).toBe(200);
      expect((await create('wrong', { [KEY]: ',' }, {}, `/api/v1/namespaces/${name}/pods`)).status).toBe(201);
    }
    expect(await reviews()).toBe(before);
  });
});

test.runIf(ControlPlane.isReal)('what says nothing new to vl3 is never sent', async () => {
  const before = await reviews();
  const others = { 'prometheus.io/scrape': 'true', 'k8s.v1.cni.cncf.io/networks': 'Blue,,' };
  for (let i = 0; i < 10; i++) {
    expect((await create(`plain-${i}`)).status).toBe(201);
    expect((await create(`other-${i}`, others)).status).toBe(201);
    expect((await change(`${PODS}/plain-${i}`, { labels: { a: `${i}` }, annotations: others })).status).toBe(
      200,
    );
  }
  const own = `${PODS}/odd`;
  expect((await change(own, { labels: { a: 'b' } })).status).toBe(200);
  expect((await change(own, { annotations: { 'vl3.io/network-status': '[]' } })).status).toBe(200);
  expect((await change(own, { annotations: { 'vl3.io/network': null } })).status).toBe(200);
  expect(
    (await change('/api/v1/namespaces/team-a', { labels: { a: 'b' }, annotations: others })).status,
  ).toBe(200);
  expect((await ask('DELETE', `${PODS}/plain-0?gracePeriodSeconds=0`)).status).toBe(200);
  expect(await reviews()).toBe(before);
  // What does is.
  expect((await create('sent', { ...others, [KEY]: 'red' })).status).toBe(201);
  expect(await reviews()).toBe(before + 1);
});

describe.runIf(ControlPlane.isReal)('kubectl', () => {
  /** What it says, both streams. */
  const kubectl = async (line: string, ...more: string[]): Promise<string> => {
    const program = resolve(ROOT, 'deploy/setup/tools/node_modules/.programs/kubectl/kubectl');
    const trust = ['--certificate-authority', join(directory(), 'ca.crt'), '--token', 'admin-token'];
    const env = { HOME: '/nonexistent', KUBECONFIG: '/dev/null' };
    const all = [program, '--server', 'https://127.0.0.1:6443', ...trust, ...line.split(' '), ...more];
    const { stdout, stderr } = await host.tryRun(all, { env });
    console.log(`kubectl ${line} ${more.join(' ')}\n${stderr}${stdout}`);
    return `${stderr}${stdout}`;
  };
  const annotate = (text: string) => kubectl('--namespace team-a annotate pod plain-1', text);

  test('shows the place, and warns', async () => {
    expect(await annotate(`${KEY}=red, green/interface-too-long`)).toMatch(
      /networks\.vl3\.io.*vl3\.io\/networks, character 27: .*\n {2}red, green\/interface-too-long\n {28}\^/,
    );
    expect(await annotate('vl3.io/network=red')).toMatch(
      /^Warning: annotation vl3\.io\/network is not known to vl3/m,
    );
  });

  test('that applies the configuration again, as an upgrade does, leaves alone whom API servers trust', async () => {
    const file = join(lab.scratch, 'configuration.json');
    writeFileSync(file, JSON.stringify(only(objects, 'ValidatingWebhookConfiguration')));
    const before = await bundle();
    for (const how of ['apply', 'apply', 'apply --server-side --force-conflicts --field-manager=helm']) {
      expect(await kubectl(`${how} -f ${file}`)).toMatch(
        /vl3-webhook (configured|unchanged|serverside-applied)/,
      );
      expect(await bundle()).toBe(before);
    }
  });
});

describe('replicas that come and go', () => {
  /** Tries to make a wrong pod every now and then; answers how often it was refused, and every other answer. */
  const meanwhile = async (work: () => Promise<void>): Promise<{ refused: number; others: unknown[] }> => {
    let isOver = false;
    const seen = { refused: 0, others: [] as unknown[] };
    const trying = (async () => {
      for (let i = 0; !isOver; i++) {
        const { status, message } = await create(`wrong-${i}`, { [KEY]: 'red,' });
        if (status === 422) seen.refused += 1;
        else seen.others.push({ status, message });
        await sleep(100);
      }
    })();
    try {
      await work();
    } finally {
      isOver = true;
      await trying;
    }
    return seen;
  };

  test('one after the other, as an update has it, let nothing wrong pass in between', async () => {
    const { refused, others } = await meanwhile(async () => {
      for (const old of [one, two]) {
        const next = await start();
        await ready(next);
        const kept = service.endpoints.filter(({ address }) => address !== old.address);
        await service.route([...kept, next]);
        // What preStop waits for: connections that are there yet.
        await sleep(1000);
        expect(await old.program.stop()).toBe(0);
        if (old === one) one = next;
        else two = next;
      }
    });
    console.log(`${refused} wrong pods were refused while both replicas were replaced`);
    expect(others).toEqual([]);
    expect(refused).toBeGreaterThan(5);
    // Who left took its certificate along.
    await vi.waitFor(async () => expect(readAnchors(await bundle())).toHaveLength(2), SOON);
  });

  test('are trusted again when somebody took the trust away', async () => {
    await plane.stop();
    await plane.start();
    const webhooks = [{ name: 'networks.vl3.io', clientConfig: { caBundle: '' } }];
    const emptied = await ask('PATCH', OWN, { webhooks }, 'application/strategic-merge-patch+json');
    expect(emptied.status).toBe(200);
    await vi.waitFor(async () => expect(readAnchors(await bundle())).toHaveLength(2), SOON);
    await ready(one, two);
    expect((await create('wrong', { [KEY]: 'red,' })).status).toBe(422);
  });

  test('may die: the other answers, and its successor leaves one certificate of that name', async () => {
    await one.program.stop('SIGKILL');
    await service.route([two]);
    expect((await create('wrong', { [KEY]: 'red,' })).status).toBe(422);
    const again = await start(one.name);
    await ready(again);
    expect(readAnchors(await bundle())).toHaveLength(2);
    one = again;
    await service.route([one, two]);
    expect((await create('wrong', { [KEY]: 'red,' })).status).toBe(422);
  });

  test('renew their certificates without a call that fails', async () => {
    const at = await place('short');
    const options: WebhookProgramOptions = {
      name: 'short',
      listen: { host: at.address, port: at.port },
      metrics: { host: at.address, port: at.metricsPort },
      configuration: 'vl3-webhook',
      kubeconfig: join(directory(), 'kubeconfig'),
      trustDomain: undefined,
      pace: { lifetimeMs: 24_000, readyAfterMs: 1000, switchAfterMs: 2000, lookMs: 500, hastyMs: 200 },
    };
    const file = resolve(import.meta.dirname, '../lab/webhook-program.ts');
    const program = host.start([process.execPath, file, JSON.stringify(options)]);
    const short = { ...at, program };
    await ready(short);
    await service.route([short]);
    const { refused, others } = await meanwhile(() =>
      vi.waitFor(
        async () =>
          expect(
            sumOf(await metricsOf(short), 'vl3_webhook_certificate_renewals_total'),
          ).toBeGreaterThanOrEqual(RENEWALS),
        { timeout: 120_000, interval: 1000 },
      ),
    );
    console.log(`${refused} wrong pods were refused while the certificate was renewed, ${RENEWALS} times`);
    expect(others).toEqual([]);
    await service.route([one, two]);
    expect(await program.stop()).toBe(0);
    await vi.waitFor(async () => expect(readAnchors(await bundle())).toHaveLength(2), SOON);
  });

  test('that are all away hold nobody up, and what was let in can be changed when they are back', async () => {
    await service.route([]);
    expect((await create('let-in', { [KEY]: 'red,' })).status).toBe(201);
    await service.route([one, two]);
    expect((await change(`${PODS}/let-in`, { labels: { a: 'b' } })).status).toBe(200);
    expect((await change(`${PODS}/let-in`, { annotations: { [KEY]: 'red,,' } })).status).toBe(422);
    expect((await change(`${PODS}/let-in`, { annotations: { [KEY]: 'red' } })).status).toBe(200);
  });
});

test.runIf(ControlPlane.isReal)('what its calls took is told, as the API server saw them', async () => {
  const { stdout } = await host.tryRun([
    ...['curl', '-sS', '--cacert', join(directory(), 'ca.crt'), '-H', 'Authorization: Bearer admin-token'],
    'https://127.0.0.1:6443/metrics',
  ]);
  const lines = stdout.split('\n').filter((line) => line.includes('name="networks.vl3.io"'));
  const of = (name: string, label = ''): number =>
    lines
      .filter((line) => line.startsWith(`apiserver_admission_webhook_admission_duration_seconds_${name}{`))
      .filter((line) => line.includes(label))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  const [count, sum, quick] = [of('count'), of('sum'), of('bucket', 'le="0.005"')];
  expect(count).toBeGreaterThan(0);
  const shares = `mean ${((sum / count) * 1000).toFixed(1)} ms, ${((quick / count) * 100).toFixed(0)} % within 5 ms`;
  console.log(
    `${count} calls since the API server's last start: ${shares}; load ${loadavg()[0]?.toFixed(1)}`,
  );
});

test('a webhook that is told to stop ends well, and takes its certificate along', async () => {
  for (const { program } of [one, two]) expect(await program.stop()).toBe(0);
  expect(readAnchors(await bundle())).toHaveLength(0);
});

test('one that cannot know its cluster ends with a sentence', async () => {
  const { code, stderr } = await host.tryRun(vl3('webhook', 'run', '--kubeconfig', '/nonexistent'));
  expect(code).toBe(1);
  expect(stderr).toMatch(/^vl3: \/nonexistent cannot be used .*check --kubeconfig$/m);
  const alone = await host.tryRun(vl3('webhook', 'run'));
  expect(alone.stderr).toMatch(
    /no service account of a cluster here: run the webhook as a pod of the cluster, or name/,
  );
});
