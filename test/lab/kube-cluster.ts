// A Kubernetes cluster as far as an agent sees it: an API server in a namespace of the lab, reached at its loopback, and a
// container runtime that says where pods are. There is no kubelet: tests make pods, and say how they fare. The API server
// is a small one of our own, or a real one where KUBE_APISERVER names it (with etcd from the path, or ETCD).

import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type NetworkStatus, STATUS_KEY } from '../../native-free/kube/network-status.ts';
import { ControlPlane } from './kube-control-plane.ts';
import { Cri, type Style } from './kube-cri.ts';
import type { KubeObject } from './kube-store.ts';
import type { Lab } from './lab.ts';
import type { Node } from './node.ts';
import { Pod } from './pod.ts';

const RBAC = resolve(import.meta.dirname, '../../deploy/manifests/rbac.yaml');

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
  static readonly isReal = ControlPlane.isReal;
  readonly cri: Cri;
  readonly #lab: Lab;
  readonly #node: Node;
  readonly #plane: ControlPlane;

  private constructor(lab: Lab, node: Node, cri: Cri, plane: ControlPlane) {
    this.#lab = lab;
    this.#node = node;
    this.cri = cri;
    this.#plane = plane;
  }

  /** What the agent on its node is started with. */
  static agentOptions(lab: Lab): string[] {
    return [
      '--kubernetes',
      'on',
      '--kubeconfig',
      join(Cluster.#place(lab), 'kubeconfig'),
      ...Cluster.nodeOptions(lab),
    ];
  }

  /** What it is started with where it has an account. */
  static nodeOptions(lab: Lab): string[] {
    const socket = `unix://${join(Cluster.#place(lab), 'cri.sock')}`;
    return ['--node-name', 'node-1', '--container-runtime-endpoint', socket];
  }

  static #place(lab: Lab): string {
    return join(lab.scratch, 'kube');
  }

  /** On the host of a node, whose agent is not started yet. */
  static async start(lab: Lab, node: Node): Promise<Cluster> {
    const place = Cluster.#place(lab);
    mkdirSync(place, { recursive: true });
    const cri = await Cri.listen(join(place, 'cri.sock'));
    const { host, site } = node;
    const account = { account: 'vl3-agent', rbac: RBAC };
    const plane = await ControlPlane.start({ host, directory: place, address: site.address, ...account });
    return new Cluster(lab, node, cri, plane);
  }

  /** Of the agent, as a kubelet puts it into its pod. */
  serviceAccount(): { directory: string; host: string; port: number } {
    return this.#plane.serviceAccount();
  }

  /** What a watch of pods from `version` on says first. */
  async watchFrom(version: number): Promise<{ type: string; object: unknown }> {
    const query = `watch=true&resourceVersion=${version}&allowWatchBookmarks=true&timeoutSeconds=2`;
    const text = await this.#plane.ask('GET', `/api/v1/pods?${query}`);
    return JSON.parse(text.split('\n')[0] ?? '');
  }

  /** Of the API server. */
  version(): Promise<string> {
    return this.#plane.version();
  }

  /** As an admin. */
  request(method: string, path: string, body?: unknown): Promise<unknown> {
    return this.#plane.request(method, path, body);
  }

  /** Starts the API server on what it has; resolves once it answers. */
  startApi(): Promise<void> {
    return this.#plane.start();
  }

  /** Ends the API server; what it has stays. */
  stopApi(): Promise<void> {
    return this.#plane.stop();
  }

  createNamespace(name: string, annotations: Record<string, string> = {}): Promise<void> {
    return this.#plane.createNamespace(name, annotations);
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
      this.cri.run(kubePod, pod.host.netns, style);
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
