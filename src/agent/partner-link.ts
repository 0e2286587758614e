// The line to a partner's registry: a connection under this node's own SVID to a server that is verified by the partner's
// bundle, and heartbeats over it as long as this node is on a network there. Losing it changes nothing but what it reports.
// Not here: who is a partner, and the own registry (registry-link.ts).

import type { Logger } from 'pino';
import { NotEnrolled, Vl3Error } from '../../native-free/error.ts';
import type { SeenStore } from '../../native-free/reconcile/seen-store.ts';
import { fromConnectError } from '../api/errors.ts';
import type { HeartbeatResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { Identity } from '../identity/identity.ts';
import { type AgentClient, type Connected, connectPartner } from '../registry/client.ts';
import { VERSION } from '../version.ts';
import { pause } from './backoff.ts';
import type { Clock } from './clock.ts';
import { Failures } from './failures.ts';
import type { Federation } from './federations.ts';
import type { RegistryNews } from './registry-news.ts';

const HEARTBEAT_MS = 5_000;
const CALL_TIMEOUT_MS = 10_000;
/** Whether there is anything to say is looked at this often. */
const LOOK_MS = 500;
/** A replaced connection's calls get this long to end. */
const LINGER_MS = 20_000;

export interface PartnerLinkDeps extends RegistryNews {
  /** As the own registry says. */
  readonly federation: () => Federation | undefined;
  readonly identity: () => Identity;
  readonly clock: Clock;
  readonly seen: Pick<SeenStore, 'position' | 'answered'>;
  /** Whether this node is on a network there. */
  readonly isNeeded: () => boolean;
  readonly logger: Logger;
  /** It says that there is no federation (any more). */
  readonly onRefused: (reason: string) => void;
}

export class PartnerLink implements AsyncDisposable {
  readonly trustDomain: string;
  readonly #deps: PartnerLinkDeps;
  readonly #failures: Failures;
  readonly #closed = new AbortController();
  #connection: Connected<AgentClient> | undefined;
  #lastContactAt = 0;
  #problem: Vl3Error | undefined;
  #beatAt = 0;

  constructor(trustDomain: string, deps: PartnerLinkDeps) {
    this.trustDomain = trustDomain;
    this.#deps = deps;
    this.#failures = new Failures("a partner's registry does not answer", deps);
  }

  /** Connects at the first call. Throws Vl3Error when there is nobody to call. */
  get client(): AgentClient {
    this.#connection ??= this.#connect();
    return this.#connection.client;
  }

  /** Why the last heartbeat failed; undefined while the line is up, or is not needed. */
  get problem(): Vl3Error | undefined {
    return this.#problem;
  }

  /** Unix ms; 0: never since the start. */
  get lastContactAt(): number {
    return this.#lastContactAt;
  }

  #connect(): Connected<AgentClient> {
    const federation = this.#deps.federation();
    if (federation === undefined || federation.isRevoked)
      throw new Vl3Error(
        'failed-precondition',
        `the domain of this node is not federated with ${this.trustDomain}`,
      );
    const { bundle, registries } = federation;
    if (bundle === undefined || registries.length === 0)
      throw new Vl3Error(
        'unavailable',
        `nothing is known of ${this.trustDomain} by which its registry could be trusted: see \`vl3 federation list\``,
      );
    return connectPartner(this.#deps.identity(), { trustBundle: bundle, registries });
  }

  /** This node's SVID, or what is known of the partner, is another: calls from now on go by it. */
  reconnect(): void {
    const old = this.#connection;
    this.#connection = undefined;
    this.#beatAt = 0;
    if (old === undefined) return;
    void pause(LINGER_MS, this.#closed.signal).then(() => old[Symbol.asyncDispose]());
  }

  /**
   * It did not know whom it was talking to. A connection is judged when it is made: what has changed at the partner since counts
   * for the next one.
   */
  unknownThere(): void {
    const old = this.#connection;
    this.#connection = undefined;
    void old?.[Symbol.asyncDispose]();
  }

  /** Sends heartbeats while there is reason to, until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const now = this.#deps.clock.monotonic();
      if (!this.#deps.isNeeded()) this.#rest();
      else if (now >= this.#beatAt) {
        this.#beatAt = now + HEARTBEAT_MS;
        await this.#beat(signal);
      }
      await pause(LOOK_MS, signal);
    }
  }

  #rest(): void {
    this.#problem = undefined;
    // Whoever joins connects.
    if (this.#beatAt > 0) this.reconnect();
  }

  async #beat(signal: AbortSignal): Promise<void> {
    const { seen, clock } = this.#deps;
    const told = seen.position;
    const askedAt = clock.moment().boot;
    try {
      const call = { signal, timeoutMs: CALL_TIMEOUT_MS };
      const answer = await this.client.heartbeat({ agentVersion: VERSION, ...told }, call);
      this.#heard(answer, told, askedAt);
    } catch (error) {
      if (signal.aborted) return;
      this.#problem = this.#failures.say(fromConnectError(error), { domain: this.trustDomain });
      if (this.#problem.code === 'unauthenticated') this.unknownThere();
      // That it is not known is what a registry says that lost its memory.
      if (this.#problem instanceof NotEnrolled && this.#problem.why === 'deleted')
        this.#deps.onRefused(this.#problem.message);
    }
  }

  #heard(answer: HeartbeatResponse, told: SeenStore['position'], askedAt: number): void {
    const { clock, seen, logger, onObserved, onStoreReplaced, onRecovering, onBack } = this.#deps;
    this.#lastContactAt = clock.wall();
    const isBack = this.#problem !== undefined;
    this.#problem = undefined;
    if (isBack) {
      logger.info({ domain: this.trustDomain }, "the partner's registry answers again");
      onBack();
    }
    if (seen.answered(answer, told)) onStoreReplaced();
    onRecovering(answer, askedAt);
    onObserved(answer.observedAddress);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort();
    await this.#connection?.[Symbol.asyncDispose]();
  }
}
