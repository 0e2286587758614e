// Vl3Error codes and Connect codes, both ways, in one place. What is not a Vl3Error stays inside the server: the other
// side learns only that it failed.

import { Code, ConnectError } from '@connectrpc/connect';
import { type ErrorCode, NotEnrolled, Vl3Error } from '../../native-free/error.ts';

const CONNECT_CODES: Readonly<Record<ErrorCode, Code>> = {
  'invalid-argument': Code.InvalidArgument,
  'not-found': Code.NotFound,
  'already-exists': Code.AlreadyExists,
  'failed-precondition': Code.FailedPrecondition,
  'permission-denied': Code.PermissionDenied,
  unauthenticated: Code.Unauthenticated,
  'resource-exhausted': Code.ResourceExhausted,
  unavailable: Code.Unavailable,
  aborted: Code.Aborted,
  internal: Code.Internal,
};

const ERROR_CODES: Readonly<Record<Code, ErrorCode>> = {
  [Code.InvalidArgument]: 'invalid-argument',
  [Code.NotFound]: 'not-found',
  [Code.AlreadyExists]: 'already-exists',
  [Code.FailedPrecondition]: 'failed-precondition',
  [Code.PermissionDenied]: 'permission-denied',
  [Code.Unauthenticated]: 'unauthenticated',
  [Code.ResourceExhausted]: 'resource-exhausted',
  [Code.Unavailable]: 'unavailable',
  [Code.Aborted]: 'aborted',
  [Code.Internal]: 'internal',
  [Code.Canceled]: 'aborted',
  [Code.DeadlineExceeded]: 'unavailable',
  [Code.OutOfRange]: 'invalid-argument',
  [Code.Unimplemented]: 'failed-precondition',
  [Code.Unknown]: 'internal',
  [Code.DataLoss]: 'internal',
};

/** The header or trailer that tells a node from other refusals that it is not enrolled: by why. */
const NOT_ENROLLED = 'vl3-not-enrolled';

/** For the wire. A ConnectError (of the framework itself) passes as it is. */
export const toConnectError = (error: unknown): ConnectError => {
  if (error instanceof ConnectError) return error;
  if (error instanceof NotEnrolled)
    return new ConnectError(error.message, CONNECT_CODES[error.code], { [NOT_ENROLLED]: error.why });
  if (error instanceof Vl3Error) return new ConnectError(error.message, CONNECT_CODES[error.code]);
  return new ConnectError('the registry failed at this call: its log says why', Code.Internal);
};

const NO_ANSWER = 'the registry did not answer in time: try again';

const NOT_THERE =
  'this is not answered there: the registry is of an earlier version, or there is no CA in its process (that is apart, by `vl3 ca run`, and the credential does not say where; or SVIDs are of another issuer)';

/** What AbortSignal.timeout aborts with. */
const isTimeout = (error: unknown): boolean => error instanceof Error && error.name === 'TimeoutError';

/** From the wire. A Vl3Error passes as it is; anything else is a failure to reach the other side. */
export const fromConnectError = (error: unknown): Vl3Error => {
  if (error instanceof Vl3Error) return error;
  if (error instanceof ConnectError) {
    if (error.code === Code.DeadlineExceeded || isTimeout(error.cause)) {
      return new Vl3Error('unavailable', NO_ANSWER, { cause: error });
    }
    if (isLostConnection(error)) {
      const sentence = `the connection to the registry was lost (${error.rawMessage}): try again`;
      return new Vl3Error('unavailable', sentence, { cause: error });
    }
    const why = error.code === Code.Unauthenticated ? error.metadata.get(NOT_ENROLLED) : null;
    if (why === 'deleted' || why === 'unknown')
      return new NotEnrolled(why, error.rawMessage, { cause: error });
    // Of a service that is not there the framework says no more than "HTTP 404".
    if (error.code === Code.Unimplemented)
      return new Vl3Error('failed-precondition', NOT_THERE, { cause: error });
    return new Vl3Error(ERROR_CODES[error.code], error.rawMessage, { cause: error });
  }
  if (isTimeout(error)) return new Vl3Error('unavailable', NO_ANSWER, { cause: error });
  const reason = error instanceof Error ? error.message : String(error);
  return new Vl3Error('internal', reason, { cause: error });
};

/** What Node says of a session or stream that broke; the framework calls some of it internal or cancelled. */
const isLostConnection = ({ cause, rawMessage }: ConnectError): boolean =>
  /^http\/2 stream closed with/.test(rawMessage) ||
  (cause instanceof Error &&
    'code' in cause &&
    /^(ERR_HTTP2_|ERR_STREAM_|ECONNRESET$|EPIPE$)/.test(String(cause.code)));
