// What the chart renders of trust: the CA apart, identities of another issuer, the bundle's endpoint. That the programs take it.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type {
  KubernetesObject,
  V1DaemonSet,
  V1NetworkPolicy,
  V1PodSpec,
  V1Service,
  V1StatefulSet,
} from '@kubernetes/client-node';
import { describe, expect, onTestFinished, test } from 'vitest';
import { inProcess } from '../cmd/vl3/in-process.ts';
import { DOMAIN, render, template } from './chart.ts';

const set = (...values: string[]): string[] => [...DOMAIN, ...values.flatMap((one) => ['--set', one])];

const podOf = (objects: readonly KubernetesObject[], name: string): V1PodSpec => {
  const found = objects.find(
    (one): one is V1StatefulSet | V1DaemonSet =>
      ['StatefulSet', 'DaemonSet'].includes(one.kind ?? '') && one.metadata?.name === name,
  );
  if (found?.spec?.template.spec === undefined) throw new Error(`there are no pods of ${name}`);
  return found.spec.template.spec;
};

const environmentOf = (pod: V1PodSpec): Record<string, string> =>
  Object.fromEntries(
    (pod.containers[0]?.env ?? []).flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]])),
  );

const mountsOf = (pod: V1PodSpec) =>
  Object.fromEntries((pod.containers[0]?.volumeMounts ?? []).map(({ name, mountPath }) => [mountPath, name]));

const volumeOf = (pod: V1PodSpec, name: string | undefined) => pod.volumes?.find((one) => one.name === name);

/** What `vl3 <program> config` says of a pod's environment. */
const inForce = async (program: string, pod: V1PodSpec): Promise<Record<string, unknown>> => {
  const { code, out, err } = await inProcess([program, 'config', '-o', 'json'], environmentOf(pod));
  expect([code, err]).toEqual([0, '']);
  const rows: { key: string; value: unknown }[] = JSON.parse(out);
  return Object.fromEntries(rows.map(({ key, value }) => [key, value]));
};

describe('a CA apart', () => {
  const objects = () =>
    render(...set('ca.enabled=true,registry.signer.credentialSecret=signer,agent.enrolment=joinTokens'));

  test('is made where its key stays, and the registry goes to it by a credential of its own', async () => {
    const [ca, registry] = [podOf(objects(), 'vl3-ca'), podOf(objects(), 'vl3-registry')];
    expect(ca.initContainers?.[0]?.args).toEqual(['ca', 'init', '--trust-domain', 'test.example']);
    expect(await inForce('ca', ca)).toMatchObject({ 'trust-domain': 'test.example', listen: '0.0.0.0:7444' });
    const settings = await inForce('registry', registry);
    expect(settings['signer']).toBe('/var/lib/vl3/signer/registry.json');
    // Neither of them is asked for the word of a cluster, nor gives it.
    for (const key of ['kubernetes-clusters', 'publish-domain']) expect(settings).not.toHaveProperty(key);
    for (const pod of [ca, registry]) expect(pod.automountServiceAccountToken).toBe(false);
    expect(JSON.stringify(registry)).not.toContain('"ca"');
  });

  test('is in a release of its own where nothing else is', () => {
    const alone = render(...set('ca.enabled=true,registry.enabled=false,agent.enabled=false'));
    expect(alone.map(({ kind }) => kind).toSorted()).toEqual(['Service', 'ServiceAccount', 'StatefulSet']);
  });

  test("renews the registry's credential in place, until there is another Secret", () => {
    const step = podOf(objects(), 'vl3-registry').initContainers?.[0];
    const root = mkdtempSync(join(tmpdir(), 'vl3-signer-'));
    onTestFinished(() => rmSync(root, { recursive: true, force: true }));
    const [given, own] = [join(root, 'etc'), join(root, 'state')];
    mkdirSync(given);
    mkdirSync(own);
    const start = () => {
      const script = (step?.args?.[0] ?? '')
        .replaceAll('/etc/vl3/signer', given)
        .replaceAll('/var/lib/vl3', own);
      const [shell = '', ...flags] = step?.command ?? [];
      execFileSync(shell, [...flags, script]);
      return readFileSync(join(own, 'signer/registry.json'), 'utf8');
    };
    writeFileSync(join(given, 'registry.json'), 'first', { mode: 0o440 });
    expect(start()).toBe('first');
    expect(statSync(join(own, 'signer/registry.json')).mode & 0o077).toBe(0);
    writeFileSync(join(own, 'signer/registry.json'), 'first, renewed');
    expect(start()).toBe('first, renewed');
    rmSync(join(given, 'registry.json'));
    writeFileSync(join(given, 'registry.json'), 'second', { mode: 0o440 });
    expect(start()).toBe('second');
  });
});

