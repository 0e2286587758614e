// A small container runtime as far as the CRI tells where pods are: it lists sandboxes that a test says there are.

import { createServer, type Http2Server } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { PodSandboxState, RuntimeService } from '../../src/api/generated/runtime/v1/runtime_pb.js';

/** Of whom a sandbox is. */
export interface PodOf {
  uid: string;
  namespace: string;
  name: string;
}

interface Sandbox extends PodOf {
  id: string;
  isReady: boolean;
  createdAt: bigint;
  /** As this runtime tells it. */
  info: string;
}

export type Style = 'containerd' | 'cri-o' | 'pid';

export class Cri {
  readonly #server: Http2Server;
  readonly #sandboxes: Sandbox[] = [];
  /** Calls that were made, by name. */
  readonly calls: Record<string, number> = { ListPodSandbox: 0, PodSandboxStatus: 0 };
  /** Uids of pods of which there is no status. */
  readonly broken = new Set<string>();
  #made = 0;

  private constructor() {
    this.#server = createServer(
      connectNodeAdapter({
        routes: (router) =>
          router.service(RuntimeService, {
            listPodSandbox: ({ filter }) => {
              this.#count('ListPodSandbox');
              const isReadyOnly = filter?.state?.state === PodSandboxState.SANDBOX_READY;
              const shown = this.#sandboxes.filter(({ isReady }) => isReady || !isReadyOnly);
              return {
                items: shown.map(({ id, uid, namespace, name, isReady, createdAt }) => ({
                  id,
                  metadata: { uid, name, namespace, attempt: 0 },
                  state: isReady ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY,
                  createdAt,
                })),
              };
            },
            podSandboxStatus: ({ podSandboxId, verbose }) => {
              this.#count('PodSandboxStatus');
              const found = this.#sandboxes.find(({ id }) => id === podSandboxId);
              if (found === undefined) throw new ConnectError('no such sandbox', Code.NotFound);
              if (this.broken.has(found.uid)) throw new ConnectError('its task is gone', Code.Unknown);
              return { info: verbose ? { info: found.info } : {} };
            },
          }),
      }),
    );
  }

  static async listen(path: string): Promise<Cri> {
    const cri = new Cri();
    await new Promise<void>((resolve) => cri.#server.listen(path, resolve));
    return cri;
  }

  #count(name: string): void {
    this.calls[name] = (this.calls[name] ?? 0) + 1;
  }

  /** A sandbox of the pod begins to run; earlier ones of it are stopped. */
  run({ uid, namespace, name }: PodOf, netns: string, style: Style = 'containerd', pid = 1): void {
    this.stop(uid);
    this.#made += 1;
    const network = style === 'pid' ? { type: 'network' } : { type: 'network', path: netns };
    const runtimeSpec = { linux: { namespaces: [{ type: 'pid' }, { type: 'ipc' }, network] } };
    const info =
      style === 'containerd'
        ? {
            sandboxID: `s${this.#made}`,
            processStatus: 'running',
            netNamespaceClosed: false,
            pid,
            runtimeSpec,
          }
        : // CRI-O runs no infra container, whose process it could name.
          { ...(style === 'pid' ? { image: 'pause', pid } : {}), runtimeSpec };
    this.#sandboxes.push({
      id: `s${this.#made}`,
      uid,
      namespace,
      name,
      isReady: true,
      createdAt: BigInt(this.#made),
      info: JSON.stringify(info),
    });
  }

  stop(uid: string): void {
    for (const one of this.#sandboxes) if (one.uid === uid) one.isReady = false;
  }

  /** Sessions of agents end with them. */
  close(): void {
    this.#server.close();
  }
}
