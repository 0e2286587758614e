// EnrollmentService: the only call without a client certificate. What is shown instead is used up and the node made in one
// transaction; a certificate that was signed for a call that lost is never given out.

import type { ServiceImpl } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import {
  checkClusterEnrollment,
  enrollByCluster,
} from '../../native-free/registry/cluster-enrolment-rules.ts';
import {
  checkEnrollment,
  checkToken,
  type Enrollment,
  EnrollmentRefused,
  enroll,
  type IssuedSvid,
} from '../../native-free/registry/enrolment-rules.ts';
import type { Rule } from '../../native-free/registry/rules.ts';
import { formatSpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { tokenId } from '../../native-free/registry/token-rules.ts';
import type { EnrollmentService } from '../api/generated/vl3/v1/enrollment_pb.js';
import { fromBase64, toBase64 } from '../base64.ts';
import type { SvidEvidence } from '../identity/signer.ts';
import { hashSecret } from '../identity/token.ts';
import { callerKey } from './caller.ts';
import type { RegistryContext } from './context.ts';
import { issueSvid, requestKeyHash } from './issue.ts';
import { bundleMessage } from './messages.ts';

/** Somebody who has shown a token that is one; whether it admits is the rules' business. */
interface Entrant {
  readonly node: string;
  /** What it showed, for the log. */
  readonly shown: Readonly<Record<string, string>>;
  readonly check: (keyHash: string) => Rule<readonly string[] | undefined>;
  readonly enroll: (keyHash: string, made: { spiffeId: string; svid: IssuedSvid }) => Rule<Enrollment>;
}

export const enrollmentService = (context: RegistryContext): ServiceImpl<typeof EnrollmentService> => ({
  async enroll(
    { tokenSecret, tokenId: tokenHash, tokenProof, kubernetesToken, certificateRequest, node: wanted },
    handler,
  ) {
    const { transactor, signer, logger, counters } = context;
    const { address } = handler.values.get(callerKey);
    try {
      if ([tokenSecret, tokenHash, kubernetesToken].filter((one) => one !== '').length > 1)
        throw new Vl3Error('invalid-argument', 'show a join token or one of a cluster, not both');
      const evidence: SvidEvidence =
        tokenHash === '' ? { kind: 'none' } : { kind: 'token', tokenId: tokenHash, proof: tokenProof };
      // What was proven is the signer's to say: one in this process takes the secret and no proof.
      if (evidence.kind === 'token' && !signer.isApart)
        throw new Vl3Error('failed-precondition', 'this join token is for a domain whose signer is apart');
      const secretHash = tokenHash === '' ? hashSecret(tokenSecret) : tokenHash;
      const entrant = await (kubernetesToken === ''
        ? byJoinToken(context, secretHash, wanted)
        : byCluster(context, kubernetesToken, wanted));
      const { node } = entrant;
      const keyHash = await requestKeyHash(certificateRequest);
      const { trustBundle } = signer;
      const spiffeId = formatSpiffeId({ kind: 'node', trustDomain: trustBundle.trustDomain, name: node });
      const answer = (chain: readonly string[]) => ({
        certificateChain: chain.map(fromBase64),
        trustBundle: bundleMessage(trustBundle),
        node,
        spiffeId,
      });
      const who = { node, spiffeId, address, ...entrant.shown };
      const { answer: before } = await transactor.run(entrant.check(keyHash));
      if (before !== undefined) {
        logger.info(who, 'node asked again, and got what it was given before');
        return answer(before);
      }
      const issued = await issueSvid(signer, certificateRequest, node, evidence);
      const svid = { ...issued, chain: issued.chain.map(toBase64) };
      const { answer: enrolled } = await transactor.run(entrant.enroll(keyHash, { spiffeId, svid }));
      logger.info(who, 'node enrolled');
      return answer(enrolled.chain);
    } catch (error) {
      if (error instanceof Vl3Error) {
        const reason = error instanceof EnrollmentRefused ? error.reason : error.code;
        counters.countRefusal(reason);
        logger.warn({ reason, address, node: wanted.slice(0, 63) }, 'enrolment refused');
      }
      throw error;
    }
  },
});

const byJoinToken = async (
  { transactor, now }: RegistryContext,
  secretHash: string,
  node: string,
): Promise<Entrant> => {
  const known = checkToken(secretHash);
  known.decide(await transactor.read(known.reads));
  return {
    node,
    shown: { tokenId: tokenId(secretHash) },
    check: (keyHash) => checkEnrollment({ secretHash, node, keyHash }, now()),
    enroll: (keyHash, made) => enroll({ secretHash, node, keyHash, ...made }, now()),
  };
};

const byCluster = async (
  { clusters, now }: RegistryContext,
  token: string,
  wanted: string,
): Promise<Entrant> => {
  if (clusters === undefined) {
    throw new EnrollmentRefused(
      'no-clusters',
      'this registry knows no Kubernetes cluster: name them in a file (--kubernetes-clusters), or enrol with a join token',
    );
  }
  const verified = await clusters.verify(token);
  const { node, cluster, kubernetesNode } = verified;
  if (wanted !== '' && wanted !== node) {
    throw new EnrollmentRefused(
      'other-name',
      `to its cluster this is "${node}", and not another node: leave --name out, or run "vl3 agent clean" first where it enrolled as another`,
    );
  }
  return {
    node,
    shown: { cluster, kubernetesNode },
    check: (keyHash) => checkClusterEnrollment({ ...verified, keyHash }, now()),
    enroll: (keyHash, made) => enrollByCluster({ ...verified, keyHash, ...made }, now()),
  };
};
