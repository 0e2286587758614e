// K1, before any pod: nodes of a Kubernetes cluster enrol by themselves. A registry that is a pod of the cluster, as the manifests
// describe it, agents that are started before there is anything for them, and tokens that the API server made. The tests do what a
// kubelet does: they put tokens and ConfigMaps into files. With KUBE_APISERVER=/path against Kubernetes' own API server.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { parseAllDocuments, stringify } from 'yaml';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { Daemon } from '../lab/daemon.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { ControlPlane } from '../lab/kube-control-plane.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';

const MANIFESTS = resolve(import.meta.dirname, '../../deploy/manifests/registry.yaml');
const PROGRAM = resolve(import.meta.dirname, 'clocked-agent.ts');
const AUDIENCE = 'spiffe://test.example/registry';
const MONTH = 30 * 24 * 3_600_000;
/** How long a refused agent waits, and some. */
const LATER = { timeout: 150_000, interval: 500 };

interface Manifest {
  kind: string;
  metadata: { name: string };
  rules?: unknown;
  data?: Record<string, string>;
}

let domain: Domain;
let plane: ControlPlane;
let peer: Pod;
const objects: Manifest[] = parseAllDocuments(readFileSync(MANIFESTS, 'utf8')).map((one) => one.toJS());
const manifest = (kind: string, name: string): Manifest => {
  const found = objects.find((one) => one.kind === kind && one.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
};
const at = (...path: string[]): string => join(domain.lab.scratch, 'cluster', ...path);
const written = (path: string, text: string): void => {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
};

/** The registry sees what a pod sees: its account where a kubelet puts it, in a /run of its own that has the lab in it, too. */
const asPod = (account: { directory: string; host: string; port: number }, command: string[]): string[] => {
  const script = `mount -t tmpfs tmpfs "$1" && cd "$1" && mkdir -p vl3-lab secrets/kubernetes.io/serviceaccount &&
    mount --rbind /run/vl3-lab vl3-lab && mount --bind "$2" secrets/kubernetes.io/serviceaccount &&
    mount --rbind . /run && cd / && shift 2 && exec "$@"`;
  const env = [`KUBERNETES_SERVICE_HOST=${account.host}`, `KUBERNETES_SERVICE_PORT=${account.port}`];
  const place = [at('run'), account.directory];
  return ['env', ...env, 'unshare', '--mount', 'sh', '-c', script, 'sh', ...place, ...command];
};

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  mkdirSync(at('run'), { recursive: true });
  const role = manifest('Role', 'vl3-registry');
  // The small API server knows rules of ClusterRoles alone; the real one gets what the manifests have.
  const rules = ControlPlane.isReal ? '' : stringify({ ...role, kind: 'ClusterRole' });
  written(at('rbac.yaml'), rules);
  plane = await ControlPlane.start({
    ...{ host: domain.host, directory: at('api'), address: domain.registryAddress.split(':')[0] ?? '' },
    ...{ account: 'vl3-registry', rbac: at('rbac.yaml') },
  });
  console.log(`the API server is ${await plane.version()}`);
  const api = '/apis/rbac.authorization.k8s.io/v1/namespaces/vl3-system';
  if (ControlPlane.isReal) {
    await plane.request('POST', `${api}/roles`, role);
    await plane.request('POST', `${api}/rolebindings`, manifest('RoleBinding', 'vl3-registry'));
  }
  for (const name of ['vl3-agent', 'other'])
    await plane.request('POST', '/api/v1/namespaces/vl3-system/serviceaccounts', {
      ...{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } },
    });
  written(at('clusters.yaml'), manifest('ConfigMap', 'vl3-registry-clusters').data?.['clusters.yaml'] ?? '');
  domain.program = (...args) => asPod(plane.serviceAccount(), vl3(...args));
  await startRegistry();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  // A machine that is in no cluster.
  const machine = await domain.startNode('machine');
  peer = await machine.pod('peer', 'red');
}, 180_000);

afterAll(() => domain?.close());

const startRegistry = (): Promise<void> =>
  domain.startRegistry(
    ...['--kubernetes-clusters', at('clusters.yaml'), '--publish-domain', 'vl3-system/vl3-domain'],
  );

/** A pod of the account on a node, and the token that the kubelet gets for it. */
const tokenFor = async (node: string, account = 'vl3-agent', audience = AUDIENCE): Promise<string> => {
  const name = `${account}-${node.replaceAll('.', '-')}`;
  const pods = '/api/v1/namespaces/vl3-system/pods';
  const found = (await plane.request('GET', `${pods}/${name}`).catch(() => undefined)) as
    | { metadata: { uid: string } }
    | undefined;
  const spec = {
    nodeName: node,
    serviceAccountName: account,
    containers: [{ name: 'agent', image: 'none' }],
  };
  const pod =
    found ??
    ((await plane.request('POST', pods, { apiVersion: 'v1', kind: 'Pod', metadata: { name }, spec })) as {
      metadata: { uid: string };
    });
  const { status } = (await plane.request(
    'POST',
    `/api/v1/namespaces/vl3-system/serviceaccounts/${account}/token`,
    {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        audiences: [audience],
        expirationSeconds: 600,
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid: pod.metadata.uid },
      },
    },
  )) as { status: { token: string } };
  return status.token;
};

