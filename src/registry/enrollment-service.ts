// EnrollmentService: the only call without a client certificate. The token is used up and the node made in one
// transaction; a certificate that was signed for a call that lost is never given out.

import type { ServiceImpl } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import {
  checkEnrollment,
  checkToken,
  EnrollmentRefused,
  enroll,
} from '../../native-free/registry/node-rules.ts';
import { formatSpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { tokenId } from '../../native-free/registry/token-rules.ts';
import type { EnrollmentService } from '../api/generated/vl3/v1/enrollment_pb.js';
import { fromBase64, toBase64 } from '../base64.ts';
import { hashSecret } from '../identity/token.ts';
import { callerKey } from './caller.ts';
import type { RegistryContext } from './context.ts';
import { issueSvid, requestKeyHash } from './issue.ts';
import { bundleMessage } from './messages.ts';

export const enrollmentService = (context: RegistryContext): ServiceImpl<typeof EnrollmentService> => ({
  async enroll({ tokenSecret, certificateRequest, node }, handler) {
    const { transactor, signer, logger, now, counters } = context;
    const { address } = handler.values.get(callerKey);
    const secretHash = hashSecret(tokenSecret);
    try {
      const known = checkToken(secretHash);
      known.decide(await transactor.read(known.reads));
      const keyHash = await requestKeyHash(certificateRequest);
      const request = { secretHash, node, keyHash };
      const { trustBundle } = signer;
      const spiffeId = formatSpiffeId({ kind: 'node', trustDomain: trustBundle.trustDomain, name: node });
      const answer = (chain: readonly string[]) => ({
        certificateChain: chain.map(fromBase64),
        trustBundle: bundleMessage(trustBundle),
        node,
        spiffeId,
      });
      const who = { node, spiffeId, address, tokenId: tokenId(secretHash) };
      const { answer: before } = await transactor.run(checkEnrollment(request, now()));
      if (before !== undefined) {
        logger.info(who, 'node asked again, and got what it was given before');
        return answer(before);
      }
      const issued = await issueSvid(signer, certificateRequest, node);
      const svid = { ...issued, chain: issued.chain.map(toBase64) };
      const { answer: enrolled } = await transactor.run(enroll({ ...request, spiffeId, svid }, now()));
      logger.info(who, 'node enrolled');
      return answer(enrolled.chain);
    } catch (error) {
      if (error instanceof Vl3Error) {
        const reason = error instanceof EnrollmentRefused ? error.reason : error.code;
        counters.countRefusal(reason);
        logger.warn({ reason, address, node: node.slice(0, 63) }, 'enrolment refused');
      }
      throw error;
    }
  },
});
