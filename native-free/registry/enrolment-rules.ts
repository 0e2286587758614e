// Enrolment by a join token: whom a token admits, and how it is used up. What becomes of the node afterwards is node-rules'.

import { Vl3Error } from '../error.ts';
import { keys, one } from './keys.ts';
import {
  type Certificate,
  check,
  MAX_CERTIFICATES,
  type Node,
  name as nameSchema,
  node as nodeSchema,
  type Token,
  token as tokenSchema,
} from './model.ts';
import { addCertificate, unexpired } from './node-rules.ts';
import { mustIssue } from './recovery-rules.ts';
import { put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';
import { tokenId } from './token-rules.ts';

export type RefusalReason =
  | 'unknown'
  | 'revoked'
  | 'used'
  | 'expired'
  | 'other-name'
  | 'name-taken'
  // Of a cluster's tokens alone:
  | 'no-clusters'
  | 'malformed'
  | 'other-issuer'
  | 'other-key'
  | 'forged'
  | 'other-audience'
  | 'other-account'
  | 'not-yet-valid'
  | 'too-long'
  | 'no-node'
  | 'deleted'
  | 'alive';

/** Why a token did not admit; counted and logged by reason. */
export class EnrollmentRefused extends Vl3Error {
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, message: string) {
    super(reason === 'name-taken' || reason === 'alive' ? 'already-exists' : 'permission-denied', message);
    this.name = 'EnrollmentRefused';
    this.reason = reason;
  }
}

export interface EnrollmentRequest {
  /** SHA-256 of the secret that was shown, hex. */
  readonly secretHash: string;
  readonly node: string;
  /** SHA-256 of the public key that the certificate request proved, hex. */
  readonly keyHash: string;
}

const NEW_TOKEN = 'ask the admin for a new one (`vl3 token create`)';

/** The token of this secret, whatever it admits. */
const knownToken = (state: State, secretHash: string): Token => {
  const token = state.token(tokenId(secretHash))?.value;
  // The hash is of a 128-bit secret, so a comparison's timing says nothing useful about it.
  if (token === undefined || token.hash !== secretHash) {
    throw new EnrollmentRefused('unknown', `the join token is not one of this registry: ${NEW_TOKEN}`);
  }
  if (token.revokedAt !== undefined) {
    throw new EnrollmentRefused('revoked', `the join token ${token.id} was revoked: ${NEW_TOKEN}`);
  }
  return token;
};

const admit = (
  state: State,
  request: EnrollmentRequest,
  now: number,
): { token: Token; node: Node | undefined } => {
  const token = knownToken(state, request.secretHash);
  const node = state.node(request.node)?.value;
  const alive = node !== undefined && node.deletedAt === undefined;
  if (token.usedAt !== undefined) {
    // The same machine asks again because the answer got lost: the key it proves is the one that was enrolled, and no
    // other token has enrolled that node since.
    const again =
      alive &&
      node.enrolledAt === token.usedAt &&
      token.usedBy === request.node &&
      token.usedByKey === request.keyHash;
    if (!again)
      throw new EnrollmentRefused('used', `the join token ${token.id} was used already: ${NEW_TOKEN}`);
  }
  if (token.expiresAt <= now) {
    throw new EnrollmentRefused('expired', `the join token ${token.id} has expired: ${NEW_TOKEN}`);
  }
  if (token.node !== undefined && token.node !== request.node) {
    throw new EnrollmentRefused(
      'other-name',
      `the join token ${token.id} admits only the node "${token.node}"`,
    );
  }
  if (alive && token.usedAt === undefined && token.node === undefined) {
    throw new EnrollmentRefused(
      'name-taken',
      `a node "${request.node}" exists: take another name, delete that one, or use a token made for it (\`vl3 token create --node ${request.node}\`)`,
    );
  }
  // A node of that name may come back that a registry which lost its memory has not heard of again.
  if (node === undefined && token.node === undefined) mustIssue(state, 'name');
  return { token, node };
};

const enrollmentReads = (request: EnrollmentRequest) => {
  check(nameSchema, request.node, 'node');
  return [one(keys.domain), one(keys.token(tokenId(request.secretHash))), one(keys.node(request.node))];
};

/** Asks whether there is such a token: before anything is computed for whoever has shown nothing else. */
export const checkToken = (secretHash: string): Rule<void> => ({
  reads: [one(keys.token(tokenId(secretHash)))],
  decide: (state) => {
    knownToken(state, secretHash);
    return settled(undefined);
  },
});

/** An SVID that was signed for a request. */
export interface IssuedSvid {
  readonly certificate: Certificate;
  readonly notBefore: number;
  /** DER in base64, the leaf first. */
  readonly chain: readonly string[];
}

/**
 * What was given out for this before, if that still holds for a good while. A node that asks in a loop, since its clock
 * refuses what it gets or it dies with the answer in hand, gets the same again: each SVID more is one that would have to be
 * remembered until it expires, and which of them the node holds, nobody could tell.
 */
export const givenBefore = ({ svid }: Pick<Token, 'svid'>, now: number): readonly string[] | undefined => {
  if (svid === undefined) return undefined;
  const { notBefore, notAfter, certificateChain } = svid;
  const isGood = notBefore <= now && notAfter - now >= (notAfter - notBefore) / 2;
  return isGood ? certificateChain : undefined;
};

/**
 * Asks whether the token admits, and changes nothing: before a certificate is signed. Answers the chain when one was given out
 * already.
 */
export const checkEnrollment = (
  request: EnrollmentRequest,
  now: number,
): Rule<readonly string[] | undefined> => ({
  reads: enrollmentReads(request),
  decide: (state) => settled(givenBefore(admit(state, request, now).token, now)),
});

export interface Enrollment {
  readonly node: Node;
  /** What the node is to get; not what the request came with, if it had been given one before. */
  readonly chain: readonly string[];
}

/** Uses the token up and makes the node, in one transaction. A node enrolled anew keeps its networks and prefixes. */
export const enroll = (
  request: EnrollmentRequest & { readonly spiffeId: string; readonly svid: IssuedSvid },
  now: number,
): Rule<Enrollment> => {
  const tokenKey = keys.token(tokenId(request.secretHash));
  const nodeKey = keys.node(request.node);
  const { certificate, notBefore, chain } = request.svid;
  return {
    reads: enrollmentReads(request),
    decide: (state) => {
      const { token, node } = admit(state, request, now);
      const isAgain = token.usedAt !== undefined && node !== undefined;
      const before = givenBefore(token, now);
      if (isAgain && before !== undefined) return settled({ node, chain: before });
      const value: Node = isAgain
        ? { ...node, certificates: addCertificate(node.certificates, certificate, now) }
        : {
            name: request.node,
            spiffeId: request.spiffeId,
            enrolledAt: now,
            certificates: [certificate],
            refused: unexpired([...(node?.refused ?? []), ...(node?.certificates ?? [])], now).slice(
              -MAX_CERTIFICATES * 4,
            ),
          };
      const used: Token = {
        ...token,
        usedAt: token.usedAt ?? now,
        usedBy: request.node,
        usedByKey: request.keyHash,
        svid: { notBefore, notAfter: certificate.notAfter, certificateChain: [...chain] },
      };
      return {
        compares: [state.unchanged(tokenKey), state.unchanged(nodeKey)],
        operations: [put(tokenKey, tokenSchema, used), put(nodeKey, nodeSchema, value)],
        answer: { node: value, chain },
      };
    },
  };
};
