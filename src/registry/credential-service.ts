// CredentialService: an admin gives somebody who is to look, and to change nothing, a credential of their own. It cannot be
// taken back before it ends, which is why it ends soon.

import { durationMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { check, name as nameSchema } from '../../native-free/registry/model.ts';
import type { CredentialService } from '../api/generated/vl3/v1/credential_pb.js';
import type { AdminSigner } from '../identity/signer.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const DEFAULT_TTL_MS = 30 * DAY_MS;
const MAX_TTL_MS = 365 * DAY_MS;

export const credentialService = (deps: {
  readonly signer: AdminSigner;
  readonly logger: Logger;
}): ServiceImpl<typeof CredentialService> => ({
  async issueOperator({ name, certificateRequest, ttl }) {
    check(nameSchema, name, 'name');
    const ttlMs = ttl === undefined ? DEFAULT_TTL_MS : durationMs(ttl);
    if (!(ttlMs >= 60_000 && ttlMs <= MAX_TTL_MS))
      throw new Vl3Error('invalid-argument', 'ttl: use 1 minute to 365 days');
    const certificateChain = await deps.signer.signOperatorCredential(certificateRequest, name, ttlMs);
    deps.logger.info({ operator: name, days: Math.round(ttlMs / DAY_MS) }, 'operator credential issued');
    return { certificateChain };
  },
});