describe('an identity of another issuer', () => {
  test.each([
    ['the CSI driver', 'identity.source=workloadApi', { csi: { driver: 'csi.spiffe.io', readOnly: true } }],
    [
      'a directory of the nodes',
      'identity.source=workloadApi,identity.workloadApi.csiDriver=,identity.workloadApi.hostDirectory=/run/s',
      { hostPath: { path: '/run/s', type: 'Directory' } },
    ],
  ])('comes to registry and agents by %s', async (_, values, volume) => {
    const objects = render(...set(values));
    for (const [program, name] of [
      ['registry', 'vl3-registry'],
      ['agent', 'vl3-agent'],
    ] as const) {
      const pod = podOf(objects, name);
      const { identity } = await inForce(program, pod);
      expect(identity).toBe('unix:///run/spiffe/spire-agent.sock');
      expect(volumeOf(pod, mountsOf(pod)['/run/spiffe'])).toMatchObject(volume);
    }
    const agent = await inForce('agent', podOf(objects, 'vl3-agent'));
    expect(agent).toMatchObject({
      registry: ['vl3-registry.vl3-system.svc:7443'],
      'trust-domain': 'test.example',
    });
    for (const key of ['token-file', 'kubernetes-token-file', 'domain-file', 'name'])
      expect(agent).not.toHaveProperty(key);
  });

  test('comes by files, of which the registry has two directories and a node its own', async () => {
    const objects = render(
      ...set('identity.source=files', 'identity.files.names=tls.crt\\,tls.key\\,ca.crt'),
    );
    const registry = podOf(objects, 'vl3-registry');
    const settings = await inForce('registry', registry);
    expect(settings['identity-files']).toBe('tls.crt,tls.key,ca.crt');
    for (const [key, secret] of [
      ['identity', 'vl3-registry-svid'],
      ['admission-identity', 'vl3-admission-svid'],
    ] as const) {
      const name = mountsOf(registry)[String(settings[key])];
      expect(volumeOf(registry, name)?.secret?.secretName).toBe(secret);
    }
    const agent = podOf(objects, 'vl3-agent');
    const { identity } = await inForce('agent', agent);
    expect(volumeOf(agent, mountsOf(agent)[String(identity)])?.hostPath?.path).toBe('/run/vl3-svid');
  });

  test('brings the bundles of partners that are named', async () => {
    const values = 'identity.source=workloadApi,registry.givenBundles={partner.example,other.example}';
    const { 'given-bundle': given } = await inForce(
      'registry',
      podOf(render(...set(values)), 'vl3-registry'),
    );
    expect(given).toEqual(['partner.example', 'other.example']);
  });

  test('in a cluster without the registry goes to the one that is named', async () => {
    const values =
      'identity.source=workloadApi,registry.enabled=false,agent.registries={registry.example:7443}';
    const agent = await inForce('agent', podOf(render(...set(values)), 'vl3-agent'));
    expect(agent['registry']).toEqual(['registry.example:7443']);
  });
});

test("the bundle's endpoint has a port of the Service, and a certificate of the web's where there is one", async () => {
  const values = [
    'registry.bundleEndpoint.enabled=true,registry.bundleEndpoint.certificateSecret=web',
    'registry.bundleEndpoint.url=https://b.example/bundle.json,registry.partnerWebCaConfigMap=cas',
    // So that there is no file of clusters, which is looked at.
    'registry.clusters.own.enabled=false,agent.enrolment=joinTokens',
  ];
  const objects = render(...set(...values));
  const service = objects.find((one): one is V1Service => one.kind === 'Service');
  expect(service?.spec?.ports?.map(({ port, targetPort }) => [port, targetPort])).toContainEqual([
    8443,
    'bundle',
  ]);
  const pod = podOf(objects, 'vl3-registry');
  const settings = await inForce('registry', pod);
  expect(settings).toMatchObject({
    'bundle-listen': '0.0.0.0:8443',
    'bundle-url': 'https://b.example/bundle.json',
    'bundle-certificate': '/etc/vl3/bundle/tls.crt',
    'bundle-key': '/etc/vl3/bundle/tls.key',
    'partner-web-ca': '/etc/vl3/partner-web-ca/ca.pem',
  });
  expect(volumeOf(pod, mountsOf(pod)['/etc/vl3/bundle'])?.secret?.secretName).toBe('web');
  expect(volumeOf(pod, mountsOf(pod)['/etc/vl3/partner-web-ca'])?.configMap?.name).toBe('cas');
});

