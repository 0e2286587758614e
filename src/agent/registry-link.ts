// The agent's line to the registry: one connection under the node's SVID, heartbeats over it, and the SVID's renewal, or
// enrolment anew once it has expired. Losing it changes nothing but what it reports.

import type { Logger } from 'pino';
import { NotEnrolled, Vl3Error } from '../../native-free/error.ts';
import type { SeenStore } from '../../native-free/reconcile/seen-store.ts';
import { clockProblem, SvidTerm } from '../../native-free/reconcile/svid-term.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { fromConnectError } from '../api/errors.ts';
import type { HeartbeatResponse } from '../api/generated/vl3/v1/agent_pb.js';
import { isIssuedBy, parseCertificate } from '../identity/certificate.ts';
import { createCertificateRequest } from '../identity/certificate-request.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { createIdentity, type Identity, renewIdentity } from '../identity/identity.ts';
import { storeNodeIdentity } from '../identity/identity-file.ts';
import { generateKey } from '../identity/key.ts';
import { proveRenewal } from '../identity/svid-proofs.ts';
import { connectAgent } from '../registry/client.ts';
import { VERSION } from '../version.ts';
import { pause } from './backoff.ts';
import type { Clock } from './clock.ts';
import type { HeardStatement } from './domain-statement.ts';
import type { Enrolled, Reenrolment } from './enrolment.ts';
import { Failures } from './failures.ts';
import type { OwnIdentity } from './own-identity.ts';
import type { RegistryNews } from './registry-news.ts';
import type { AgentState } from './state.ts';

const HEARTBEAT_MS = 5_000;
/** Of a federated domain: a partner that was revoked has to be gone within 5 s. */
const FEDERATED_HEARTBEAT_MS = 2_500;
const CALL_TIMEOUT_MS = 10_000;
/** A replaced connection's calls get this long to end. */
const LINGER_MS = 20_000;
/** Of the SVID's term, within which all nodes renew when another CA has begun to sign; and no longer than this. */
const OTHER_CA_SPREAD = 0.02;
const MAX_SPREAD_MS = 5 * 60_000;

export interface RegistryLinkOptions {
  readonly stateDirectory: string;
  readonly identity: Identity;
}

export interface RegistryLinkDeps extends RegistryNews {
  readonly state: AgentState;
  readonly clock: Clock;
  /** Told to the registry with every heartbeat. */
  readonly seen: Pick<SeenStore, 'position' | 'answered'>;
  readonly logger: Logger;
  /** It has this version of the federations. */
  readonly onFederations: (version: string, isRecovering: boolean) => void;
  /** Whether the domain is federated at all: what ends there has to be heard soon. */
  readonly isFederated: () => boolean;
  readonly onRenewed: () => void;
  readonly statement: HeardStatement;
  /** Other CAs speak for the domain, or another node was revoked. */
  readonly onTrustChanged: () => void;
  /** What to do once the SVID has expired, or the node was deleted; absent: there is no join token. */
  readonly reenrolment?: Reenrolment;
  /** Where its SVIDs come from, when it is not the registry that gives them. */
  readonly own?: Pick<OwnIdentity, 'next' | 'sentence'> | undefined;
  /**
   * This node was deleted, or has enrolled anew: what it held is not its own any more. Awaited before it goes on as the new
   * one.
   */
  readonly onMembershipsLost: (reason: string) => Promise<void>;
  readonly onEnrolledAnew: () => void;
}

type Line = ReturnType<typeof connectAgent>;

