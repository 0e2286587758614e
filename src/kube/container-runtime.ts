// The node's container runtime (containerd, CRI-O), asked over its socket by the Kubernetes Container Runtime Interface
// where the network namespaces of running pods are. What its answers mean is native-free/kube/sandbox.

import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { Vl3Error } from '../../native-free/error.ts';
import type { PodNetns } from '../../native-free/kube/reconcile-pods.ts';
import { currentSandboxes, networkNamespacePaths } from '../../native-free/kube/sandbox.ts';
import { fromConnectError } from '../api/errors.ts';
import { PodSandboxState, RuntimeService } from '../api/generated/runtime/v1/runtime_pb.js';

export interface ContainerRuntimeOptions {
  /** A path, or unix:// and a path; undefined: where runtimes usually listen. */
  readonly endpoint: string | undefined;
}

export interface ContainerRuntimeDeps {
  /** What tells one network namespace from others; undefined: there is none at the path. */
  readonly identify: (path: string) => Promise<string | undefined>;
}

const USUAL = [
  '/run/containerd/containerd.sock',
  '/run/crio/crio.sock',
  '/run/k3s/containerd/containerd.sock',
  '/run/cri-dockerd.sock',
];
const CALL_MS = 10_000;
const AT_ONCE = 8;

interface Connection {
  readonly path: string;
  readonly client: Client<typeof RuntimeService>;
  readonly sessions: Http2SessionManager;
}

export class ContainerRuntime implements Disposable {
  readonly #endpoint: string | undefined;
  readonly #deps: ContainerRuntimeDeps;
  #connection: Connection | undefined;
  /** By sandbox: a sandbox's namespace never changes. */
  #known = new Map<string, PodNetns>();

  constructor({ endpoint }: ContainerRuntimeOptions, deps: ContainerRuntimeDeps) {
    this.#endpoint = endpoint?.replace(/^unix:\/\//, '');
    this.#deps = deps;
  }

  /** Of those of the pods that run, by uid. Throws Vl3Error('unavailable'). */
  async find(pods: ReadonlySet<string>): Promise<Map<string, PodNetns>> {
    const { client, path } = this.#connect();
    try {
      const { items } = await client.listPodSandbox(
        { filter: { state: { state: PodSandboxState.SANDBOX_READY } } },
        { timeoutMs: CALL_MS },
      );
      const current = currentSandboxes(
        items.map(({ id, metadata, state, createdAt }) => ({
          id,
          uid: metadata?.uid ?? '',
          isReady: state === PodSandboxState.SANDBOX_READY,
          createdAt,
        })),
      );
      const wanted = [...current.values()].filter(({ uid }) => pods.has(uid));
      const found = new Map<string, PodNetns>();
      const known = new Map<string, PodNetns>();
      const look = async (): Promise<void> => {
        for (let one = wanted.pop(); one !== undefined; one = wanted.pop()) {
          const netns = this.#known.get(one.id) ?? (await this.#namespaceOf(client, one.id));
          if (netns === undefined) continue;
          known.set(one.id, netns);
          found.set(one.uid, netns);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, look));
      this.#known = known;
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

  async #namespaceOf(client: Connection['client'], podSandboxId: string): Promise<PodNetns | undefined> {
    const status = await client
      .podSandboxStatus({ podSandboxId, verbose: true }, { timeoutMs: CALL_MS })
      .catch((error: unknown) => {
        // It was removed since it was listed.
        if (ConnectError.from(error).code === Code.NotFound) return undefined;
        throw error;
      });
    for (const path of networkNamespacePaths(status?.info['info'] ?? '')) {
      const id = await this.#deps.identify(path);
      if (id !== undefined) return { path, id };
    }
    return undefined;
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
