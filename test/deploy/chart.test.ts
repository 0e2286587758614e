// K3: what the chart renders, without a cluster: Helm's own checks, Kubernetes' schemas, and that all names agree.
// One file, since each rendering is judged by all of it.

import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type {
  KubernetesObject,
  V1ClusterRole,
  V1ClusterRoleBinding,
  V1ConfigMap,
  V1DaemonSet,
  V1PodSpec,
  V1Role,
  V1RoleBinding,
  V1Service,
  V1StatefulSet,
  V1ValidatingAdmissionPolicy,
  V1ValidatingAdmissionPolicyBinding,
} from '@kubernetes/client-node';
import { describe, expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { formatSpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { agentSettings } from '../../src/config/agent-settings.ts';
import { caSettings } from '../../src/config/ca-settings.ts';
import { registrySettings } from '../../src/config/registry-settings.ts';
import { parseDomainAddress } from '../../src/identity/domain-address.ts';
import { parseClusters } from '../../src/registry/cluster-config.ts';
import { CHART, DOMAIN, only, ROOT, render, run, template } from './chart.ts';
import { problemsOf } from './schemas.ts';

const CA = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8';
const ELSEWHERE = ['--set', `agent.domain=vl3://far.example?ca=${CA}&registry=registry.far.example:7443`];
const KEY_SET = '{"keys":[{"kty":"EC","kid":"one","crv":"P-256","x":"a","y":"b"}]}';
const OTHERS = [
  '--set-json',
  `registry.clusters.others=${JSON.stringify([
    { name: 'west', issuer: 'https://west.example', keys: KEY_SET },
    {
      ...{ name: 'far', issuer: 'https://far.example', keys: 'https://far.example/keys' },
      ...{ serviceAccount: 'net/agent', audience: 'vl3' },
    },
  ])}`,
];

const WEST = ['name=west', 'issuer=i', 'keys=https://west.example']
  .map((one) => `registry.clusters.others[0].${one}`)
  .join(',');

/** The chart in all its shapes. */
const SHAPES: Record<string, string[]> = {
  'as it is': DOMAIN,
  'with the plugin': [...DOMAIN, '--set', 'cni.enabled=true'],
  'with everything': [
    ...DOMAIN,
    ...[
      '--set',
      'cni.enabled=true,networkPolicy.enabled=true,image.pullSecrets={one},agent.networks={red,green}',
    ],
    ...['--set', 'registry.advertise={registry.example:7443},registry.reservedRanges={10.96.0.0/12}'],
    ...['--set', 'agent.reservedRanges={10.96.0.0/12,fd00:96::/112},registry.storage.storageClassName=fast'],
    ...[
      '--set',
      'registry.service.type=LoadBalancer,registry.service.annotations.a=b,registry.priorityClassName=high',
    ],
    ...['--set', 'registry.service.loadBalancerSourceRanges={192.0.2.0/24},registry.service.nodePort=30743'],
    ...['--set', 'networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring'],
    ...['--set', 'agent.metrics.host=0.0.0.0'],
    ...OTHERS,
  ],
  'without the informer': [...DOMAIN, '--set', 'informer.enabled=false'],
  'for a cluster without a registry': ['--set', 'registry.enabled=false', ...ELSEWHERE],
  'with join tokens': [...DOMAIN, '--set', 'agent.enrolment=joinTokens,agent.namePrefix=east-'],
  'of a registry that knows other clusters alone': [
    ...[...DOMAIN, ...OTHERS, '--set', 'registry.clusters.own.enabled=false,networkPolicy.enabled=true'],
    ...['--set', 'agent.enrolment=joinTokens'],
  ],
  'that only has a registry': [...DOMAIN, '--set', 'agent.enabled=false'],
  'that only has a CA': [...DOMAIN, '--set', 'ca.enabled=true,registry.enabled=false,agent.enabled=false'],
  'with everything of trust': [
    ...[...DOMAIN, '--set', 'ca.enabled=true,registry.signer.credentialSecret=signer'],
    ...[
      '--set',
      'agent.enrolment=joinTokens,networkPolicy.enabled=true,networkPolicy.partnerPorts={7443,8443}',
    ],
    ...['--set', 'networkPolicy.caFrom[0].namespaceSelector.matchLabels.name=admins'],
    ...['--set', 'registry.bundleEndpoint.enabled=true,registry.bundleEndpoint.certificateSecret=web'],
    ...[
      '--set',
      'registry.bundleEndpoint.url=https://bundle.example/b.json,registry.partnerWebCaConfigMap=cas',
    ],
    ...['--set', 'ca.service.type=LoadBalancer,ca.service.annotations.a=b,ca.service.nodePort=30744'],
    ...['--set', 'ca.service.loadBalancerSourceRanges={192.0.2.0/24},ca.storage.storageClassName=fast'],
    ...['--set', 'ca.priorityClassName=high,agent.workerPairs=2,agent.sparseFirst=false'],
  ],
  'with identities from SPIRE': [
    ...DOMAIN,
    '--set',
    'identity.source=workloadApi,networkPolicy.enabled=true',
  ],
  'with identities from SPIRE by the node': [
    ...[...DOMAIN, '--set', 'identity.source=workloadApi,identity.workloadApi.csiDriver='],
    ...['--set', 'registry.enabled=false,agent.registries={registry.example:7443}'],
  ],
  'with identities from files': [...DOMAIN, '--set', 'identity.source=files'],
  'that cleans the nodes': [...DOMAIN, '--set', 'agent.clean=true,cni.enabled=true'],
  'that cleans the nodes, the plugin being off': [...DOMAIN, '--set', 'agent.clean=true'],
  'that takes the plugin off': [...DOMAIN, '--set', 'cni.remove=true'],
};

const podSpecs = (objects: readonly KubernetesObject[]): V1PodSpec[] =>
  objects
    .filter((one): one is V1DaemonSet | V1StatefulSet =>
      ['DaemonSet', 'StatefulSet'].includes(one.kind ?? ''),
    )
    .map(({ spec }) => {
      if (spec?.template.spec === undefined) throw new Error('it has no pods');
      return spec.template.spec;
    });

const containers = (pod: V1PodSpec) => [...(pod.initContainers ?? []), ...pod.containers];

test.each(Object.entries(SHAPES))(
  'the chart %s is well-formed, by Helm and by Kubernetes',
  async (_, options) => {
    expect(run('helm', 'lint', '--strict', CHART, ...options)).toMatch(/0 chart\(s\) failed/);
    const objects = render(...options);
    const problems = await Promise.all(objects.map(problemsOf));
    expect(problems.flat()).toEqual([]);
  },
);

test.each(Object.entries(SHAPES))('in the chart %s, all that is named is there', (_, options) => {
  const objects = render(...options);
  const names = (kind: string) =>
    objects.filter((one) => one.kind === kind).map(({ metadata }) => metadata?.name);
  for (const { metadata } of objects) {
    const isOfCluster = metadata?.namespace === undefined;
    expect(isOfCluster || metadata.namespace === 'vl3-system').toBe(true);
  }
  for (const pod of podSpecs(objects)) {
    expect(names('ServiceAccount')).toContain(pod.serviceAccountName);
    const claims = objects.flatMap((one) =>
      one.kind === 'StatefulSet' && 'spec' in one ? claimsOf(one) : [],
    );
    const volumes = [...(pod.volumes ?? []).map(({ name }) => name), ...claims];
    const mounted = containers(pod).flatMap(({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name));
    for (const name of mounted) expect(volumes).toContain(name);
    for (const { name } of pod.volumes ?? [])
      if (options.join().includes('clean') === false) expect(mounted).toContain(name);
    for (const { ports = [], livenessProbe, readinessProbe, image, resources } of containers(pod)) {
      expect(image).toMatch(/^vl3:\d/);
      expect(resources?.requests?.['memory']).toBeDefined();
      const known = ports.map(({ name }) => name);
      for (const probe of [livenessProbe, readinessProbe])
        if (probe !== undefined) expect(known).toContain((probe.httpGet ?? probe.tcpSocket)?.port);
    }
  }
});

const claimsOf = (object: KubernetesObject): string[] => {
  const set: V1StatefulSet = object;
  return (set.spec?.volumeClaimTemplates ?? []).map(({ metadata }) => metadata?.name ?? '');
};

test.each(Object.entries(SHAPES))('what the chart %s sets in the environment are settings', (_, options) => {
  const known = [agentSettings, registrySettings, caSettings].flatMap(({ schema, environmentPrefix }) =>
    Object.keys(schema.shape).map((key) => `${environmentPrefix}${key.toUpperCase().replaceAll('-', '_')}`),
  );
  const others = ['VL3_TOKEN_FILE', 'VL3_AGENT_UDP_PORT', 'NODE_NAME', 'NODE_NAME_PREFIX'];
  for (const pod of podSpecs(render(...options)))
    for (const { env = [] } of containers(pod))
      for (const { name } of env) expect([...known, ...others]).toContain(name);
});

test('only the agent is privileged, and all others may do nothing', () => {
  for (const pod of podSpecs(render(...(SHAPES['with everything'] ?? []))))
    for (const { name, securityContext } of containers(pod)) {
      expect(securityContext?.readOnlyRootFilesystem).toBe(true);
      if (name === 'agent') expect(securityContext?.privileged).toBe(true);
      else
        expect(securityContext).toMatchObject({
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
        });
    }
});

test('whoever cleans the nodes takes the plugin off, also when it is not enabled any more, and first', () => {
  for (const shape of ['that cleans the nodes', 'that cleans the nodes, the plugin being off']) {
    const pod = podSpecs([only(render(...(SHAPES[shape] ?? [])), 'DaemonSet')])[0];
    expect(pod?.initContainers?.map(({ name }) => name)).toEqual(['uninstall', 'clean']);
  }
  const pod = podSpecs([only(render(...(SHAPES['that takes the plugin off'] ?? [])), 'DaemonSet')])[0];
  expect(pod?.initContainers?.map(({ name }) => name)).toEqual(['uninstall']);
  expect(pod?.containers.map(({ name }) => name)).toEqual(['agent']);
});

test('who asks the API server nothing has no token for it', () => {
  const asked = (...options: string[]) =>
    podSpecs(render(...DOMAIN, ...options))
      .filter(({ automountServiceAccountToken }) => automountServiceAccountToken !== false)
      .map(({ serviceAccountName }) => serviceAccountName);
  expect(asked()).toEqual(['vl3-agent', 'vl3-registry']);
  const tokens = ['--set', 'registry.clusters.own.enabled=false,agent.enrolment=joinTokens'];
  expect(asked(...tokens)).toEqual(['vl3-agent']);
  expect(asked('--set', 'informer.enabled=false')).toEqual(['vl3-registry']);
});

const domainMap = (objects: readonly KubernetesObject[]): V1ConfigMap | undefined =>
  objects.find((one) => one.kind === 'ConfigMap' && one.metadata?.name === 'vl3-domain');
const agentOf = (objects: readonly KubernetesObject[]) => {
  const set: V1DaemonSet = only(objects, 'DaemonSet');
  const [pod] = podSpecs([set]);
  const env = Object.fromEntries((pod?.containers[0]?.env ?? []).map(({ name, value }) => [name, value]));
  const token = pod?.volumes?.flatMap(({ projected }) => projected?.sources ?? [])[0]?.serviceAccountToken;
  return { account: `vl3-system/${pod?.serviceAccountName}`, env, token, volumes: pod?.volumes ?? [] };
};

describe('nodes enrol by themselves', () => {
  test('with a token that is for the registry alone, and short', () => {
    const audience = formatSpiffeId({ kind: 'registry', trustDomain: 'test.example' });
    const { token, env } = agentOf(render(...DOMAIN));
    expect(token).toEqual({ path: 'token', audience, expirationSeconds: 600 });
    expect(env['VL3_AGENT_KUBERNETES_TOKEN_FILE']).toBe('/var/run/secrets/vl3/token');
    expect(env['VL3_AGENT_NAME']).toBeUndefined();
    const elsewhere = agentOf(render('--set', 'registry.enabled=false', ...ELSEWHERE));
    expect(elsewhere.token?.audience).toBe('spiffe://far.example/registry');
    expect(parseDomainAddress(elsewhere.env['VL3_AGENT_DOMAIN'] ?? '').trustDomain).toBe('far.example');
  });

  test('at a registry that knows their cluster and their account, and says where it is in what they mount', () => {
    const objects = render(...DOMAIN, ...OTHERS);
    const clusters = objects.find(
      ({ metadata }) => metadata?.name === 'vl3-registry-clusters',
    ) as V1ConfigMap;
    const parsed = parseClusters('/c/clusters.yaml', clusters.data?.['clusters.yaml'] ?? '', 'default');
    const { account, env, volumes } = agentOf(objects);
    expect(parsed).toMatchObject([
      { name: 'home', keys: { kind: 'in-cluster' }, audience: 'default' },
      { name: 'west', keys: { kind: 'file', path: '/c/west.json' } },
      { name: 'far', keys: { kind: 'url', url: 'https://far.example/keys' }, audience: 'vl3' },
    ]);
    expect(parsed.map(({ subject }) => subject)).toEqual([
      `system:serviceaccount:${account.replace('/', ':')}`,
      'system:serviceaccount:vl3-system:vl3-agent',
      'system:serviceaccount:net:agent',
    ]);
    expect(clusters.data?.['west.json']).toBe(KEY_SET);
    const set = objects.find((one): one is V1StatefulSet => one.kind === 'StatefulSet');
    const published = set?.spec?.template?.spec?.containers[0]?.env?.find(
      ({ name }) => name === 'VL3_REGISTRY_PUBLISH_DOMAIN',
    );
    expect(published?.value).toBe('vl3-system/vl3-domain');
    // An upgrade must not empty it.
    expect(domainMap(objects)).not.toHaveProperty('data');
    expect(volumes.find(({ name }) => name === 'domain')?.configMap?.name).toBe('vl3-domain');
    expect(env['VL3_AGENT_DOMAIN_FILE']).toBe('/etc/vl3/domain/domain');
  });

  test('and the registry may do no more for it than write that one object', () => {
    const objects = render(...DOMAIN);
    const role: V1Role = only(objects, 'Role');
    expect(role.rules).toEqual([
      { apiGroups: [''], resources: ['configmaps'], resourceNames: ['vl3-domain'], verbs: ['patch'] },
    ]);
    const binding: V1RoleBinding = only(objects, 'RoleBinding');
    expect(binding).toMatchObject({
      roleRef: { kind: 'Role', name: role.metadata?.name },
      subjects: [{ kind: 'ServiceAccount', name: 'vl3-registry', namespace: 'vl3-system' }],
    });
  });

  test('and without that there is nothing of it', () => {
    const objects = render(
      ...DOMAIN,
      '--set',
      'registry.clusters.own.enabled=false,agent.enrolment=joinTokens',
    );
    for (const kind of ['ConfigMap', 'Role', 'RoleBinding'])
      expect(objects.filter((one) => one.kind === kind)).toEqual([]);
    expect(agentOf(objects).token).toBeUndefined();
  });
});

test('what the agent may ask of the API server is given to its account, and no more than the informer asks', () => {
  const objects = render(...DOMAIN);
  const role: V1ClusterRole = only(objects, 'ClusterRole');
  const allowed = (role.rules ?? []).flatMap(({ resources = [], verbs }) =>
    resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
  );
  expect(allowed.toSorted()).toEqual([
    'create events',
    'get pods',
    'list namespaces',
    'list pods',
    'patch pods/status',
    'watch namespaces',
    'watch pods',
  ]);
  const binding: V1ClusterRoleBinding = only(objects, 'ClusterRoleBinding');
  expect(binding.roleRef.name).toBe(role.metadata?.name);
  const account = podSpecs(objects).find(({ hostNetwork }) => hostNetwork)?.serviceAccountName;
  expect(binding.subjects).toEqual([{ kind: 'ServiceAccount', name: account, namespace: 'vl3-system' }]);
});

test('writes of agents are held to their nodes where the API server can do that, by the account that they have', () => {
  const policy: V1ValidatingAdmissionPolicy = only(render(...DOMAIN), 'ValidatingAdmissionPolicy');
  const account = podSpecs(render(...DOMAIN)).find(({ hostNetwork }) => hostNetwork)?.serviceAccountName;
  expect(policy.spec?.matchConditions?.map(({ expression }) => expression)).toEqual([
    `request.userInfo.username == "system:serviceaccount:vl3-system:${account}"`,
  ]);
  const binding: V1ValidatingAdmissionPolicyBinding = only(
    render(...DOMAIN),
    'ValidatingAdmissionPolicyBinding',
  );
  expect(binding.spec?.policyName).toBe(policy.metadata?.name);
  const older = ['--kube-version', '1.29.0', '--set', 'agent.enrolment=joinTokens'];
  for (const options of [older, ['--set', 'informer.limitWrites=false'], ['--set', 'agent.clean=true']])
    expect(render(...DOMAIN, ...options).map(({ kind }) => kind)).not.toContain('ValidatingAdmissionPolicy');
});

test.each([
  ['a key that there is not', 'agent.prot=51820', /additional properties 'prot' not allowed/],
  ['a port that is none', 'agent.port=70000', /maximum/],
  ['an update of nothing at a time', 'agent.maxUnavailable=0', /minimum/],
  ['a range that is none', 'agent.reservedRanges={everything}', /pattern/],
  ['a directory that is not a whole path', 'agent.runDirectory=run/vl3', /pattern/],
  ['a domain that is none', 'registry.trustDomain=Two Words', /pattern/],
  ['a budget that is no duration', 'registry.outageBudget=soon', /pattern/],
  ['a plugin that is to be and not to be', 'cni.enabled=true,cni.remove=true', /both true: choose/],
  ['no domain', 'registry.trustDomain=', /registry\.trustDomain is required/],
  ['a cluster whose registry nobody names', 'registry.enabled=false', /agent\.domain is required/],
  [
    'a registry that does not know its nodes',
    'registry.clusters.own.enabled=false',
    /agent\.domain is required/,
  ],
  ['an address of no domain', 'agent.domain=registry.example:7443', /pattern/],
  ['a cluster in two domains', `agent.domain=vl3://far.example?ca=${CA}`, /a cluster is in one domain/],
  [
    'a prefix that nothing is made of',
    'agent.namePrefix=east-',
    /goes with agent\.enrolment=joinTokens alone/,
  ],
  ['a cluster without a good name', 'registry.clusters.own.name=My_Cluster', /pattern/],
  ['a cluster without keys', 'registry.clusters.others[0].name=west', /missing propert/],
  [
    'a cluster of the same name',
    `${WEST},registry.clusters.own.name=west`,
    /"west" and "west" would have nodes of the same name/,
  ],
  [
    'a cluster whose name begins that of another',
    `${WEST},registry.clusters.own.name=west-2`,
    /"west" and "west-2" would have nodes of the same name/,
  ],
])('%s is refused', (_, value, reason) => {
  let said = '';
  try {
    template(...DOMAIN, '--set', value);
  } catch (error) {
    said = String(error);
  }
  expect(said).toMatch(reason);
});

test('a load balancer is asked to keep the addresses that nodes come from', () => {
  const policy = (...options: string[]) =>
    only<V1Service>(render(...DOMAIN, '--set', options.join()), 'Service').spec?.externalTrafficPolicy;
  expect(policy('registry.service.type=LoadBalancer')).toBe('Local');
  expect(policy('registry.service.type=LoadBalancer', 'registry.service.externalTrafficPolicy=Cluster')).toBe(
    'Cluster',
  );
  expect(policy('registry.service.type=NodePort')).toBeUndefined();
});

test('clusters whose names are merely alike are taken', () => {
  expect(() => template(...DOMAIN, '--set', `${WEST},registry.clusters.own.name=west2`)).not.toThrow();
  const unused = `${WEST},registry.clusters.own.name=west,registry.clusters.own.enabled=false`;
  expect(() => template(...DOMAIN, '--set', `${unused},agent.enrolment=joinTokens`)).not.toThrow();
});

test('clusters whose tokens name no node are told so', () => {
  expect(() => template(...DOMAIN, '--kube-version', '1.29.3')).toThrow(/from Kubernetes 1\.30 on/);
  const tokens = ['--set', 'agent.enrolment=joinTokens'];
  expect(() => template(...DOMAIN, ...tokens, '--kube-version', '1.29.3')).not.toThrow();
  // As cloud providers write it.
  expect(() => template(...DOMAIN, '--kube-version', '1.30.0-eks-123')).not.toThrow();
});

test('every value that the chart reads is in its schema, with the same default', () => {
  const used = new Set<string>();
  for (const name of readdirSync(resolve(CHART, 'templates')))
    for (const [, path = ''] of readFileSync(resolve(CHART, 'templates', name), 'utf8').matchAll(
      /\.Values\.([A-Za-z.]+)/g,
    ))
      used.add(path);
  const values: unknown = parseYaml(readFileSync(resolve(CHART, 'values.yaml'), 'utf8'));
  const at = (path: string): unknown =>
    path.split('.').reduce<unknown>((value, key) => Object(value)[key], values);
  for (const path of used) expect({ path, value: at(path) }).not.toEqual({ path, value: undefined });
});

test('the version of the chart is that of the package', () => {
  const chart = parseYaml(readFileSync(resolve(CHART, 'Chart.yaml'), 'utf8'));
  const { version } = JSON.parse(readFileSync(resolve(ROOT, 'package.json'), 'utf8'));
  expect(chart).toMatchObject({ version, appVersion: version });
});

test('what is mounted from the node is a directory, so that a socket that is made anew is seen', () => {
  const pod = podSpecs([only(render(...DOMAIN), 'DaemonSet')])[0];
  for (const { hostPath } of pod?.volumes ?? [])
    if (hostPath !== undefined) expect(hostPath.type).toMatch(/^Directory(OrCreate)?$/);
});