test('how packets are moved is set as the agent has it', async () => {
  const agent = (...values: string[]) => inForce('agent', podOf(render(...set(...values)), 'vl3-agent'));
  expect(await agent()).toMatchObject({ 'worker-pairs': 'auto', 'sparse-first': 'on' });
  const other = await agent('agent.workerPairs=4,agent.sparseFirst=false');
  expect(other).toMatchObject({ 'worker-pairs': '4', 'sparse-first': 'off' });
});

describe('the policy lets', () => {
  const policies = (...values: string[]) =>
    render(...set('networkPolicy.enabled=true', ...values)).filter(
      (one): one is V1NetworkPolicy => one.kind === 'NetworkPolicy',
    );
  const out = ({ spec }: V1NetworkPolicy) =>
    (spec?.egress ?? []).flatMap(({ ports = [] }) => ports.map(({ port }) => port));

  test('the registry go to partners, and to its CA, once they are named', () => {
    const [alone] = policies('registry.clusters.own.enabled=false,agent.enrolment=joinTokens');
    expect(alone && out(alone)).toEqual([]);
    const [federated] = policies('networkPolicy.partnerPorts={7443,8443}');
    expect(federated && out(federated)).toEqual([443, 6443, 7443, 8443, 53, 53]);
    const [apart] = policies(
      'registry.signer.credentialSecret=s,registry.signer.port=7555,agent.enrolment=joinTokens',
    );
    expect(apart && out(apart)).toEqual([7555, 53, 53]);
  });

  test('the CA go nowhere, and those come to it that are named, beside the registry', () => {
    const ca = (...values: string[]) =>
      policies('ca.enabled=true', ...values).find(({ metadata }) => metadata?.name === 'vl3-ca');
    expect(ca()?.spec).toMatchObject({ egress: [], ingress: [{ ports: [{ port: 'ca' }] }] });
    expect(ca()?.spec?.ingress?.[0]).not.toHaveProperty('from');
    const [named] = ca('networkPolicy.caFrom[0].ipBlock.cidr=192.0.2.0/24')?.spec?.ingress ?? [];
    expect(named).toMatchObject({
      from: [
        { ipBlock: { cidr: '192.0.2.0/24' } },
        { podSelector: { matchLabels: { 'app.kubernetes.io/component': 'registry' } } },
      ],
    });
  });
});

test.each([
  [
    'a signer apart, and nodes by the word of their cluster',
    'registry.signer.credentialSecret=s',
    /takes the word of no cluster, set it to joinTokens/,
  ],
  [
    'a signer apart, and other clusters',
    'registry.signer.credentialSecret=s,agent.enrolment=joinTokens,registry.clusters.others[0].name=w,registry.clusters.others[0].issuer=i,registry.clusters.others[0].keys=https://w',
    /with a signer apart nodes do not enrol by the word of their cluster/,
  ],
  [
    'two issuers',
    'identity.source=files,registry.signer.credentialSecret=s',
    /identity\.source is set: leave one of them out/,
  ],
  [
    'a CA beside an issuer',
    'identity.source=files,ca.enabled=true',
    /identity\.source is set: leave one of them out/,
  ],
  [
    'join tokens beside an issuer',
    'identity.source=files,agent.enrolment=joinTokens',
    /identity\.source is set: leave one of them out/,
  ],
  [
    'no registry for an SVID',
    'identity.source=files,registry.enabled=false',
    /agent\.registries is required/,
  ],
  ['registries without an SVID', 'agent.registries={r.example}', /for nodes with an identity of their own/],
  [
    'bundles that nobody gives',
    'registry.givenBundles={partner.example}',
    /set identity\.source=workloadApi/,
  ],
  ['an issuer that there is not', 'identity.source=vault', /identity/],
  ['a socket that is a path', 'identity.workloadApi.socket=a/b', /pattern/],
  [
    'a certificate for no endpoint',
    'registry.bundleEndpoint.certificateSecret=web',
    /set registry\.bundleEndpoint\.enabled=true/,
  ],
  [
    'an endpoint that nobody can be told of',
    'registry.bundleEndpoint.enabled=true',
    /set its url, or registry\.advertise/,
  ],
  ['three pairs', 'agent.workerPairs=3', /workerPairs/],
])('%s are refused', (_, values, reason) => {
  let said = '';
  try {
    template(...set(values));
  } catch (error) {
    said = String(error);
  }
  expect(said).toMatch(reason);
});
