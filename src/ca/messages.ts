// Signed documents as messages of the API, and back.

import type { SignedRecord } from '../../native-free/registry/record.ts';

/** Of vl3.v1.SignedRecord, whose lists are not read-only. */
export const signedMessage = ({ record, signature, certificateChain }: SignedRecord) => ({
  record,
  signature,
  certificateChain: [...certificateChain],
});