export class RegistryLink implements AsyncDisposable {
  readonly #options: RegistryLinkOptions;
  readonly #deps: RegistryLinkDeps;
  #identity: Identity;
  #connection: Line;
  #lastContactAt = 0;
  #believedUntil = 0;
  #problem: Vl3Error | undefined;
  /** That it said so; until it says otherwise, also when it is gone meanwhile. */
  #notEnrolled: NotEnrolled | undefined;
  readonly #reasons = new RepeatedReasons();
  readonly #svid: SvidTerm;
  readonly #notRenewed: Failures;
  readonly #notCarriedOut: Failures;
  /** What a deleted node had attached. */
  #isTakenDown = false;
  #leaseTermMs = 0;
  /** As the registry has it. */
  #statementSequence = 0;
  /** Another CA signs by now: CLOCK_BOOTTIME from when on to renew. */
  #otherCaDue = Number.POSITIVE_INFINITY;

  constructor(options: RegistryLinkOptions, deps: RegistryLinkDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#identity = options.identity;
    this.#connection = connectAgent(options.identity);
    this.#svid = new SvidTerm(options.identity, deps.state, deps.clock.moment(), Math.random);
    this.#notRenewed = new Failures('SVID renewal failed', deps);
    this.#notCarriedOut = new Failures("what follows from the registry's answer could not be done", deps);
  }

