// Who this node is: the identity it saved, or a new one for what it has to show. Only a node that has none waits for a registry:
// one whose SVID has expired runs on from what it saved, and enrols anew beside that.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { Moment } from '../../native-free/moment.ts';
import { fromConnectError } from '../api/errors.ts';
import type { Identity } from '../identity/identity.ts';
import { loadNodeIdentity } from '../identity/identity-file.ts';
import { Backoff } from './backoff.ts';
import type { Clock } from './clock.ts';
import { type CredentialOptions, credentialOf, type EnrolmentCredential } from './enrolment-credential.ts';
import { Failures } from './failures.ts';

/** A credential is needed until the node has enrolled. */
export interface EnrolmentOptions extends CredentialOptions {
  readonly stateDirectory: string;
  /** Default: the host's name, or what its cluster says. */
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
  const credential = credentialOf(options);
  if (credential !== undefined && deps.hasExpired(saved)) {
    credential.check(saved.trustBundle.trustDomain);
    deps.logger.warn(
      { node: saved.name },
      'the SVID has expired; running on, and enrolling anew beside that',
    );
  }
  return saved;
};

const firstEnrolment = async (
  options: EnrolmentOptions,
  { logger, clock, signal }: EnrolmentDeps,
): Promise<Identity> => {
  const { stateDirectory: directory, name } = options;
  const credential = credentialOf(options);
  if (credential === undefined) throw notEnrolled();
  credential.check();
  const backoff = new Backoff(PATIENCE);
  const failures = new Failures('not enrolled yet; enrolment is tried again', { logger, clock });
  for (;;) {
    try {
      const identity = await credential.enroll({ name, directory, signal, now: () => clock.wall() });
      const { trustDomain } = identity.trustBundle;
      logger.info({ node: identity.name, trustDomain }, 'enrolled');
      return identity;
    } catch (error) {
      if (!(error instanceof Vl3Error) || signal.aborted || credential.isFinal(error.code, true)) throw error;
      failures.say(error);
      await backoff.wait(signal);
    }
  }
};

export const notEnrolled = (): Vl3Error =>
  new Vl3Error(
    'failed-precondition',
    'this node has not enrolled: give it a join token with --token (an admin makes one with "vl3 token create"), or on a node of Kubernetes --kubernetes-token-file',
  );

const PATIENCE = { firstMs: 500, capMs: 15_000 };

/** A registry that answers, but with a refusal that may pass, is asked again only after so long. */
const REFUSED_MS = 60_000;

export interface Enrolled {
  readonly identity: Identity;
  /** When it was asked for. */
  readonly since: Moment;
}

/** Enrolment of a node that runs, and whose SVID has expired or that was deleted. */
export class Reenrolment {
  readonly #credential: EnrolmentCredential;
  readonly #stateDirectory: string;
  readonly #deps: Pick<EnrolmentDeps, 'logger' | 'clock'>;
  readonly #backoff = new Backoff(PATIENCE);
  /** CLOCK_BOOTTIME of the next attempt; infinite: the credential will never do. */
  #due = 0;
  #problem = '';

  constructor(
    options: { readonly credential: EnrolmentCredential; readonly stateDirectory: string },
    deps: Pick<EnrolmentDeps, 'logger' | 'clock'>,
  ) {
    this.#credential = options.credential;
    this.#stateDirectory = options.stateDirectory;
    this.#deps = deps;
  }

  /** How it stands, for whoever reads that the SVID has expired, or that the node was deleted. */
  get sentence(): string {
    const { means, remedy } = this.#credential;
    if (this.#due === Number.POSITIVE_INFINITY)
      return `its join token is refused (${this.#problem}): ${remedy}`;
    const reason = this.#problem === '' ? '' : ` (${this.#problem})`;
    return `the agent runs on from what it saved, and enrols anew ${means} as soon as it can${reason}`;
  }

  /** Tries, if it is time to; answers the new identity, which is stored by then. Never throws. */
  async attempt(identity: Identity, signal: AbortSignal): Promise<Enrolled | undefined> {
    const { logger, clock } = this.#deps;
    if (clock.monotonic() < this.#due) return undefined;
    const { name: node, trustBundle } = identity;
    try {
      this.#credential.check(trustBundle.trustDomain);
      const since = clock.moment();
      const enrolled = await this.#credential.enroll(
        { name: node, directory: this.#stateDirectory, signal, now: () => clock.wall() },
        trustBundle.trustDomain,
      );
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
    this.#due = this.#credential.isFinal(code, false)
      ? Number.POSITIVE_INFINITY
      : clock.monotonic() + (code === 'unavailable' ? this.#backoff.next() : REFUSED_MS);
  }
}
