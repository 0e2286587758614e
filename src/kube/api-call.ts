// A call to a cluster's API server, and what its failure means: one sentence, whatever shape Kubernetes' client gave it.

import { Vl3Error } from '../../native-free/error.ts';
import { GONE } from '../../native-free/kube/watch-event.ts';

/** `who` is the program, `what` follows "may not" and "cannot". Throws Vl3Error: 'aborted' for what has changed meanwhile. */
export const apiCall = async <T>(who: string, what: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (cause) {
    throw asVl3Error(who, what, cause);
  }
};

const asVl3Error = (who: string, what: string, cause: unknown): Vl3Error => {
  const status = statusOf(cause);
  const why = reasonOf(cause);
  switch (status) {
    case undefined:
      return new Vl3Error('unavailable', `the API server cannot be asked to ${what}: ${why}`, { cause });
    case 401:
      return new Vl3Error(
        'unauthenticated',
        `the API server does not know who asks to ${what}: check the service account's token, or --kubeconfig`,
        { cause },
      );
    case 403:
      return new Vl3Error(
        'permission-denied',
        `the ${who} may not ${what}: apply the RBAC rules of deploy/helm or deploy/manifests (${why})`,
        { cause },
      );
    case 404:
      return new Vl3Error('not-found', `the API server cannot ${what}: ${why}`, { cause });
    case 409:
    case GONE:
      return new Vl3Error('aborted', `the API server cannot ${what}: ${why}`, { cause });
    default:
      return new Vl3Error('unavailable', `the API server answers ${status} when asked to ${what}: ${why}`, {
        cause,
      });
  }
};

/** The library says `code` of calls and `statusCode` of watches. */
const statusOf = (error: unknown): number | undefined => {
  if (!(error instanceof Error)) return undefined;
  for (const key of ['code', 'statusCode']) {
    const value: unknown = Reflect.get(error, key);
    if (typeof value === 'number') return value;
  }
  return undefined;
};

const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error).slice(0, 300);
  const body: unknown = Reflect.get(error, 'body');
  if (typeof body === 'string')
    return /"message":"((?:[^"\\]|\\.)*)"/.exec(body)?.[1]?.slice(0, 300) ?? 'no reason';
  // fetch says "fetch failed", and why in the cause.
  const { cause } = error;
  return (cause instanceof Error && cause.message !== '' ? cause.message : error.message).slice(0, 300);
};
