// The one interceptor in front of every RPC: access by role, its turn when there are many, a node's identity against the
// store, errors mapped for the wire, refusals and failures logged. Nothing is served that did not pass it.

import { Code, ConnectError, type Interceptor } from '@connectrpc/connect';
import type { Logger } from 'pino';
import { NotEnrolled, Vl3Error } from '../../native-free/error.ts';
import { adoptNode } from '../../native-free/registry/adoption-rules.ts';
import { foreignDomainOf } from '../../native-free/registry/foreign-key.ts';
import { identityKey, keys, one } from '../../native-free/registry/keys.ts';
import { checkIdentity } from '../../native-free/registry/node-rules.ts';
import { checkOperator, noteSeenOperator } from '../../native-free/registry/operator-rules.ts';
import {
  enrolByIdentity,
  isEnrolled,
  type OwnEnrolment,
} from '../../native-free/registry/own-identity-rules.ts';
import { recoveryOf } from '../../native-free/registry/recovery-rules.ts';
import { mustBeEnrolled } from '../../native-free/registry/rules.ts';
import { formatSpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { toConnectError } from '../api/errors.ts';
import { mustBeAllowed } from './access.ts';
import { Admission } from './admission.ts';
import { type Caller, callerKey, type Role } from './caller.ts';
import type { Counters } from './context.ts';
import type { Transactor } from './transactor.ts';

interface Dependencies {
  readonly transactor: Transactor;
  readonly trustDomain: string;
  readonly counters: Counters;
  /** Of a domain whose SVIDs others issue; undefined: nodes enrol, and get them here. */
  readonly enrolment?: OwnEnrolment | undefined;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly logger: Logger;
  /** Aborted once the registry stops: that it says so to each of its watches is nothing to log. */
  readonly stopping: AbortSignal;
}

/** Of refused calls, each by who was refused what and why. */
const MAX_REASONS = 4096;
const MAX_KEY = 512;

/**
 * Of strangers and of partners' nodes fewer: they must not keep nodes waiting, and each enrolment costs a signature. Each partner
 * has a line of its own: none keeps another waiting.
 */
const LINES = {
  node: { atOnce: 64, most: 20_000, longestWaitMs: 5000 },
  'foreign-node': { atOnce: 16, most: 4000, longestWaitMs: 5000 },
  anonymous: { atOnce: 8, most: 1000, longestWaitMs: 5000 },
};

/** Cheap, and were they late, everybody would be told that the node is gone and is back. */
const AT_ONCE = new Set(['vl3.v1.AgentService/Heartbeat']);

export const guard = (deps: Dependencies): Interceptor => {
  const reasons = new RepeatedReasons(MAX_REASONS);
  const lines = {
    node: new Admission(LINES.node),
    anonymous: new Admission(LINES.anonymous),
  };
  /** By domain: as many as there were federations since the start. */
  const partners = new Map<string, Admission>();
  const lineOf = (caller: Caller): Admission | undefined => {
    if (isPerson(caller.role)) return undefined;
    if (caller.role !== 'foreign-node') return lines[caller.role];
    const domain = foreignDomainOf(caller.name) ?? '';
    const line = partners.get(domain) ?? new Admission(LINES['foreign-node']);
    partners.set(domain, line);
    return line;
  };
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const caller = request.contextValues.get(callerKey);
    const fail = (error: unknown) => {
      report(deps, reasons, { error, method, caller });
      if (caller.role === 'foreign-node' && error instanceof Vl3Error)
        deps.counters.countForeignRefusal(foreignDomainOf(caller.name) ?? '');
      return toConnectError(error);
    };
    try {
      await mustBeWelcome(deps, method, caller);
      const serve = async () => {
        if (caller.role === 'node') await mustBeCurrent(deps, caller);
        if (caller.role === 'operator') await mustNotBeRevoked(deps, caller);
        if (caller.role === 'foreign-node') await mustBeOfPartner(deps, caller);
        return await next(request);
      };
      // People do not wait, and a stream would keep its place for as long as it lasts.
      const line = request.stream || AT_ONCE.has(method) ? undefined : lineOf(caller);
      const response = await (line === undefined ? serve() : line.admit(request.signal, serve));
      if (!response.stream) return response;
      return { ...response, message: mapErrors(response.message, fail) };
    } catch (error) {
      throw fail(error);
    }
  };
};

