// A Kubernetes cluster as far as an agent sees it: an API server in a namespace of the lab, reached at its loopback, and a
// container runtime that says where pods are. There is no kubelet: tests make pods, and say how they fare. The API server
// is a small one of our own, or a real one where KUBE_APISERVER names it (with etcd from the path, or ETCD).

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { type NetworkStatus, STATUS_KEY } from '../../native-free/kube/network-status.ts';
import type { Daemon } from './daemon.ts';
import { eventually } from './eventually.ts';
import type { Host } from './host.ts';
import type { KubeApiOptions } from './kube-api.ts';
import { Cri, type Style } from './kube-cri.ts';
import type { KubeObject } from './kube-store.ts';
import type { Lab } from './lab.ts';
import type { Node } from './node.ts';
import { Pod } from './pod.ts';

const REAL = process.env['KUBE_APISERVER'];
const RBAC = resolve(import.meta.dirname, '../../deploy/manifests/rbac.yaml');
const PORT = 6443;
const AGENT = 'agent-token';
const ADMIN = 'admin-token';
const PATIENCE = { timeout: 90_000, interval: 200 };

export interface PodOptions {
  namespace?: string;
  annotations?: Record<string, string>;
  labels?: Record<string, string>;
  hostNetwork?: boolean;
  /** How the container runtime tells of it; "none": it does not run yet. */
  style?: Style | 'none';
}

/** A pod of the cluster, and its network namespace. */
export interface KubePod {
  name: string;
  namespace: string;
  uid: string;
  pod: Pod;
}

export class Cluster {
  /** Whether the API server is Kubernetes' own. */
  static readonly isReal = REAL !== undefined;
  readonly cri: Cri;
  readonly #lab: Lab;
  readonly #host: Host;
  readonly #directory: string;
  readonly #node: Node;
  #daemons: Daemon[] = [];

  private constructor(lab: Lab, node: Node, cri: Cri) {
    this.#lab = lab;
    this.#host = node.host;
    this.#node = node;
    this.cri = cri;
    this.#directory = Cluster.#place(lab);
  }

  /** What the agent on its node is started with. */
  static agentOptions(lab: Lab): string[] {
    const place = Cluster.#place(lab);
    const reach = ['--kubeconfig', join(place, 'kubeconfig'), '--node-name', 'node-1'];
    return [
      '--kubernetes',
      'on',
      ...reach,
      '--container-runtime-endpoint',
      `unix://${join(place, 'cri.sock')}`,
    ];
  }