  get client(): Line['client'] {
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

  /**
   * Unix ms: when the SVID ends by which the registry, and so other nodes, knew this one last. 0: it was not asked since the
   * start.
   */
  get believedUntil(): number {
    return this.#believedUntil;
  }

  /** Milliseconds until the SVID expires, however the wall clock jumps; negative: it has expired. */
  get svidLeftMs(): number {
    return this.#svid.leftMs(this.#deps.clock.moment());
  }

  /** Of the SVID, when it was renewed. */
  get svidTermMs(): number {
    return this.#svid.termMs;
  }

  /** What is wrong with this machine's clock, in a sentence; undefined: nothing that could be told. */
  get clockProblem(): string | undefined {
    return this.svidLeftMs > 0 ? clockProblem(this.#identity, this.#deps.clock.wall()) : undefined;
  }

  /** That the registry says this node is not enrolled, and what is or has to be done about it; undefined: it does not say so. */
  get notEnrolledProblem(): string | undefined {
    if (this.#notEnrolled === undefined) return undefined;
    const remedy =
      this.#deps.own?.sentence ??
      this.#deps.reenrolment?.sentence ??
      'stop the agent, and start it with a new join token (--token, made by `vl3 token create`)';
    return `${factOf(this.#notEnrolled)}: ${remedy}`;
  }

  /** That the SVID has expired, and what is or has to be done about it, in a sentence; undefined: it holds. */
  get svidProblem(): string | undefined {
    if (this.svidLeftMs > 0) return undefined;
    const remedy =
      this.#deps.own?.sentence ??
      this.#deps.reenrolment?.sentence ??
      'start the agent with a new join token (--token)';
    return `the SVID of this node has expired: ${remedy}`;
  }

  /** Sends heartbeats, renews the SVID and enrols anew until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#deps.own !== undefined) await this.#follow(this.#deps.own, signal);
      else if (this.svidLeftMs <= 0 || this.#notEnrolled !== undefined) await this.#enrolAnew(signal);
      await this.#beat(signal);
      // Whoever gives this node its identity gives it the CAs, too.
      if (!signal.aborted && this.#deps.own === undefined) await this.#hearStatement(signal);
      const isDue = this.#svid.isDue(this.#deps.clock.moment()) || this.#isOtherCaDue;
      if (!signal.aborted && isDue && this.#deps.own === undefined) await this.#renew(signal);
      await pause(this.#deps.isFederated() ? FEDERATED_HEARTBEAT_MS : HEARTBEAT_MS, signal);
    }
  }

  async #beat(signal: AbortSignal): Promise<void> {
    const told = this.#deps.seen.position;
    const askedAt = this.#deps.clock.moment().boot;
    let answer: HeartbeatResponse;
    try {
      const call = { signal, timeoutMs: CALL_TIMEOUT_MS };
      answer = await this.client.heartbeat({ agentVersion: VERSION, ...told }, call);
    } catch (error) {
      if (!signal.aborted) await this.#refused(this.#explained(fromConnectError(error)));
      return;
    }
    this.#heard(answer, told, askedAt);
  }

  #heard(answer: HeartbeatResponse, told: SeenStore['position'], askedAt: number): void {
    const { logger, clock, seen, onObserved, onStoreReplaced, onRecovering, onFederations, onBack } =
      this.#deps;
    this.#lastContactAt = clock.wall();
    this.#believedUntil = this.#identity.notAfter;
    this.#leaseTermMs = Number(answer.leaseTermMs);
    this.#statementSequence = Number(answer.statementSequence);
    const isBack = this.#problem !== undefined;
    const isLetInAgain = this.#isTakenDown;
    this.#problem = undefined;
    this.#notEnrolled = undefined;
    this.#isTakenDown = false;
    if (isLetInAgain) this.#carryOut(this.#deps.onEnrolledAnew);
    if (isBack) logger.info('registry answers again');
    // Each on its own: what this node fails to do with the answer is not the registry's, nor the others', fault.
    if (isBack) this.#carryOut(onBack);
    this.#carryOut(() => {
      if (seen.answered(answer, told)) onStoreReplaced();
    });
    this.#carryOut(() => onRecovering(answer, askedAt));
    this.#carryOut(() => onFederations(answer.federationsVersion, answer.recovering));
    this.#carryOut(() => onObserved(answer.observedAddress));
  }

  async #refused(problem: Vl3Error): Promise<void> {
    const { logger, clock } = this.#deps;
    const isRefusal = problem instanceof NotEnrolled;
    const again = this.#reasons.take(problem.message, clock.monotonic());
    if (again !== undefined) {
      const what = isRefusal ? 'registry refuses this node' : 'registry does not answer';
      logger.warn({ code: problem.code, reason: problem.message, again }, what);
    }
    this.#problem = problem;
    if (!isRefusal) return;
    this.#notEnrolled = problem;
    // Others may have its prefixes from now on. That it is not known is what an empty registry says, too.
    if (problem.why === 'deleted') await this.#loseAll(problem);
  }

  /** Once; false: it failed, and has to be tried again. */
  async #loseAll(why: NotEnrolled): Promise<boolean> {
    if (this.#isTakenDown) return true;
    try {
      await this.#deps.onMembershipsLost(factOf(why));
      this.#isTakenDown = true;
    } catch (error) {
      this.#notCarriedOut.say(error);
    }
    return this.#isTakenDown;
  }

  #carryOut(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#notCarriedOut.say(error);
    }
  }

  /** With what is wrong with the clock, if that may be the reason. */
  #explained(problem: Vl3Error): Vl3Error {
    const { clockProblem } = this;
    if (clockProblem === undefined || problem instanceof NotEnrolled) return problem;
    return new Vl3Error(problem.code, `${clockProblem} (${problem.message})`, { cause: problem });
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { logger, clock } = this.#deps;
    try {
      const privateKey = await generateKey();
      const certificateRequest = await createCertificateRequest(privateKey);
      const call = { signal, timeoutMs: CALL_TIMEOUT_MS };
      const since = clock.moment();
      const proof = {
        signature: proveRenewal(this.#identity, certificateRequest),
        certificateChain: [...this.#identity.certificateChain],
      };
      const { certificateChain } = await this.client.renewSvid({ certificateRequest, proof }, call);
      const renewed = renewIdentity(this.#identity, { privateKey, certificateChain }, clock.wall());
      await storeNodeIdentity(this.#options.stateDirectory, renewed);
      this.#otherCaDue = Number.POSITIVE_INFINITY;
      logger.info({ notAfter: new Date(renewed.notAfter).toISOString() }, 'SVID renewed');
      this.#take({ identity: renewed, since }, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#svid.failed(clock.moment());
      if (this.#otherCaDue !== Number.POSITIVE_INFINITY) this.#renewSoon();
      this.#notRenewed.say(error);
    }
  }

  /** Not all nodes at once. */
  #renewSoon(): void {
    const spread = Math.min(this.svidTermMs * OTHER_CA_SPREAD, MAX_SPREAD_MS);
    this.#otherCaDue = this.#deps.clock.monotonic() + spread * Math.random();
  }

  get #isOtherCaDue(): boolean {
    return this.#deps.clock.monotonic() >= this.#otherCaDue;
  }

  async #hearStatement(signal: AbortSignal): Promise<void> {
    const { statement, onTrustChanged } = this.#deps;
    if (this.#statementSequence <= statement.sequence || this.#problem !== undefined) return;
    const { domain } = this.#connection;
    const adopt = (bundle: TrustBundle) => this.#adopt(bundle, signal);
    if (await statement.hear(domain, this.#identity.trustBundle, adopt, signal))
      this.#carryOut(onTrustChanged);
  }

  /** Throws Vl3Error('unauthenticated') when this node's own SVID would not hold any more, since it has to be renewed first. */
  async #adopt(trustBundle: TrustBundle, signal: AbortSignal): Promise<void> {
    if (sameCertificates(trustBundle, this.#identity.trustBundle)) return;
    const identity = createIdentity({ ...this.#identity, trustBundle }, this.#deps.clock.wall());
    await storeNodeIdentity(this.#options.stateDirectory, identity);
    const old = this.#connection;
    this.#identity = identity;
    this.#connection = connectAgent(identity);
    const [leaf] = identity.certificateChain;
    const [signing] = trustBundle.certificates;
    if (leaf && signing && !isIssuedBy(parseCertificate(leaf), parseCertificate(signing))) this.#renewSoon();
    void this.#closeLater(old, signal);
  }

  async #follow(own: Pick<OwnIdentity, 'next'>, signal: AbortSignal): Promise<void> {
    try {
      const since = this.#deps.clock.moment();
      const identity = await own.next();
      if (identity === undefined || signal.aborted) return;
      const { trustBundle } = this.#identity;
      this.#take({ identity, since }, signal, 0);
      if (!sameCertificates(trustBundle, identity.trustBundle)) this.#carryOut(this.#deps.onTrustChanged);
    } catch (error) {
      this.#notRenewed.say(error);
    }
  }

  async #enrolAnew(signal: AbortSignal): Promise<void> {
    const enrolled = await this.#deps.reenrolment?.attempt(this.#identity, signal);
    if (enrolled === undefined || signal.aborted) return;
    // Should this be cut off, the first renewal of the leases says so, too.
    if (this.#notEnrolled !== undefined && !(await this.#loseAll(this.#notEnrolled))) return;
    this.#notEnrolled = undefined;
    this.#isTakenDown = false;
    this.#take(enrolled, signal);
    this.#deps.onEnrolledAnew();
  }

  /** From here on this node is known by the new identity, which is stored already; 0: of a term that its certificate says. */
  #take({ identity, since }: Enrolled, signal: AbortSignal, termMs = this.#leaseTermMs): void {
    const old = this.#connection;
    this.#identity = identity;
    this.#connection = connectAgent(identity);
    this.#svid.renewed(identity, termMs, since);
    this.#deps.onRenewed();
    void this.#closeLater(old, signal);
  }

  /** Watches on the old connection break off when it closes, and begin anew on the new one. */
  async #closeLater(connection: Line, signal: AbortSignal): Promise<void> {
    await pause(LINGER_MS, signal);
    await connection[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}

const sameCertificates = (a: TrustBundle, b: TrustBundle): boolean =>
  a.certificates.length === b.certificates.length &&
  a.certificates.every((der, i) => Buffer.from(der).equals(b.certificates[i] ?? new Uint8Array(0)));

const factOf = ({ why }: NotEnrolled): string =>
  why === 'deleted' ? 'this node was deleted at the registry' : 'the registry does not know this node';
