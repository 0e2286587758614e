// A Kubernetes cluster of Kubernetes' own programs in the lab, laid out as kind does it: a control plane on its first node, a pod
// network between nodes, cluster DNS, and a default class of storage.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Daemon } from '../daemon.ts';
import { eventually } from '../eventually.ts';
import type { Cloud, Site } from '../internet.ts';
import type { Lab } from '../lab.ts';
import { KindNode } from './node.ts';
import { programOf } from './programs.ts';

const PORT = 6443;
const SERVICES = '10.96.0';
const PODS = '10.244';
const READY = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}';
const PATIENCE = { timeout: 100_000, interval: 500 };

export interface KindClusterOptions {
  readonly lab: Lab;
  readonly cloud: Cloud;
  readonly name: string;
  /** Of its nodes in the cloud, the first one's last number. */
  readonly first: number;
  readonly roles: readonly string[];
  readonly images: readonly string[];
  /** Runs kubectl on a cluster's kubeconfig. */
  readonly kubectl: (kubeconfig: string, args: readonly string[], input?: string) => Promise<string>;
}

interface User {
  readonly name: string;
  readonly user: string;
  readonly group: string;
}

export class KindCluster {
  readonly name: string;
  readonly nodes: KindNode[] = [];
  readonly #options: KindClusterOptions;
  readonly #directory: string;
  #sites: Site[] = [];
  #daemons: Daemon[] = [];

  constructor(options: KindClusterOptions) {
    this.name = options.name;
    this.#options = options;
    this.#directory = join(options.lab.scratch, `cluster-${options.name}`);
  }

  /** Of an admin: its context is called kind-<name>. */
  get kubeconfig(): string {
    return this.#at('admin.kubeconfig');
  }