const tokenFile = (node: string): string => at(`${node}.token`);
const domainFile = (node: string): string => at(`${node}.domain`);
const renewToken = async (node: string): Promise<void> => written(tokenFile(node), await tokenFor(node));
/** What a kubelet mounts of the ConfigMap; undefined: there is nothing in it yet. */
const published = async (): Promise<string | undefined> => {
  const path = '/api/v1/namespaces/vl3-system/configmaps/vl3-domain';
  const { data } = (await plane.request('GET', path)) as Manifest;
  return data?.['domain'];
};

/** The machine of a Kubernetes node; called as the domain will call it, where that is short enough for a machine. */
const addNode = (node: string, name = `home-${node}`): Promise<Node> =>
  domain.addNode(name, {
    options: ['--kubernetes-token-file', tokenFile(node), '--domain-file', domainFile(node)],
  });
const nodeNames = async (): Promise<string[]> =>
  (await domain.adminJson<{ name: string }[]>('node', 'list')).map(({ name }) => name).sort();

let first: Node;
let web: Pod;

describe('nodes enrol by themselves', () => {
  test('an agent that is there before the registry has said where it is waits for it', async () => {
    first = await addNode('node-1');
    const agent = first.launch();
    await agent.printed(/the kubelet keeps the token for the registry in/, SOON.timeout);
    await renewToken('node-1');
    await agent.printed(/the registry writes its address, once it runs, in/, SOON.timeout);
    expect(agent.output()).not.toMatch(/agent is up/);
  });

  test('the registry says it in its ConfigMap, and the node is on networks without anybody having done anything', async () => {
    // As the chart makes it: without anything in it.
    const map = manifest('ConfigMap', 'vl3-domain');
    await plane.request('POST', '/api/v1/namespaces/vl3-system/configmaps', map);
    await vi.waitFor(async () => expect(await published()).toMatch(/^vl3:\/\/test\.example\?ca=/), SOON);
    expect(await published()).toBe((await domain.admin('registry', 'domain')).trim());
    written(domainFile('node-1'), (await published()) ?? '');
    await first.agent.printed(/"agent is up"/, SOON.timeout);
    expect(await nodeNames()).toEqual(['home-node-1', 'machine']);
    // Alive once its first heartbeat has been heard, which may be a moment after it is up.
    const expected = { cluster: 'home', kubernetesNode: 'node-1', alive: true };
    await vi.waitFor(
      async () => expect(await domain.adminJson('node', 'show', 'home-node-1')).toMatchObject(expected),
      SOON,
    );
    web = await first.pod('web', 'red');
    await vi.waitFor(async () => expect(await web.reaches(peer.v4('red'))).toBe(true), SOON);
  });

  test('a node that the autoscaler adds does so at once, also one whose name has dots', async () => {
    const name = 'ip-10-0-0-2.example.internal';
    await renewToken(name);
    written(domainFile(name), (await published()) ?? '');
    const second = await addNode(name, 'dotted');
    await second.start();
    const enrolled = (await nodeNames()).filter((one) => one.startsWith('home-ip-10-0-0-2-'));
    expect(enrolled).toEqual([expect.stringMatching(/^home-ip-10-0-0-2-[0-9a-f]{8}$/)]);
    const pod = await second.pod('added', 'red');
    await vi.waitFor(async () => expect(await pod.reaches(web.v4('red'))).toBe(true), SOON);
    await second.agent.stop();
  });

  test('started again it needs no token', async () => {
    await first.agent.stop();
    written(tokenFile('node-1'), '');
    await first.start();
    expect(first.log().some(({ msg }) => msg === 'enrolled')).toBe(false);
  });
});

