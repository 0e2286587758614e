// Who this node is: the identity it saved, or a new one for its join token. Only a node that has none waits for a registry:
// one whose SVID has expired runs on from what it saved, and enrols anew beside that.

import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { Moment } from '../../native-free/moment.ts';
import { fromConnectError } from '../api/errors.ts';
import { enroll } from '../identity/enroll.ts';
import type { Identity } from '../identity/identity.ts';
import { loadNodeIdentity } from '../identity/identity-file.ts';
import { type JoinToken, parseJoinToken } from '../identity/token.ts';
import { Backoff } from './backoff.ts';
import type { Clock } from './clock.ts';
import { Failures } from './failures.ts';

export interface EnrolmentOptions {
  readonly stateDirectory: string;
  /** Needed until the node has enrolled. */
  readonly token?: string;
  /** Default: the host's name. */
  readonly name?: string;
}

export interface EnrolmentDeps {
  readonly logger: Logger;
  readonly clock: Clock;
  /** Whether an SVID has expired, however the wall clock jumped since it was first seen. */
  readonly hasExpired: (identity: Identity) => boolean;
  readonly signal: AbortSignal;
}

/**
 * A saved identity is answered at once, also an expired one: until then nobody would see to what this node has attached.
 * Throws Vl3Error with a remedy, or when `signal` aborts.
 */
export const identify = async (options: EnrolmentOptions, deps: EnrolmentDeps): Promise<Identity> => {
  const saved = await loadNodeIdentity(options.stateDirectory);
  if (saved === undefined) return await firstEnrolment(options, deps);
  if (options.name !== undefined && options.name !== saved.name) {
    throw new Vl3Error(
      'failed-precondition',
      `this node enrolled as ${saved.name}: leave --name out, or run "vl3 agent clean" and enrol anew`,
    );
  }
  // One that is not needed may be anything, and mostly is used up.
  if (options.token !== undefined && deps.hasExpired(saved)) {
    tokenFor(saved, options.token);
    deps.logger.warn(
      { node: saved.name },
      'the SVID has expired; running on, and enrolling anew beside that',
    );
  }
  return saved;
};

const firstEnrolment = async (
  { stateDirectory: directory, token: text, name }: EnrolmentOptions,
  { logger, clock, signal }: EnrolmentDeps,
): Promise<Identity> => {
  if (text === undefined) {
    throw new Vl3Error(
      'failed-precondition',
      'this node has not enrolled: give it a join token with --token (an admin makes one with "vl3 token create")',
    );
  }
  const token = parseJoinToken(text);
  const node = name ?? hostNode();
  const backoff = new Backoff(PATIENCE);
  const failures = new Failures('registry does not answer; enrolment is tried again', { logger, clock });
  for (;;) {
    try {
      const identity = await enroll({ token, node, directory, signal }, () => clock.wall());
      logger.info({ node, trustDomain: identity.trustBundle.trustDomain }, 'enrolled');
      return identity;
    } catch (error) {
      if (!(error instanceof Vl3Error) || signal.aborted || error.code !== 'unavailable') throw error;
      failures.say(error);
      await backoff.wait(signal);
    }
  }
};

const PATIENCE = { firstMs: 500, capMs: 15_000 };

/** The token, if a node of this identity can enrol anew with it. Throws Vl3Error. */
const tokenFor = (saved: Identity, text: string): JoinToken => {
  const token = parseJoinToken(text);
  const { trustDomain } = saved.trustBundle;
  if (token.trustDomain === trustDomain) return token;
  throw new Vl3Error(
    'failed-precondition',
    `the join token is of ${token.trustDomain}, and this node of ${trustDomain}: use a token of ${trustDomain}, or run "vl3 agent clean" and enrol anew`,
  );
};

/** A registry that answers, but with a refusal that may pass, is asked again only after so long. */
const REFUSED_MS = 60_000;

export interface Enrolled {
  readonly identity: Identity;
  /** When it was asked for. */
  readonly since: Moment;
}

/** Enrolment of a node that runs, and whose SVID has expired or that was deleted. */
export class Reenrolment {
  readonly #options: { readonly token: string; readonly stateDirectory: string };
  readonly #deps: Pick<EnrolmentDeps, 'logger' | 'clock'>;
  readonly #backoff = new Backoff(PATIENCE);
  /** CLOCK_BOOTTIME of the next attempt; infinite: the token will never do. */
  #due = 0;
  #problem = '';

  constructor(
    options: { readonly token: string; readonly stateDirectory: string },
    deps: Pick<EnrolmentDeps, 'logger' | 'clock'>,
  ) {
    this.#options = options;
    this.#deps = deps;
  }

  /** How it stands, for whoever reads that the SVID has expired, or that the node was deleted. */
  get sentence(): string {
    if (this.#due === Number.POSITIVE_INFINITY)
      return `its join token is refused (${this.#problem}): start the agent with a new join token (--token)`;
    const reason = this.#problem === '' ? '' : ` (${this.#problem})`;
    return `the agent runs on from what it saved, and enrols anew with its join token as soon as it can${reason}`;
  }

  /** Tries, if it is time to; answers the new identity, which is stored by then. Never throws. */
  async attempt(identity: Identity, signal: AbortSignal): Promise<Enrolled | undefined> {
    const { logger, clock } = this.#deps;
    if (clock.monotonic() < this.#due) return undefined;
    const { token: text, stateDirectory: directory } = this.#options;
    const node = identity.name;
    try {
      const token = tokenFor(identity, text);
      const since = clock.moment();
      const enrolled = await enroll({ token, node, directory, signal }, () => clock.wall());
      logger.info({ node, notAfter: new Date(enrolled.notAfter).toISOString() }, 'enrolled anew');
      this.#backoff.reset();
      this.#problem = '';
      return { identity: enrolled, since };
    } catch (error) {
      if (signal.aborted) return undefined;
      this.#failed(fromConnectError(error));
      return undefined;
    }
  }

  #failed({ code, message }: Vl3Error): void {
    const { logger, clock } = this.#deps;
    if (this.#problem !== message) logger.warn({ code, reason: message }, 'enrolling anew failed');
    this.#problem = message;
    this.#due = FINAL.has(code)
      ? Number.POSITIVE_INFINITY
      : clock.monotonic() + (code === 'unavailable' ? this.#backoff.next() : REFUSED_MS);
  }
}

/** It was used, has expired, was revoked, is of another node or domain, or is no token. Everything else may pass, or be set right. */
const FINAL = new Set<Vl3Error['code']>(['permission-denied', 'failed-precondition', 'invalid-argument']);

/** The host's name as a DNS label. */
const hostNode = (): string => (hostname().split('.')[0] ?? '').toLowerCase().replaceAll('_', '-');
