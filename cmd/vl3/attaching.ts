// Attaching one namespace to several networks, each on its own, as `vl3 attach` and `vl3 run` do it.

import type { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import type { AttachRequest } from '../../src/agent/local-requests.ts';
import { duration } from '../../src/config/fields.ts';
import { readBy } from './arguments.ts';
import type { Context } from './context.ts';

/** How long a network that is not available is waited for. */
export const WAIT_SECONDS = 10;

/** As the agent has it: what takes longer is attached when it can be, without anybody waiting. */
const MAX_WAIT_SECONDS = 600;

export const parseWait = readBy(
  duration().refine(
    (seconds) => seconds <= MAX_WAIT_SECONDS,
    'wait at most 10m: what is pending then is attached as soon as it can be',
  ),
);

/** What rules of admission are told of it; of an agent of an earlier version nothing is asked that it does not know. */
export const assertedBy = ({
  namespace,
  serviceAccount,
}: {
  readonly namespace?: string;
  readonly serviceAccount?: string;
}): Pick<AttachRequest, 'asserted'> =>
  namespace === undefined && serviceAccount === undefined
    ? {}
    : {
        asserted: {
          ...(namespace !== undefined && { namespace }),
          ...(serviceAccount !== undefined && { serviceAccount }),
        },
      };

export interface Outcome {
  /** Attached or pending, in the order asked for. */
  readonly attached: LocalAttachment[];
  /** Why the first of the others was refused. */
  readonly refusal: unknown;
}

export const attachAll = async (
  client: LocalClient,
  networks: readonly string[],
  request: Omit<AttachRequest, 'network'>,
  signal: AbortSignal,
): Promise<Outcome> => {
  const attempts = await Promise.allSettled(
    networks.map((network) => client.attach({ ...request, network }, signal)),
  );
  return {
    attached: attempts.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])),
    refusal: attempts.find((one) => one.status === 'rejected')?.reason,
  };
};

/** Says on stderr what is pending and why; how many are. */
export const reportPending = (context: Context, attachments: readonly LocalAttachment[]): number => {
  const pending = attachments.filter((one) => one.pending !== '');
  for (const { network, pending: reason } of pending) context.err(`vl3: ${network} is pending: ${reason}`);
  return pending.length;
};