  get #address(): string {
    return this.#sites[0]?.address ?? '';
  }

  /** Resolves once its nodes are ready. */
  async create(): Promise<void> {
    const { cloud, roles, first, images, lab } = this.#options;
    mkdirSync(this.#directory);
    const names = this.#nodeNames(roles);
    for (const [i, name] of names.entries()) this.#sites.push(await cloud.node(name, first + i));
    this.#makeCertificates();
    for (const one of this.#users(names)) this.#writeKubeconfig(one);
    await this.#startControlPlane();
    await this.#furnish(names);
    for (const [i, site] of this.#sites.entries()) {
      for (const [j, other] of this.#sites.entries())
        if (i !== j) await site.host.ip(`route add ${PODS}.${j}.0/24 via ${other.address}`);
      const node = new KindNode({
        ...{ lab, host: site.host, name: names[i] ?? '', address: site.address, podRange: `${PODS}.${i}` },
        ...{ kubeconfig: this.#at(`${names[i]}.kubeconfig`), clusterDns: this.#address, images },
        ...{ proxyKubeconfig: this.#at('proxy.kubeconfig'), clusterRange: `${PODS}.0.0/16` },
        isTainted: roles.length > 1 && roles[i] === 'control-plane',
      });
      this.nodes.push(node);
      await node.start();
    }
    await eventually(async () => {
      const ready = await this.kubectl('get', 'nodes', '-o', READY);
      if (ready !== names.map(() => 'True').join(' ')) throw new Error(`its nodes are not ready: ${ready}`);
    }, PATIENCE);
  }

  node(name: string): KindNode {
    const found = this.nodes.find((one) => one.name === name);
    if (found === undefined) throw new Error(`there is no node ${name}`);
    return found;
  }

  kubectl(...args: string[]): Promise<string> {
    return this.#options.kubectl(this.kubeconfig, args);
  }

  async apply(...objects: object[]): Promise<void> {
    const list = { apiVersion: 'v1', kind: 'List', items: objects };
    await this.#options.kubectl(this.kubeconfig, ['apply', '-f', '-'], JSON.stringify(list));
  }

  /** What all its programs have said last. */
  logs(): string {
    const own = this.#daemons.map((one) => `--- ${one.log}\n${one.output().slice(-1500)}`);
    return [...own, ...this.nodes.map((one) => one.logs())].join('\n');
  }

  /** The rest goes with the lab. Blocks. */
  close(): void {
    for (const node of this.nodes) node.close();
  }

  #at(name: string): string {
    return join(this.#directory, name);
  }

  #nodeNames(roles: readonly string[]): string[] {
    const count = new Map<string, number>();
    return roles.map((role) => {
      const before = count.get(role) ?? 0;
      count.set(role, before + 1);
      return `${this.name}-${role}${before === 0 ? '' : before + 1}`;
    });
  }

  #users(nodes: readonly string[]): User[] {
    return [
      { name: 'admin', user: 'admin', group: 'system:masters' },
      { name: 'manager', user: 'system:kube-controller-manager', group: 'system:masters' },
      { name: 'scheduler', user: 'system:kube-scheduler', group: '' },
      { name: 'proxy', user: 'system:kube-proxy', group: '' },
      ...nodes.map((name) => ({ name, user: `system:node:${name}`, group: 'system:nodes' })),
    ];
  }

  #writeKubeconfig({ name }: User): void {
    const context = `kind-${this.name}`;
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: context,
          cluster: {
            server: `https://${this.#address}:${PORT}`,
            'certificate-authority': this.#at('ca.crt'),
          },
        },
      ],
      users: [{ name: context, user: { token: `token-of-${name}` } }],
      contexts: [{ name: context, context: { cluster: context, user: context } }],
      'current-context': context,
    };
    // JSON is YAML.
    writeFileSync(this.#at(`${name}.kubeconfig`), JSON.stringify(config));
  }

  #makeCertificates(): void {
    const openssl = (...args: string[]) =>
      execFileSync('openssl', args, { cwd: this.#directory, stdio: 'ignore' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', `/CN=${this.name}-ca`);
    const named = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'].map((name) => `DNS:${name}`);
    const reached = [this.#address, '127.0.0.1', `${SERVICES}.1`].map((address) => `IP:${address}`);
    const names = ['-subj', '/CN=api', '-addext', `subjectAltName=${[...named, ...reached].join(',')}`];
    openssl(
      ...['req', '-x509', ...key, '-keyout', 'api.key', '-out', 'api.crt', ...names],
      ...['-CA', 'ca.crt', '-CAkey', 'ca.key'],
    );
    openssl('genrsa', '-out', 'sa.key', '2048');
    const tokens = this.#users(this.#nodeNames(this.#options.roles)).map(
      ({ name, user, group }) => `token-of-${name},${user},${user},"${group}"`,
    );
    writeFileSync(this.#at('tokens.csv'), `${tokens.join('\n')}\n`);
  }

  async #startControlPlane(): Promise<void> {
    const host = this.#sites[0]?.host;
    if (host === undefined) throw new Error('a cluster has a control plane');
    const flags = (values: Record<string, string | number | boolean>): string[] =>
      Object.entries(values).map(([name, value]) => `--${name}=${value}`);
    const at = (name: string): string => this.#at(name);
    const etcd = {
      'data-dir': at('etcd'),
      'listen-peer-urls': 'http://127.0.0.1:2380',
      'listen-client-urls': 'http://127.0.0.1:2379',
      'advertise-client-urls': 'http://127.0.0.1:2379',
      // On a disk that many share; nothing here outlives the machine.
      'unsafe-no-fsync': true,
    };
    const api = {
      'etcd-servers': 'http://127.0.0.1:2379',
      'secure-port': PORT,
      'advertise-address': this.#address,
      'service-cluster-ip-range': `${SERVICES}.0/16`,
      'cert-dir': at('certs'),
      'tls-cert-file': at('api.crt'),
      'tls-private-key-file': at('api.key'),
      'service-account-key-file': at('sa.key'),
      'service-account-signing-key-file': at('sa.key'),
      'service-account-issuer': 'https://kubernetes.default.svc.cluster.local',
      'token-auth-file': at('tokens.csv'),
      'authorization-mode': 'Node,RBAC',
      'enable-admission-plugins': 'NodeRestriction',
      'kubelet-preferred-address-types': 'InternalIP',
      'allow-privileged': true,
    };
    const manager = {
      kubeconfig: at('manager.kubeconfig'),
      'service-account-private-key-file': at('sa.key'),
      'root-ca-file': at('ca.crt'),
      'use-service-account-credentials': true,
      'leader-elect': false,
      'bind-address': '127.0.0.1',
      'cert-dir': at('manager-certs'),
    };
    const scheduler = {
      kubeconfig: at('scheduler.kubeconfig'),
      'leader-elect': false,
      'bind-address': '127.0.0.1',
      'cert-dir': at('scheduler-certs'),
    };
    this.#daemons.push(host.start([programOf('etcd'), ...flags(etcd)]));
    this.#daemons.push(host.start([programOf('kube-apiserver'), ...flags(api)]));
    await eventually(async () => {
      const dead = this.#daemons.find(({ running }) => !running);
      if (dead !== undefined) throw new Error(dead.output());
      await this.kubectl('get', '--raw', '/readyz');
    }, PATIENCE);
    this.#daemons.push(host.start([programOf('kube-controller-manager'), ...flags(manager)]));
    this.#daemons.push(host.start([programOf('kube-scheduler'), ...flags(scheduler)]));
    writeFileSync(
      at('Corefile'),
      `.:53 {\n  bind ${this.#address}\n  errors\n  kubernetes cluster.local in-addr.arpa ip6.arpa {\n    kubeconfig ${this.kubeconfig} kind-${this.name}\n  }\n}\n`,
    );
    this.#daemons.push(host.start([programOf('coredns'), '-conf', at('Corefile')]));
  }

  /** What kind puts into a cluster: its class of storage, with a volume on the last node. */
  async #furnish(nodes: readonly string[]): Promise<void> {
    const last = nodes.at(-1) ?? '';
    const affinity = {
      required: {
        nodeSelectorTerms: [
          { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [last] }] },
        ],
      },
    };
    await this.apply(
      {
        apiVersion: 'storage.k8s.io/v1',
        kind: 'StorageClass',
        metadata: {
          name: 'standard',
          annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' },
        },
        provisioner: 'rancher.io/local-path',
        volumeBindingMode: 'WaitForFirstConsumer',
      },
      {
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name: 'local' },
        spec: {
          capacity: { storage: '1Gi' },
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'standard',
          hostPath: { path: '/var/lib/local-path', type: '' },
          nodeAffinity: affinity,
        },
      },
    );
  }
}
