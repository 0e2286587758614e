// A real registry over TLS on 127.0.0.1 for tests, its admin, and nodes that enrolled by the real flow.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino, { type Logger } from 'pino';
import { onTestFinished } from 'vitest';
import { enroll } from '../../../src/identity/enroll.ts';
import type { Identity } from '../../../src/identity/identity.ts';
import { parseJoinToken } from '../../../src/identity/token.ts';
import {
  type AdminClient,
  type AdmissionClient,
  type AgentClient,
  connectAdmin,
  connectAdmission,
  connectAgent,
  connectFederation,
  type FederationClient,
} from '../../../src/registry/client.ts';
import { type RegistryOptions, type RunningRegistry, startRegistry } from '../../../src/registry/server.ts';

export const TRUST_DOMAIN = 'test.example';

/** A directory that goes when the test ends. */
export const temporaryDirectory = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'vl3t-registry-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
};

/** A logger whose lines can be looked at. */
export const recordingLogger = (): { logger: Logger; lines: string[] } => {
  const lines: string[] = [];
  return { logger: pino({ level: 'trace' }, { write: (line: string) => lines.push(line) }), lines };
};

export interface TestNode {
  readonly name: string;
  readonly identity: Identity;
  readonly client: AgentClient;
}

export class TestDomain {
  readonly stateDirectory = temporaryDirectory();
  readonly log = recordingLogger();
  readonly #options: Partial<RegistryOptions>;
  /** How far the registry's wall clock is ahead of the nodes'. */
  clockAheadMs = 0;
  #registry: RunningRegistry | undefined;
  #port = 0;

  constructor(options: Partial<RegistryOptions> = {}) {
    this.#options = options;
    onTestFinished(() => this.stop());
  }

  /** Starts the registry, the second time on the same port and state. */
  async start(): Promise<RunningRegistry> {
    this.#registry = await startRegistry(
      {
        stateDirectory: this.stateDirectory,
        trustDomain: TRUST_DOMAIN,
        listen: { host: '127.0.0.1', port: this.#port },
        ...this.#options,
      },
      { logger: this.log.logger, now: () => Date.now() + this.clockAheadMs },
    );
    this.#port = this.#registry.port;
    return this.#registry;
  }

  async stop(): Promise<void> {
    await this.#registry?.[Symbol.asyncDispose]();
    this.#registry = undefined;
  }

  get registry(): RunningRegistry {
    if (this.#registry === undefined) throw new Error('the registry is not running');
    return this.#registry;
  }

  async admin(): Promise<AdminClient> {
    const connection = await connectAdmin(join(this.stateDirectory, 'admin.json'));
    onTestFinished(() => connection[Symbol.asyncDispose]());
    return connection.client;
  }

  async federation(): Promise<FederationClient> {
    const connection = await connectFederation(join(this.stateDirectory, 'admin.json'));
    onTestFinished(() => connection[Symbol.asyncDispose]());
    return connection.client;
  }

  async admission(): Promise<AdmissionClient> {
    const connection = await connectAdmission(join(this.stateDirectory, 'admin.json'));
    onTestFinished(() => connection[Symbol.asyncDispose]());
    return connection.client;
  }

  async token(node = ''): Promise<string> {
    return (await (await this.admin()).createToken({ node })).joinToken;
  }

  async enrol(name: string, joinToken?: string): Promise<TestNode> {
    const token = parseJoinToken(joinToken ?? (await this.token()));
    const identity = await enroll({ token, node: name, directory: temporaryDirectory() });
    return { name, identity, client: agentOf(identity) };
  }
}

export const agentOf = (identity: Identity): AgentClient => {
  const connection = connectAgent(identity);
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return connection.client;
};

export const startDomain = async (options?: Partial<RegistryOptions>): Promise<TestDomain> => {
  const domain = new TestDomain(options);
  await domain.start();
  return domain;
};

export const red = { name: 'red', poolV4: '10.60.0.0/16', poolV6: 'fd00:60::/48' };

/** The code and sentence of what a call is refused with, or "accepted". */
export const refusal = async (call: Promise<unknown>): Promise<string> => {
  try {
    await call;
    return 'accepted';
  } catch (error) {
    if (error instanceof Error && 'code' in error) return `${error.code}: ${error.message}`;
    throw error;
  }
};
