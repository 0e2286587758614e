// Takes what a node signed about the names of its workloads: only its own, and only what the other nodes will verify.

import { Vl3Error } from '../../native-free/error.ts';
import { decodeVerifiedNames } from '../../native-free/names/signed-names.ts';
import { putNames } from '../../native-free/registry/announcement-rules.ts';
import { keys, one } from '../../native-free/registry/keys.ts';
import { mustBeNetwork } from '../../native-free/registry/rules.ts';
import type { SignedRecord } from '../api/generated/vl3/v1/common_pb.js';
import type { RegistryContext } from './context.ts';
import { storedNames } from './messages.ts';

/** Throws Vl3Error('permission-denied') for names that do not hold. */
export const putNodeNames = async (
  { transactor, verifyRecord, now, logger }: RegistryContext,
  network: string,
  node: string,
  signed: SignedRecord,
): Promise<void> => {
  const { value } = mustBeNetwork(await transactor.read([one(keys.network(network))]), network);
  const expected = { network, networkUid: value.uid, node };
  const decoded = decodeVerifiedNames(signed, verifyRecord, now(), expected);
  if (decoded.kind === 'refused') {
    logger.warn({ node, network, reason: decoded.message }, 'names refused');
    throw new Vl3Error('permission-denied', `names: ${decoded.message}`);
  }
  await transactor.run(putNames(network, node, storedNames(signed, decoded.names)));
};
