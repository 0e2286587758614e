// The one error class of operator-facing and API failures. Not for packets: those are dropped and counted.
// Each error has a closed code, a sentence a person can act on, and the cause where there is one.

export const ERROR_CODES = [
  'invalid-argument',
  'not-found',
  'already-exists',
  'failed-precondition',
  'permission-denied',
  'unauthenticated',
  'resource-exhausted',
  'unavailable',
  'aborted',
  'internal',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export class Vl3Error extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'Vl3Error';
    this.code = code;
  }
}

/** No admission rule of the network admits it: it is attached as soon as one does. */
export class NotAdmitted extends Vl3Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super('permission-denied', message, options);
    this.name = 'NotAdmitted';
  }
}

/** The registry says that this node is not one of its own (any more), whatever certificate it shows. */
export class NotEnrolled extends Vl3Error {
  readonly why: 'deleted' | 'unknown';

  constructor(why: NotEnrolled['why'], message: string, options?: { cause?: unknown }) {
    super('unauthenticated', message, options);
    this.name = 'NotEnrolled';
    this.why = why;
  }
}
