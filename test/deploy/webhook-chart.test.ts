// The webhook as the chart installs it: well-formed, all names agree, and it can do as little harm as it may.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type {
  KubernetesObject,
  V1ClusterRole,
  V1ClusterRoleBinding,
  V1Deployment,
  V1NetworkPolicy,
  V1PodDisruptionBudget,
  V1Service,
  V1ValidatingWebhookConfiguration,
} from '@kubernetes/client-node';
import { expect, test } from 'vitest';
import { webhookSettings } from '../../src/config/webhook-settings.ts';
import { REVIEW_PATH } from '../../src/webhook/review-server.ts';
import { CHART, DOMAIN, only, ROOT, render, run, template } from './chart.ts';
import { problemsOf } from './schemas.ts';

const ON = [...DOMAIN, '--set', 'webhook.enabled=true'];
const ALONE = ['--set', 'registry.enabled=false,agent.enabled=false,webhook.enabled=true'];
const SHAPES: Record<string, string[]> = {
  'as it is': ON,
  'on the nodes’ network': [...ON, '--set', 'webhook.hostNetwork=true,networkPolicy.enabled=true'],
  'with everything': [
    ...ON,
    ...[
      '--set',
      'webhook.replicas=3,webhook.port=10250,webhook.metricsPort=10260,webhook.priorityClassName=p',
    ],
    ...['--set', 'webhook.excludedNamespaces={kube-system,team-b},networkPolicy.enabled=true'],
    ...['--set', 'networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring'],
    ...['--set', 'image.pullSecrets={one},webhook.tolerations[0].operator=Exists'],
  ],
  'and nothing else of vl3': ALONE,
};

const ofWebhook = (options: readonly string[]): KubernetesObject[] =>
  render(...options).filter(
    ({ metadata }) => metadata?.labels?.['app.kubernetes.io/component'] === 'webhook',
  );

const podOf = (objects: readonly KubernetesObject[]) => {
  const { spec } = only<V1Deployment>(objects, 'Deployment');
  const container = spec?.template.spec?.containers[0];
  if (spec?.template.spec === undefined || container === undefined) throw new Error('it has no pods');
  return { spec, pod: spec.template.spec, container };
};

test('there is nothing of it unless it is asked for', () => {
  expect(template(...DOMAIN)).not.toMatch(/webhook/i);
});

test.each(Object.entries(SHAPES))('the chart with the webhook %s is well-formed', async (_, options) => {
  expect(run('helm', 'lint', '--strict', CHART, ...options)).toMatch(/0 chart\(s\) failed/);
  const objects = ofWebhook(options);
  expect(objects.length).toBeGreaterThanOrEqual(7);
  expect((await Promise.all(objects.map(problemsOf))).flat()).toEqual([]);
});

test.each(Object.entries(SHAPES))('with the webhook %s, what names each other agrees', (_, options) => {
  const objects = ofWebhook(options);
  const { spec, pod, container } = podOf(objects);
  const service: V1Service = only(objects, 'Service');
  const configuration: V1ValidatingWebhookConfiguration = only(objects, 'ValidatingWebhookConfiguration');
  const labels = spec.template.metadata?.labels ?? {};
  expect(labels).toMatchObject(service.spec?.selector ?? { none: '' });
  expect(labels).toMatchObject(spec.selector.matchLabels ?? { none: '' });
  const budget: V1PodDisruptionBudget = only(objects, 'PodDisruptionBudget');
  expect(labels).toMatchObject(budget.spec?.selector?.matchLabels ?? { none: '' });

  const ports = new Map(container.ports?.map(({ name, containerPort }) => [name, containerPort]));
  const [port] = service.spec?.ports ?? [];
  const called = configuration.webhooks?.[0]?.clientConfig.service;
  expect(called).toEqual({
    name: service.metadata?.name,
    namespace: 'vl3-system',
    path: REVIEW_PATH,
    port: port?.port,
  });
  const env = new Map(container.env?.map(({ name, value }) => [name, value]));
  expect(ports.get(String(port?.targetPort))).toBe(Number(env.get('VL3_WEBHOOK_LISTEN')?.split(':')[1]));
  expect(ports.get('metrics')).toBe(Number(env.get('VL3_WEBHOOK_METRICS_LISTEN')?.split(':')[1]));
  for (const probe of [container.livenessProbe, container.readinessProbe])
    expect([...ports.keys()]).toContain(probe?.httpGet?.port);
  expect(env.get('VL3_WEBHOOK_CONFIGURATION')).toBe(configuration.metadata?.name);
  const known = Object.keys(webhookSettings.schema.shape).map(
    (key) => `VL3_WEBHOOK_${key.toUpperCase().replaceAll('-', '_')}`,
  );
  for (const name of env.keys()) expect(known).toContain(name);
  const account: KubernetesObject = only(objects, 'ServiceAccount');
  expect(pod.serviceAccountName).toBe(account.metadata?.name);
});

