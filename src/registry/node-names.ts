// Takes what a node signed about the names of its workloads: only its own, and only what the other nodes will verify.

import { Vl3Error } from '../../native-free/error.ts';
import { nameProblem } from '../../native-free/federation/constraints.ts';
import { decodeVerifiedNames } from '../../native-free/names/signed-names.ts';
import { putNames } from '../../native-free/registry/announcement-rules.ts';
import { nodeNameOf } from '../../native-free/registry/foreign-key.ts';
import { constraintsOf, MAX_FOREIGN_NAMES_BYTES } from '../../native-free/registry/foreign-rules.ts';
import { identityKey, keys, one } from '../../native-free/registry/keys.ts';
import type { VerifyRecord } from '../../native-free/registry/record.ts';
import { mustBeNetwork } from '../../native-free/registry/rules.ts';
import type { SignedRecord } from '../api/generated/vl3/v1/common_pb.js';
import type { RegistryContext } from './context.ts';
import { storedNames } from './messages.ts';

/** Throws Vl3Error('permission-denied') for names that do not hold. */
export const putNodeNames = async (
  { transactor, signer, now, logger }: RegistryContext,
  network: string,
  node: string,
  signed: SignedRecord,
  verify: VerifyRecord,
): Promise<void> => {
  const state = await transactor.read([one(keys.network(network)), one(identityKey(node))]);
  const { value } = mustBeNetwork(state, network);
  const constraints = constraintsOf(state, node);
  if (constraints !== undefined && signed.record.length > MAX_FOREIGN_NAMES_BYTES)
    throw new Vl3Error(
      'resource-exhausted',
      `names: they take ${signed.record.length} bytes, and those of another domain's node ${MAX_FOREIGN_NAMES_BYTES} at most`,
    );
  const home = signer.trustBundle.trustDomain;
  const expected = { network, networkUid: value.uid, home, node: nodeNameOf(node).node };
  const decoded = decodeVerifiedNames(signed, verify, now(), expected);
  if (decoded.kind === 'refused') {
    logger.warn({ node, network, reason: decoded.message }, 'names refused');
    throw new Vl3Error('permission-denied', `names: ${decoded.message}`);
  }
  for (const { name } of constraints === undefined ? [] : decoded.names.names) {
    const problem = constraints && nameProblem(constraints, name);
    if (problem === undefined) continue;
    logger.warn({ node, network, reason: problem }, 'names refused');
    throw new Vl3Error('permission-denied', `names: ${problem}`);
  }
  await transactor.run(putNames(network, node, storedNames(signed, decoded.names)));
};
