// The one interceptor in front of every RPC: access by role, a node's identity against the store, errors mapped for
// the wire, refusals and failures logged. Nothing is served that did not pass it.

import type { Interceptor } from '@connectrpc/connect';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { checkIdentity } from '../../native-free/registry/node-rules.ts';
import { toConnectError } from '../api/errors.ts';
import { mustBeAllowed } from './access.ts';
import { type Caller, callerKey } from './caller.ts';
import type { Transactor } from './transactor.ts';

interface Dependencies {
  readonly transactor: Transactor;
  readonly logger: Logger;
}

export const guard =
  ({ transactor, logger }: Dependencies): Interceptor =>
  (next) =>
  async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const caller = request.contextValues.get(callerKey);
    const fail = (error: unknown) => {
      report(logger, error, method, caller);
      return toConnectError(error);
    };
    try {
      mustBeAllowed(method, caller);
      if (caller.role === 'node') await mustBeCurrent(transactor, caller.name, caller.serial);
      const response = await next(request);
      if (!response.stream) return response;
      return { ...response, message: mapErrors(response.message, fail) };
    } catch (error) {
      throw fail(error);
    }
  };

/** A deleted node is refused from the moment the deletion is stored. */
const mustBeCurrent = async (transactor: Transactor, node: string, serial: string): Promise<void> => {
  const rule = checkIdentity(node, serial);
  rule.decide(await transactor.read(rule.reads));
};

async function* mapErrors<T>(messages: AsyncIterable<T>, fail: (error: unknown) => Error): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw fail(error);
  }
}

const report = (logger: Logger, error: unknown, method: string, caller: Caller): void => {
  const who = { method, role: caller.role, address: caller.address };
  const fields = caller.role === 'anonymous' ? who : { ...who, caller: caller.name };
  if (error instanceof Vl3Error && error.code !== 'internal') {
    logger.info({ ...fields, code: error.code, reason: error.message }, 'call refused');
  } else {
    logger.error({ ...fields, err: error }, 'call failed');
  }
};
