// CredentialService: an admin gives somebody who is to look, and to change nothing, a credential of their own, sees which
// there are, and takes them back. That one was taken back the guard asks at each call.

import { durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import { check, name as nameSchema } from '../../native-free/registry/model.ts';
import { listOperators, noteOperator, revokeOperator } from '../../native-free/registry/operator-rules.ts';
import type { CredentialService } from '../api/generated/vl3/v1/credential_pb.js';
import { parseCertificate } from '../identity/certificate.ts';
import type { AdminSigner } from '../identity/signer.ts';
import { callerKey } from './caller.ts';
import type { RegistryContext } from './context.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const DEFAULT_TTL_MS = 30 * DAY_MS;
const MAX_TTL_MS = 365 * DAY_MS;

/** `signer`: where the CA is in this process. */
export const credentialService = (
  { transactor, logger, now }: Pick<RegistryContext, 'transactor' | 'logger' | 'now'>,
  signer: AdminSigner | undefined,
): ServiceImpl<typeof CredentialService> => ({
  async issueOperator({ name, certificateRequest, ttl }, handler) {
    check(nameSchema, name, 'name');
    const ttlMs = ttl === undefined ? DEFAULT_TTL_MS : durationMs(ttl);
    if (!(ttlMs >= 60_000 && ttlMs <= MAX_TTL_MS))
      throw new Vl3Error('invalid-argument', 'ttl: use 1 minute to 365 days');
    if (signer === undefined)
      throw new Vl3Error(
        'failed-precondition',
        'this registry has no CA: make the credential where that is (`vl3 ca operator`), or have the issuer of its identities register one',
      );
    const certificateChain = await signer.signOperatorCredential(certificateRequest, name, ttlMs);
    const [leaf] = certificateChain;
    if (leaf === undefined) throw new Vl3Error('internal', 'the CA signed nothing');
    const { serial, notAfter } = parseCertificate(leaf);
    const caller = handler.values.get(callerKey);
    const admin = caller.role === 'anonymous' ? '' : caller.name;
    await transactor.run(noteOperator({ name, serial, notAfter }, admin, now()));
    logger.info(
      { operator: name, serial, admin, days: Math.round(ttlMs / DAY_MS) },
      'operator credential issued',
    );
    return { certificateChain };
  },

  async listOperators() {
    const rule = listOperators(now());
    const { answer } = rule.decide(await transactor.read(rule.reads));
    const time = (ms: number | undefined) => (ms === undefined ? undefined : timestampFromMs(ms));
    return {
      operators: answer.map(({ name, credentials, revokedAt }) => ({
        name,
        revokedAt: time(revokedAt),
        credentials: credentials.map((one) => ({
          serial: one.serial,
          issuedBy: one.issuedBy ?? '',
          notedAt: time(one.notedAt),
          expiresAt: time(one.notAfter),
          revokedAt: time(one.revokedAt),
        })),
      })),
    };
  },

  async revokeOperator({ name }, handler) {
    const { answer: revoked } = await transactor.run(revokeOperator(name, now()));
    const caller = handler.values.get(callerKey);
    const admin = caller.role === 'anonymous' ? '' : caller.name;
    logger.warn({ operator: name, admin, credentials: revoked }, 'operator revoked');
    return { revoked };
  },
});