  static #place(lab: Lab): string {
    return join(lab.scratch, 'kube');
  }

  /** On the host of a node, whose agent is not started yet. */
  static async start(lab: Lab, node: Node): Promise<Cluster> {
    const place = Cluster.#place(lab);
    mkdirSync(place, { recursive: true });
    const cluster = new Cluster(lab, node, await Cri.listen(join(place, 'cri.sock')));
    cluster.#writeKubeconfig();
    await cluster.startApi();
    await cluster.#prepare();
    return cluster;
  }

  get #url(): string {
    return `https://127.0.0.1:${PORT}`;
  }

  #writeKubeconfig(): void {
    this.#makeCertificates();
    const ca = { 'certificate-authority': join(this.#directory, 'ca.crt') };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'lab', cluster: { server: this.#url, ...ca } }],
      users: [{ name: 'agent', user: { token: AGENT } }],
      contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'agent' } }],
      'current-context': 'lab',
    };
    // JSON is YAML.
    writeFileSync(join(this.#directory, 'kubeconfig'), JSON.stringify(config));
  }

  #makeCertificates(): void {
    const openssl = (...args: string[]) =>
      execFileSync('openssl', args, { cwd: this.#directory, stdio: 'ignore' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=lab-ca');
    const names = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key'];
    openssl('req', '-x509', ...key, '-keyout', 'api.key', '-out', 'api.crt', ...names, ...signed);
    openssl('genrsa', '-out', 'sa.key', '2048');
    const agent = 'system:serviceaccount:vl3-system:vl3-agent';
    const groups = 'system:serviceaccounts,system:serviceaccounts:vl3-system,system:authenticated';
    const tokens = [`${ADMIN},admin,1,"system:masters"`, `${AGENT},${agent},2,"${groups}"`];
    writeFileSync(join(this.#directory, 'tokens.csv'), `${tokens.join('\n')}\n`);
  }

  /** Starts the API server on what it has; resolves once it answers. */
  async startApi(): Promise<void> {
    this.#daemons = REAL === undefined ? [this.#startSmall()] : this.#startReal(REAL);
    await eventually(async () => {
      const dead = this.#daemons.find(({ running }) => !running);
      if (dead !== undefined) throw new Error(dead.output());
      await this.request('GET', '/api/v1/namespaces');
    }, PATIENCE);
  }

  #startSmall(): Daemon {
    const options: KubeApiOptions = {
      port: PORT,
      file: join(this.#directory, 'objects.json'),
      rbac: RBAC,
      certificate: join(this.#directory, 'api.crt'),
      key: join(this.#directory, 'api.key'),
      agentToken: AGENT,
      adminToken: ADMIN,
      page: 2,
    };
    const program = resolve(import.meta.dirname, 'kube-api.ts');
    return this.#host.start([process.execPath, program, JSON.stringify(options)]);
  }

  #startReal(program: string): Daemon[] {
    const at = (name: string): string => join(this.#directory, name);
    const etcd = this.#host.start([
      process.env['ETCD'] ?? 'etcd',
      ...['--data-dir', at('etcd'), '--listen-peer-urls', 'http://127.0.0.1:2380'],
      ...[
        '--listen-client-urls',
        'http://127.0.0.1:2379',
        '--advertise-client-urls',
        'http://127.0.0.1:2379',
      ],
    ]);
    const flags = {
      'etcd-servers': 'http://127.0.0.1:2379',
      'secure-port': PORT,
      'bind-address': '127.0.0.1',
      'advertise-address': this.#node.site.address,
      'endpoint-reconciler-type': 'none',
      'service-cluster-ip-range': '10.96.0.0/16',
      'cert-dir': at('certs'),
      'tls-cert-file': at('api.crt'),
      'tls-private-key-file': at('api.key'),
      'service-account-key-file': at('sa.key'),
      'service-account-signing-key-file': at('sa.key'),
      'service-account-issuer': 'https://lab.example',
      'token-auth-file': at('tokens.csv'),
      'authorization-mode': 'RBAC',
      // Nobody makes the service accounts that this would ask for.
      'disable-admission-plugins': 'ServiceAccount',
    };
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
    return [etcd, this.#host.start([program, ...args])];
  }

  /** Ends the API server; what it has stays. */
  async stopApi(): Promise<void> {
    for (const daemon of this.#daemons.toReversed()) await daemon.stop('SIGKILL');
  }

  async #prepare(): Promise<void> {
    for (const name of ['vl3-system', 'team-a']) await this.createNamespace(name);
    if (REAL === undefined) return;
    for (const document of parseAllDocuments(readFileSync(RBAC, 'utf8'))) {
      const object = document.toJS();
      await this.request('POST', `/apis/rbac.authorization.k8s.io/v1/${object.kind.toLowerCase()}s`, object);
    }
  }

  /** As an admin. */
  async request(method: string, path: string, body?: unknown): Promise<unknown> {
    return JSON.parse(await this.#ask(method, path, body));
  }

  async #ask(method: string, path: string, body?: unknown): Promise<string> {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const ca = ['--cacert', join(this.#directory, 'ca.crt')];
    const headers = ['-H', `Authorization: Bearer ${ADMIN}`, '-H', `Content-Type: ${type}`];
    const given = body === undefined ? [] : ['--data-binary', '@-'];
    const output = await this.#host.run(
      [
        'curl',
        '-sS',
        '--max-time',
        '20',
        '-X',
        method,
        ...ca,
        ...headers,
        ...given,
        '-w',
        '\n%{http_code}',
        `${this.#url}${path}`,
      ],
      body === undefined ? {} : { input: JSON.stringify(body) },
    );
    const at = output.lastIndexOf('\n');
    const status = Number(output.slice(at));
    if (status < 200 || status > 299) throw new Error(`${method} ${path}: ${status}\n${output.slice(0, at)}`);
    return output.slice(0, at);
  }

  /** What a watch of pods from `version` on says first. */
  async watchFrom(version: number): Promise<{ type: string; object: unknown }> {
    const query = `watch=true&resourceVersion=${version}&allowWatchBookmarks=true&timeoutSeconds=2`;
    const text = await this.#ask('GET', `/api/v1/pods?${query}`);
    return JSON.parse(text.split('\n')[0] ?? '');
  }

  /** Of the API server. */
  async version(): Promise<string> {
    if (REAL === undefined) return 'a small one of our own';
    const { gitVersion } = (await this.request('GET', '/version')) as { gitVersion: string };
    return `kube-apiserver ${gitVersion}`;
  }

  async createNamespace(name: string, annotations: Record<string, string> = {}): Promise<void> {
    const object = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, annotations } };
    await this.request('POST', '/api/v1/namespaces', object);
  }

  async annotateNamespace(name: string, annotations: Record<string, string | null>): Promise<void> {
    await this.request('PATCH', `/api/v1/namespaces/${name}`, { metadata: { annotations } });
  }

  /** Makes a pod on the node; it runs, unless it is said not to. */
  async run(name: string, options: PodOptions = {}): Promise<KubePod> {
    const {
      namespace = 'team-a',
      annotations = {},
      labels = {},
      hostNetwork = false,
      style = 'containerd',
    } = options;
    const object = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, annotations, labels },
      spec: { nodeName: 'node-1', hostNetwork, containers: [{ name: 'main', image: 'none' }] },
    };
    const made = (await this.request('POST', `/api/v1/namespaces/${namespace}/pods`, object)) as KubeObject;
    const pod = await Pod.create(this.#lab, name, this.#node);
    const kubePod = { name, namespace, uid: made.metadata.uid, pod };
    if (style !== 'none') {
      this.cri.run(kubePod.uid, pod.host.netns, style);
      await this.phase(kubePod, 'Running');
    }
    return kubePod;
  }

  async phase(pod: KubePod, phase: string): Promise<void> {
    await this.request('PATCH', `${pathOf(pod)}/status`, { status: { phase } });
  }

  /** Null takes an annotation away. */
  async annotate(pod: KubePod, annotations: Record<string, string | null>): Promise<void> {
    await this.request('PATCH', pathOf(pod), { metadata: { annotations } });
  }

  async label(pod: KubePod, labels: Record<string, string | null>): Promise<void> {
    await this.request('PATCH', pathOf(pod), { metadata: { labels } });
  }

  /** Its object goes, and its sandbox: in this order, unless it is to be the other way. */
  async delete(pod: KubePod): Promise<void> {
    await this.request('DELETE', `${pathOf(pod)}?gracePeriodSeconds=0`);
    this.cri.stop(pod.uid);
  }

  async get(pod: KubePod): Promise<KubeObject> {
    return (await this.request('GET', pathOf(pod))) as KubeObject;
  }

  /** What the pod shows of its networks; undefined: nothing. */
  async shown(pod: KubePod): Promise<NetworkStatus[] | undefined> {
    const text = (await this.get(pod)).metadata.annotations?.[STATUS_KEY];
    return text === undefined ? undefined : JSON.parse(text);
  }

  /** "reason: message" of its events. */
  async events(pod: KubePod): Promise<string[]> {
    const path = `/api/v1/namespaces/${pod.namespace}/events`;
    const { items } = (await this.request('GET', path)) as {
      items: { involvedObject: { uid: string }; reason: string; message: string }[];
    };
    return items
      .filter(({ involvedObject }) => involvedObject.uid === pod.uid)
      .map(({ reason, message }) => `${reason}: ${message}`);
  }

  /** The rest goes with the lab. */
  close(): void {
    this.cri.close();
  }
}

const pathOf = ({ namespace, name }: KubePod): string => `/api/v1/namespaces/${namespace}/pods/${name}`;