/** Whose federation has ended is told so, and ends its part: unless the registry lost its memory, and that with it. */
const mustBeWelcome = async ({ transactor }: Dependencies, method: string, caller: Caller): Promise<void> => {
  try {
    mustBeAllowed(method, caller);
  } catch (error) {
    if (caller.role !== 'anonymous' || caller.isUnfederated !== true) throw error;
    const isRecovering = recoveryOf(await transactor.read([one(keys.domain)])) !== undefined;
    throw new NotEnrolled(isRecovering ? 'unknown' : 'deleted', caller.problem, { cause: error });
  }
};

/**
 * A deleted node is refused from the moment the deletion is stored. One that the registry does not know at all is taken at
 * its certificate's word while the registry recovers.
 */
const mustBeCurrent = async (
  { transactor, trustDomain, enrolment, now, logger }: Dependencies,
  { name, serial, notAfter }: Exclude<Caller, { role: 'anonymous' }>,
): Promise<void> => {
  const rule = checkIdentity(name, serial);
  const state = await transactor.read([...rule.reads, one(keys.domain)]);
  if (state.node(name) === undefined && recoveryOf(state) !== undefined) {
    const spiffeId = formatSpiffeId({ kind: 'node', trustDomain, name });
    const { answer: isNew } = await transactor.run(adoptNode(name, spiffeId, { serial, notAfter }, now()));
    if (isNew) logger.warn({ node: name, serial }, 'node was unknown here: taken from its certificate');
    return;
  }
  if (enrolment === undefined) {
    rule.decide(state);
    return;
  }
  if (isEnrolled(state, name)) return;
  const spiffeId = formatSpiffeId({ kind: 'node', trustDomain, name });
  const { answer: isNew } = await transactor.run(enrolByIdentity({ name, spiffeId }, enrolment, now()));
  if (isNew) logger.info({ node: name, spiffeId }, 'node enrolled by its SVID');
};

/** An operator's is refused from the moment that it is revoked. One that was made elsewhere is known from its first call on. */
const mustNotBeRevoked = async (
  { transactor, enrolment, now, logger }: Dependencies,
  caller: Exclude<Caller, { role: 'anonymous' }>,
): Promise<void> => {
  const rule = checkOperator(caller, { barsName: enrolment !== undefined });
  const { answer } = rule.decide(await transactor.read(rule.reads));
  if (!answer.isNew) return;
  const { name, serial } = caller;
  await transactor.run(noteSeenOperator(caller, now()));
  logger.info(
    { operator: name, serial, address: caller.address },
    'operator credential used for the first time',
  );
};

const isPerson = (role: Role): role is 'admin' | 'operator' => role === 'admin' || role === 'operator';

/** A partner's is refused from the moment that the end of the federation is stored. */
const mustBeOfPartner = async (
  { transactor }: Dependencies,
  { name }: Exclude<Caller, { role: 'anonymous' }>,
): Promise<void> => mustBeEnrolled(await transactor.read([one(identityKey(name))]), name);

async function* mapErrors<T>(messages: AsyncIterable<T>, fail: (error: unknown) => Error): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw fail(error);
  }
}

interface Failure {
  readonly error: unknown;
  readonly method: string;
  readonly caller: Caller;
}

const report = (
  { logger, stopping }: Dependencies,
  reasons: RepeatedReasons,
  { error, method, caller }: Failure,
): void => {
  const who = { method, role: caller.role, address: caller.address };
  const fields = caller.role === 'anonymous' ? who : { ...who, caller: caller.name };
  const isRefusal = error instanceof Vl3Error && error.code !== 'internal';
  // The framework's own: a body that cannot be read, a call that was given up. Not the registry's failure.
  const isOfFramework = error instanceof ConnectError;
  if (!isRefusal && !isOfFramework) {
    logger.error({ ...fields, err: error }, 'call failed');
    return;
  }
  const code = isOfFramework ? Code[error.code] : error.code;
  const reason = isOfFramework ? error.rawMessage : error.message;
  if (stopping.aborted && (code === 'unavailable' || isOfFramework)) return;
  // A program that is refused asks again.
  const asker = caller.role === 'anonymous' ? caller.address : caller.name;
  const key = `${method} ${asker} ${code} ${reason}`.slice(0, MAX_KEY);
  const again = isPerson(caller.role) ? 0 : reasons.take(key, performance.now());
  if (again !== undefined) logger.info({ ...fields, code, reason, again }, 'call refused');
};