describe('what the API server made for others enrols nobody', () => {
  const refused = async (name: string, token: string): Promise<string> => {
    written(tokenFile(name), token);
    written(domainFile(name), (await published()) ?? '');
    const node = await addNode(name);
    const agent = node.launch();
    const before = await nodeNames();
    await agent.printed(/enrolment is tried again/, SOON.timeout);
    expect(await nodeNames()).toEqual(before);
    expect(agent.running).toBe(true);
    await agent.stop();
    return agent.output();
  };

  test('a token of another service account', async () => {
    expect(await refused('node-3', await tokenFor('node-3', 'other'))).toMatch(
      /is not of \\"system:serviceaccount:vl3-system:vl3-agent\\"/,
    );
  });

  test('a token for the API server itself', async () => {
    expect(await refused('node-4', await tokenFor('node-4', 'vl3-agent', 'https://lab.example'))).toMatch(
      /is not for this registry: mount one for \\"spiffe:\/\/test\.example\/registry\\"/,
    );
  });

  test('a token that no pod has', async () => {
    const path = '/api/v1/namespaces/vl3-system/serviceaccounts/vl3-agent/token';
    const { status } = (await plane.request('POST', path, {
      ...{ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' },
      spec: { audiences: [AUDIENCE], expirationSeconds: 600 },
    })) as { status: { token: string } };
    expect(await refused('node-5', status.token)).toMatch(/does not say on which node its pod is/);
  });

  test('a token of a node that is alive, on another machine', async () => {
    expect(await refused('thief', await tokenFor('node-1'))).toMatch(
      /node \\"home-node-1\\" is alive, under another key/,
    );
    expect(await web.reaches(peer.v4('red'))).toBe(true);
    const refusals = domain.registryLog().filter(({ msg }) => msg === 'enrolment refused');
    expect(new Set(refusals.map(({ reason }) => reason))).toEqual(
      new Set(['other-account', 'other-audience', 'no-node', 'alive']),
    );
  });
});

describe('a node whose SVID has expired', () => {
  const clock = (): string => at('clock');
  const setClock = (offset: number, bootId: string): void => writeFileSync(clock(), `${offset} ${bootId}`);
  let agent: Daemon;
  const start = async (): Promise<void> => {
    const { stateDir, runDir, netnsPrefix } = first;
    const cluster = { tokenFile: tokenFile('node-1'), domainFile: domainFile('node-1') };
    const options = { stateDirectory: stateDir, runDirectory: runDir, netnsPrefix, networks: [], cluster };
    const node = [process.execPath, '--disable-warning=ExperimentalWarning'];
    agent = first.host.start([...node, PROGRAM, clock(), JSON.stringify(options)]);
    await agent.printed(/"agent is up"/, SOON.timeout);
  };
  const problems = async (): Promise<string> => (await first.status()).problems.join('\n');

  test('enrols anew by itself, by the token that the kubelet has renewed meanwhile', async () => {
    await first.agent.stop();
    // Or the registry, whose clock is right, would renew an SVID that has expired for the node alone.
    for (const how of ['delete', 'readmit']) await domain.admin('node', how, 'home-node-1');
    await domain.stopRegistry();
    setClock(MONTH, 'the-next-boot');
    await start();
    await vi.waitFor(async () => {
      expect(await problems()).toMatch(
        /SVID of this node has expired: the agent runs on from what it saved, and enrols anew by the word of its Kubernetes cluster as soon as it can \(the kubelet keeps the token/,
      );
    }, SOON);
    setClock(0, 'the-next-boot');
    await startRegistry();
    await renewToken('node-1');
    await vi.waitFor(async () => {
      expect(await problems()).toBe('');
      expect(await new LocalClient(first.socket).attachments()).toEqual([
        expect.objectContaining({ workload: 'web', ready: true }),
      ]);
    }, LATER);
    expect(agent.output()).toMatch(/"enrolled anew"/);
    await vi.waitFor(async () => expect(await web.reaches(peer.v4('red'))).toBe(true), SOON);
    await agent.stop();
  }, 240_000);
});

describe('a node that an admin deletes', () => {
  test('stays away, says why, and comes back when he says so', async () => {
    await first.start();
    await domain.admin('node', 'delete', 'home-node-1');
    await renewToken('node-1');
    await vi.waitFor(async () => {
      expect((await first.status()).problems.join()).toMatch(
        /was deleted at the registry: .*does not come back by itself: an admin lets it \(`vl3 node readmit home-node-1`\)/,
      );
    }, LATER);
    expect(await nodeNames()).not.toContain('home-node-1');
    expect((await domain.tryAdmin(['node', 'readmit', 'machine'])).stderr).toMatch(/is not deleted/);
    await domain.admin('node', 'readmit', 'home-node-1');
    // It would ask again within a minute.
    await first.agent.stop();
    await first.start();
    await vi.waitFor(async () => expect(await nodeNames()).toContain('home-node-1'), LATER);
    await vi.waitFor(async () => {
      expect(await new LocalClient(first.socket).attachments()).toEqual([
        expect.objectContaining({ workload: 'web', ready: true }),
      ]);
    }, SOON);
  }, 360_000);
});

describe('a cluster that is taken out', () => {
  test('adds no node any more, and keeps those that it has', async () => {
    written(at('clusters.yaml'), 'clusters: []\n');
    await renewToken('node-6');
    written(domainFile('node-6'), (await published()) ?? '');
    const late = await addNode('node-6');
    await late.launch().printed(/no cluster of that issuer is configured here/, SOON.timeout);
    await late.agent.stop();
    await vi.waitFor(async () => expect((await first.status()).problems).toEqual([]), SOON);
    expect(await nodeNames()).toContain('home-node-1');
  });
});