test('it knows of which domain its cluster is, also where the registry is elsewhere', () => {
  const told = (...options: string[]): string | undefined =>
    podOf(ofWebhook(options)).container.env?.find(({ name }) => name === 'VL3_WEBHOOK_TRUST_DOMAIN')?.value;
  const elsewhere = 'agent.domain=vl3://far.example?ca=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8';
  expect(told(...ON)).toBe('test.example');
  expect(told('--set', `registry.enabled=false,webhook.enabled=true,${elsewhere}`)).toBe('far.example');
  expect(told(...ALONE)).toBeUndefined();
});

test('it may read and write the one object that is its own, and nothing else', () => {
  const objects = ofWebhook(ON);
  const role: V1ClusterRole = only(objects, 'ClusterRole');
  const configuration: V1ValidatingWebhookConfiguration = only(objects, 'ValidatingWebhookConfiguration');
  expect(role.rules).toEqual([
    {
      apiGroups: ['admissionregistration.k8s.io'],
      resources: ['validatingwebhookconfigurations'],
      resourceNames: [configuration.metadata?.name],
      verbs: ['get', 'patch'],
    },
  ]);
  const binding: V1ClusterRoleBinding = only(objects, 'ClusterRoleBinding');
  expect(binding.roleRef.name).toBe(role.metadata?.name);
  const { pod } = podOf(objects);
  const subject = { kind: 'ServiceAccount', name: pod.serviceAccountName, namespace: 'vl3-system' };
  expect(binding.subjects).toEqual([subject]);
});

test('its pods may do nothing on their node, and are of different ones where that can be', () => {
  const { spec, pod, container } = podOf(ofWebhook(ON));
  expect(pod).toMatchObject({ securityContext: { runAsNonRoot: true }, automountServiceAccountToken: true });
  expect(pod.hostNetwork).toBeUndefined();
  expect(container.securityContext).toEqual({
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  expect(spec.replicas).toBe(2);
  expect(pod.topologySpreadConstraints).toMatchObject([{ topologyKey: 'kubernetes.io/hostname' }]);
  // While API servers go on calling it, it goes on answering.
  expect(container.lifecycle?.preStop?.exec?.command).toEqual(['sleep', '5']);
});

test.each(Object.entries(SHAPES))('with the webhook %s, a cluster never waits for it', (_, options) => {
  const { webhooks = [] }: V1ValidatingWebhookConfiguration = only(
    ofWebhook(options),
    'ValidatingWebhookConfiguration',
  );
  expect(webhooks).toHaveLength(1);
  const [webhook] = webhooks;
  expect(webhook).toMatchObject({ failurePolicy: 'Ignore', sideEffects: 'None', timeoutSeconds: 2 });
  const [{ key, operator, values = [] } = {}] = webhook?.namespaceSelector?.matchExpressions ?? [];
  expect({ key, operator }).toEqual({ key: 'kubernetes.io/metadata.name', operator: 'NotIn' });
  expect(values).toEqual(expect.arrayContaining(['kube-system', 'vl3-system']));
  expect(new Set(values).size).toBe(values.length);
  // What is sent without a condition would be every pod.
  expect(webhook?.matchConditions).toHaveLength(1);
  expect(webhook?.clientConfig.caBundle).toBeUndefined();
  const written = webhook?.rules?.flatMap(({ resources = [], operations = [] }) =>
    resources.flatMap((resource) => operations.map((one) => `${one} ${resource}`)),
  );
  expect(written).toEqual(['CREATE pods', 'UPDATE pods', 'CREATE namespaces', 'UPDATE namespaces']);
});

test('a network policy lets API servers in, and to its metrics only who was named', () => {
  const policy: V1NetworkPolicy = only(ofWebhook(SHAPES['with everything'] ?? []), 'NetworkPolicy');
  const from = [{ namespaceSelector: { matchLabels: { name: 'monitoring' } } }];
  expect(policy.spec?.ingress).toEqual([
    { ports: [{ port: 'webhook', protocol: 'TCP' }] },
    { ports: [{ port: 'metrics', protocol: 'TCP' }], from },
  ]);
  expect(ofWebhook(SHAPES['on the nodes’ network'] ?? []).map(({ kind }) => kind)).not.toContain(
    'NetworkPolicy',
  );
});

test.each([
  ['no replica', 'webhook.replicas=0', /minimum/],
  ['a port that only root opens', 'webhook.port=443', /minimum/],
  ['a namespace that is none', 'webhook.excludedNamespaces={Team A}', /pattern/],
  [
    'a policy that would hold pods up',
    'webhook.failurePolicy=Fail',
    /additional properties 'failurePolicy' not allowed/,
  ],
])('%s is refused', (_, value, reason) => {
  expect(() => template(...ON, '--set', value)).toThrow(reason);
});

test('where API servers could not tell what to send, it is refused', () => {
  expect(() => template(...ALONE, '--kube-version', '1.27.9')).toThrow(
    /webhook\.enabled needs Kubernetes 1\.28/,
  );
});

test('the image can do what the pod asks of it before it ends', () => {
  const collect = readFileSync(resolve(ROOT, 'deploy/container/collect.sh'), 'utf8');
  expect(collect).toMatch(/^programs='.*\bsleep\b.*'$/m);
});
