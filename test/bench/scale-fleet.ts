// The control half of many agents in one process: each with its own SVID, its own TLS connection, its heartbeats, one
// network, a signed record and the watch that real agents run (src/agent/watch). No datapath.

import { randomBytes } from 'node:crypto';
import pino from 'pino';
import type { Vl3Error } from '../../native-free/error.ts';
import { Backoff } from '../../src/agent/backoff.ts';
import { NetworkWatch, type WatchPosition } from '../../src/agent/watch.ts';
import type { WatchNetworkResponse } from '../../src/api/generated/vl3/v1/agent_pb.js';
import type { Identity } from '../../src/identity/identity.ts';
import { signRecord } from '../../src/identity/record-signer.ts';
import { type AgentClient, type Connected, connectAgent } from '../../src/registry/client.ts';

const silent = pino({ level: 'silent' });
const HEARTBEAT_MS = 5000;

export interface FleetEvents {
  /** A call was refused and is made again. */
  readonly onRetry: (problem: unknown) => void;
}

export class FleetNode implements AsyncDisposable {
  readonly identity: Identity;
  /** What the watch has told so far: per node whether its record is there. */
  readonly known = new Set<string>();
  position: WatchPosition | undefined;
  /** When (performance.now) the last step came. */
  #steppedAt = 0;
  /** Steps since the last `countAnew`, and whether a snapshot was among them. */
  steps = 0;
  snapshots = 0;
  #sequence = 0;
  #networkUid = '';
  #prefixes: { prefix: string; leasedAt: number }[] = [];
  readonly #key = randomBytes(32).toString('base64');
  readonly #network: string;
  readonly #events: FleetEvents;
  readonly #stop = new AbortController();
  #connection: Connected<AgentClient>;
  #waiting: { readonly revision: bigint; readonly resolve: (at: number) => void }[] = [];
  #running: Promise<unknown>[] = [];

  constructor(identity: Identity, network: string, events: FleetEvents) {
    this.identity = identity;
    this.#network = network;
    this.#events = events;
    this.#connection = connectAgent(identity);
  }

  async join(): Promise<void> {
    const answer = await this.retried(() => this.#client.joinNetwork({ network: this.#network }));
    this.#networkUid = answer.network?.uid ?? '';
    this.#prefixes = answer.leases.map(({ prefix, leasedAt }) => ({
      prefix,
      leasedAt: Number(leasedAt?.seconds ?? 0n) * 1000 + (leasedAt?.nanos ?? 0) / 1e6,
    }));
  }

  async beat(): Promise<void> {
    await this.retried(() => this.#client.heartbeat({ agentVersion: 'scale' }));
  }

  /** Signs and puts the next record; resolves with its revision. */
  async announce(): Promise<bigint> {
    const signed = signRecord(this.identity, {
      network: this.#network,
      networkUid: this.#networkUid,
      publicKey: this.#key,
      prefixes: this.#prefixes,
      endpoints: [],
      sequence: ++this.#sequence,
    });
    const record = { ...signed, certificateChain: [...signed.certificateChain] };
    return (await this.retried(() => this.#client.putRecord({ network: this.#network, record }))).revision;
  }

  /** Heartbeats and the watch, until disposed of. */
  live(): void {
    const { signal } = this.#stop;
    const beats = async (): Promise<void> => {
      for (;;) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, HEARTBEAT_MS * (0.9 + Math.random() * 0.2));
          signal.addEventListener('abort', () => {
            clearTimeout(timer);
            resolve();
          });
        });
        if (signal.aborted) return;
        await this.beat().catch(() => {});
      }
    };
    const watch = new NetworkWatch(
      {
        network: this.#network,
        key: this.#network,
        isForeign: false,
        position: () => this.position,
        onStep: (step) => this.#take(step),
        onState: (problem: Vl3Error | undefined) => problem && this.#events.onRetry(problem),
      },
      { client: () => this.#client, logger: silent },
    );
    this.#running = [beats(), watch.run(signal)];
  }

  countAnew(): void {
    this.steps = 0;
    this.snapshots = 0;
  }

  /** When (performance.now) the watch had seen the revision. */
  seen(revision: bigint): Promise<number> {
    if (this.position !== undefined && this.position.revision >= revision) {
      return Promise.resolve(this.#steppedAt);
    }
    return new Promise((resolve) => this.#waiting.push({ revision, resolve }));
  }

  /** As agents do: again after a pause for as long as it takes. */
  async retried<T>(call: () => Promise<T>): Promise<T> {
    const backoff = new Backoff({ firstMs: 250, capMs: 15_000 });
    for (;;) {
      try {
        return await call();
      } catch (error) {
        this.#events.onRetry(error);
        if (this.#stop.signal.aborted) throw error;
        await backoff.wait(this.#stop.signal);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#connection[Symbol.asyncDispose]();
    await Promise.all(this.#running);
  }

  get #client(): AgentClient {
    return this.#connection.client;
  }

  #take({ storeId, revision, stamp, step }: WatchNetworkResponse): void {
    const at = performance.now();
    this.#steppedAt = at;
    this.position = { storeId, revision, stamp };
    this.steps++;
    if (step.case === 'snapshot') {
      this.snapshots++;
      this.known.clear();
    }
    if (step.case === 'snapshot' || step.case === 'delta') {
      for (const { node, record } of step.value.nodes) if (record !== undefined) this.known.add(node);
    }
    const reached = this.#waiting.filter((waiting) => waiting.revision <= revision);
    if (reached.length === 0) return;
    this.#waiting = this.#waiting.filter((waiting) => waiting.revision > revision);
    for (const { resolve } of reached) resolve(at);
  }
}
