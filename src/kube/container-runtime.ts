// The node's container runtime (containerd, CRI-O), asked over its socket by the Kubernetes Container Runtime Interface
// where the network namespaces of running pods are. What its answers mean is native-free/kube/sandbox. A sandbox of which it
// tells nothing holds up no other.

import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { Vl3Error } from '../../native-free/error.ts';
import type { PodNetns, RunningPod } from '../../native-free/kube/reconcile-pods.ts';
import {
  currentSandboxes,
  networkNamespacePaths,
  type SandboxFacts,
} from '../../native-free/kube/sandbox.ts';
import { fromConnectError } from '../api/errors.ts';
import { PodSandboxState, RuntimeService } from '../api/generated/runtime/v1/runtime_pb.js';

export interface ContainerRuntimeOptions {
  /** A path, or unix:// and a path; undefined: where runtimes usually listen. */
  readonly endpoint: string | undefined;
}

export interface ContainerRuntimeDeps {
  /** What tells one network namespace from others; undefined: there is none at the path. */
  readonly identify: (path: string) => Promise<string | undefined>;
  /** Milliseconds that only grow. */
  readonly now: () => number;
}

// Not cri-dockerd: it does not tell where pods are.
const USUAL = [
  '/run/containerd/containerd.sock',
  '/run/crio/crio.sock',
  '/run/k3s/containerd/containerd.sock',
];
const LIST_MS = 10_000;
/** Of one sandbox: pods wait for it that have nothing to do with it. */
const STATUS_MS = 3_000;
/** A sandbox for which it had no answer is asked for again after this. */
const AGAIN_MS = 15_000;
const AT_ONCE = 8;

interface Connection {
  readonly path: string;
  readonly client: Client<typeof RuntimeService>;
  readonly sessions: Http2SessionManager;
}

/** Where a sandbox is, or why that is not known. */
interface Answer {
  readonly netns: PodNetns | undefined;
  readonly why: string;
  readonly isAnswer: boolean;
}

export class ContainerRuntime implements Disposable {
  readonly #endpoint: string | undefined;
  readonly #deps: ContainerRuntimeDeps;
  #connection: Connection | undefined;
  /** By sandbox: a sandbox's namespace never changes. */
  #known = new Map<string, PodNetns>();
  /** By sandbox: why it is not known where it is, and when to ask again. */
  #unknown = new Map<string, { readonly name: string; readonly why: string; readonly dueAt: number }>();

  constructor({ endpoint }: ContainerRuntimeOptions, deps: ContainerRuntimeDeps) {
    this.#endpoint = endpoint?.replace(/^unix:\/\//, '');
    this.#deps = deps;
  }

  /** What it did not tell when it was last asked, in a sentence; empty: nothing. */
  get problem(): string {
    const [first, ...others] = this.#unknown.values();
    if (first === undefined) return '';
    const more = others.length === 0 ? '' : ` and ${others.length} more`;
    return `the container runtime does not tell where pod ${first.name}${more} is: ${first.why}`;
  }

  /** The pods that run, by uid. Throws Vl3Error('unavailable'). */
  async find(pods: ReadonlySet<string>): Promise<Map<string, RunningPod>> {
    const { client, path } = this.#connect();
    try {
      const { items } = await client.listPodSandbox(
        { filter: { state: { state: PodSandboxState.SANDBOX_READY } } },
        { timeoutMs: LIST_MS },
      );
      const current = currentSandboxes(
        items.map(({ id, metadata, state, createdAt }) => ({
          id,
          uid: metadata?.uid ?? '',
          namespace: metadata?.namespace ?? '',
          name: metadata?.name ?? '',
          isReady: state === PodSandboxState.SANDBOX_READY,
          createdAt,
        })),
      );
      const wanted = [...current.values()].filter(({ uid }) => pods.has(uid));
      this.#forget(new Set(wanted.map(({ id }) => id)));
      const found = new Map<string, RunningPod>();
      const left = [...wanted];
      const look = async (): Promise<void> => {
        for (let one = left.pop(); one !== undefined; one = left.pop()) {
          const { uid, namespace, name } = one;
          found.set(uid, { namespace, name, netns: await this.#namespaceOf(client, one) });
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, look));
      return found;
    } catch (error) {
      this.#disconnect();
      const { message } = fromConnectError(error);
      throw new Vl3Error(
        'unavailable',
        `the container runtime at ${path} does not tell where pods are (${message}): see whether it runs, or set --container-runtime-endpoint`,
        { cause: error },
      );
    }
  }

  #forget(present: ReadonlySet<string>): void {
    for (const known of [this.#known, this.#unknown])
      for (const id of known.keys()) if (!present.has(id)) known.delete(id);
  }

  async #namespaceOf(client: Connection['client'], one: SandboxFacts): Promise<PodNetns | undefined> {
    const { id, namespace, name } = one;
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    if ((this.#unknown.get(id)?.dueAt ?? 0) > this.#deps.now()) return undefined;
    const { netns, why, isAnswer } = await this.#ask(client, id);
    if (netns === undefined) {
      const dueAt = isAnswer ? 0 : this.#deps.now() + AGAIN_MS;
      this.#unknown.set(id, { name: `${namespace}/${name}`, why, dueAt });
    } else {
      this.#known.set(id, netns);
      this.#unknown.delete(id);
    }
    return netns;
  }

  async #ask(client: Connection['client'], podSandboxId: string): Promise<Answer> {
    let info: string;
    try {
      const status = await client.podSandboxStatus({ podSandboxId, verbose: true }, { timeoutMs: STATUS_MS });
      info = status.info['info'] ?? '';
    } catch (error) {
      if (ConnectError.from(error).code === Code.Unavailable) throw error;
      return { netns: undefined, why: fromConnectError(error).message, isAnswer: false };
    }
    const paths = networkNamespacePaths(info);
    for (const path of paths) {
      const id = await this.#deps.identify(path);
      if (id !== undefined) return { netns: { path, id }, why: '', isAnswer: true };
    }
    const why =
      paths.length === 0
        ? 'it says nothing of a network namespace'
        : `no network namespace is at ${paths.join(' or ')}, as seen from here`;
    return { netns: undefined, why, isAnswer: true };
  }

  #connect(): Connection {
    if (this.#connection !== undefined) return this.#connection;
    const path = this.#endpoint ?? USUAL.find((one) => existsSync(one));
    if (path === undefined)
      throw new Vl3Error(
        'unavailable',
        `no container runtime listens at ${USUAL.join(', ')}: set --container-runtime-endpoint`,
      );
    const baseUrl = 'http://localhost';
    const sessions = new Http2SessionManager(baseUrl, {}, { createConnection: () => connect(path) });
    const transport = createGrpcTransport({ baseUrl, sessionManager: sessions });
    this.#connection = { path, client: createClient(RuntimeService, transport), sessions };
    return this.#connection;
  }

  #disconnect(): void {
    this.#connection?.sessions.abort();
    this.#connection = undefined;
  }

  [Symbol.dispose](): void {
    this.#disconnect();
  }
}
