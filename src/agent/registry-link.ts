// The agent's line to the registry: one connection under the node's SVID, heartbeats over it, and the SVID's renewal.
// Losing it changes nothing but what it reports.

import type { Logger } from 'pino';
import type { Vl3Error } from '../../native-free/error.ts';
import { fromConnectError } from '../api/errors.ts';
import { createCertificateRequest } from '../identity/certificate-request.ts';
import { type Identity, renewalTime, renewIdentity } from '../identity/identity.ts';
import { storeNodeIdentity } from '../identity/identity-file.ts';
import { generateKey } from '../identity/key.ts';
import { type AgentClient, type Connected, connectAgent } from '../registry/client.ts';
import { VERSION } from '../version.ts';
import { pause } from './backoff.ts';

const HEARTBEAT_MS = 5_000;
const CALL_TIMEOUT_MS = 10_000;
/** A renewal that failed is tried again after this long. */
const RENEWAL_RETRY_MS = 60_000;
/** A replaced connection's calls get this long to end. */
const LINGER_MS = 20_000;

export interface RegistryLinkOptions {
  readonly stateDirectory: string;
  readonly identity: Identity;
}

export interface RegistryLinkDeps {
  readonly logger: Logger;
  readonly wall: () => number;
  /** The registry saw this node come from there. */
  readonly onObserved: (address: string) => void;
  readonly onRenewed: () => void;
}

export class RegistryLink implements AsyncDisposable {
  readonly #options: RegistryLinkOptions;
  readonly #deps: RegistryLinkDeps;
  #identity: Identity;
  #connection: Connected<AgentClient>;
  #lastContactAt = 0;
  #problem: Vl3Error | undefined;
  #renewAt: number;

  constructor(options: RegistryLinkOptions, deps: RegistryLinkDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#identity = options.identity;
    this.#connection = connectAgent(options.identity);
    this.#renewAt = renewalTime(options.identity, Math.random());
  }

  get client(): AgentClient {
    return this.#connection.client;
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** Why the last heartbeat failed; undefined while the line is up. */
  get problem(): Vl3Error | undefined {
    return this.#problem;
  }

  /** Unix ms; 0: never since the start. */
  get lastContactAt(): number {
    return this.#lastContactAt;
  }

  /** Sends heartbeats and renews the SVID until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#beat(signal);
      if (!signal.aborted && this.#deps.wall() >= this.#renewAt) await this.#renew(signal);
      await pause(HEARTBEAT_MS, signal);
    }
  }

  async #beat(signal: AbortSignal): Promise<void> {
    const { logger, wall, onObserved } = this.#deps;
    try {
      const call = { signal, timeoutMs: CALL_TIMEOUT_MS };
      const { observedAddress } = await this.client.heartbeat({ agentVersion: VERSION }, call);
      this.#lastContactAt = wall();
      if (this.#problem !== undefined) logger.info('registry answers again');
      this.#problem = undefined;
      onObserved(observedAddress);
    } catch (error) {
      if (signal.aborted) return;
      const problem = fromConnectError(error);
      if (this.#problem?.message !== problem.message) {
        logger.warn({ code: problem.code, reason: problem.message }, 'registry does not answer');
      }
      this.#problem = problem;
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { logger, wall, onRenewed } = this.#deps;
    try {
      const privateKey = await generateKey();
      const certificateRequest = await createCertificateRequest(privateKey);
      const call = { signal, timeoutMs: CALL_TIMEOUT_MS };
      const { certificateChain } = await this.client.renewSvid({ certificateRequest }, call);
      const renewed = renewIdentity(this.#identity, { privateKey, certificateChain }, wall());
      await storeNodeIdentity(this.#options.stateDirectory, renewed);
      const old = this.#connection;
      this.#identity = renewed;
      this.#connection = connectAgent(renewed);
      this.#renewAt = renewalTime(renewed, Math.random());
      logger.info({ notAfter: new Date(renewed.notAfter).toISOString() }, 'SVID renewed');
      onRenewed();
      void this.#closeLater(old, signal);
    } catch (error) {
      if (signal.aborted) return;
      const { code, message } = fromConnectError(error);
      this.#renewAt = wall() + RENEWAL_RETRY_MS;
      logger.warn({ code, reason: message }, 'SVID renewal failed');
    }
  }

  /** Watches on the old connection break off when it closes, and begin anew on the new one. */
  async #closeLater(connection: Connected<AgentClient>, signal: AbortSignal): Promise<void> {
    await pause(LINGER_MS, signal);
    await connection[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}
