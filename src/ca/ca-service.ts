// CaService: what an admin asks of the CA, wherever it is. What only a signer apart keeps is refused by one in the registry's
// process, which needs none of it. Access was checked before.

import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { CaService, GetCaResponse } from '../api/generated/vl3/v1/ca_pb.js';
import type { CertificateAuthority } from '../identity/ca.ts';
import { ROTATION_STEPS } from '../identity/ca-rotation.ts';
import { type Certificate, fingerprint } from '../identity/certificate.ts';
import { ruleOf } from '../registry/admission-messages.ts';
import type { ApartSigner } from './apart-signer.ts';

export interface CaServiceDependencies {
  readonly ca: CertificateAuthority;
  /** Undefined: the CA is in the registry's process. */
  readonly apart?: ApartSigner;
  readonly logger: Logger;
}

type CaMessage = Omit<GetCaResponse, '$typeName' | '$unknown'>;

const timeOf = (time: { seconds: bigint; nanos: number } | undefined): number =>
  time === undefined ? 0 : timestampMs({ $typeName: 'google.protobuf.Timestamp', ...time });

export const caService = ({ ca, apart, logger }: CaServiceDependencies): ServiceImpl<typeof CaService> => {
  const mustBeApart = (): ApartSigner => {
    if (apart !== undefined) return apart;
    throw new Vl3Error(
      'failed-precondition',
      "this domain's CA is in the registry's process: there is no signer apart that would have to be told",
    );
  };
  return {
    async getCa() {
      return caMessage(ca, apart);
    },

    async rotateCa({ step: wanted, isUrgent }) {
      const step = ROTATION_STEPS.find((one) => one === wanted);
      if (step === undefined)
        throw new Vl3Error('invalid-argument', `step: use one of ${ROTATION_STEPS.join(', ')}`);
      await ca.rotate(step, isUrgent);
      const state = caMessage(ca, apart);
      const signing = state.authorities[0]?.fingerprint;
      logger.warn({ step, isUrgent, signing, authorities: state.authorities.length }, 'the CA was rotated');
      return { ca: state };
    },

    async revokeNode({ name }) {
      await (apart ?? ca).revoke(name);
      logger.warn({ node: name }, 'node revoked');
      return {};
    },

    async registerToken({ id, key, node, expiresAt }) {
      mustBeApart().registerToken(id, key, node, timeOf(expiresAt));
      logger.info({ tokenId: id.slice(0, 16), node }, 'join token registered');
      return {};
    },

    async withdrawToken({ id }) {
      mustBeApart().withdrawToken(id);
      logger.info({ tokenId: id.slice(0, 16) }, 'join token withdrawn');
      return {};
    },

    async registerNetwork({ name, uid, pools }) {
      mustBeApart().registerNetwork(name, uid, pools);
      logger.info({ network: name, uid, pools }, 'network registered');
      return {};
    },

    async withdrawNetwork({ name }) {
      mustBeApart().withdrawNetwork(name);
      logger.info({ network: name }, 'network withdrawn');
      return {};
    },

    async registerRule({ rule }) {
      if (rule === undefined) throw new Vl3Error('invalid-argument', 'rule: it is missing');
      mustBeApart().registerRule(ruleOf(rule, ca.trustBundle.trustDomain));
      logger.info({ network: rule.network, rule: rule.name }, 'admission rule registered');
      return {};
    },

    async registerPartner({ trustDomain, constraints, key, expiresAt, caFingerprints }) {
      const signer = mustBeApart();
      if (constraints !== undefined) {
        const { networks, names, prefixes } = constraints;
        signer.invite({ trustDomain, networks, names, prefixes }, key, timeOf(expiresAt));
        logger.info({ trustDomain, networks, names, prefixes }, 'partner invited');
      }
      if (constraints === undefined || caFingerprints.length > 0) {
        signer.accept(trustDomain, caFingerprints);
        logger.info({ trustDomain, caFingerprints }, "partner's invitation accepted");
      }
      return {};
    },

    async withdrawPartner({ trustDomain }) {
      await mustBeApart().withdrawPartner(trustDomain);
      logger.warn({ trustDomain }, 'partner withdrawn');
      return {};
    },

    async forgetLog() {
      mustBeApart().forgetLog();
      logger.warn({}, 'the end of the log that was signed last is forgotten');
      return {};
    },

    async withdrawRule({ network, name }) {
      mustBeApart().withdrawRule(network, name);
      logger.info({ network, rule: name }, 'admission rule withdrawn');
      return {};
    },
  };
};

const caMessage = (ca: CertificateAuthority, apart: ApartSigner | undefined): CaMessage => {
  const { active, next, previous } = ca.authorities;
  const authority = (state: string, certificate: Certificate, since: number) => ({
    $typeName: 'vl3.v1.Authority' as const,
    state,
    fingerprint: Buffer.from(fingerprint(certificate.der)).toString('hex'),
    since: timestampFromMs(since),
    notAfter: timestampFromMs(certificate.notAfter),
  });
  const last = previous.at(-1);
  const [nextStep, after] =
    next !== undefined
      ? (['sign', next.since] as const)
      : last !== undefined
        ? (['retire', last.since] as const)
        : (['prepare', undefined] as const);
  return {
    trustDomain: ca.trustBundle.trustDomain,
    isApart: apart !== undefined,
    authorities: [
      authority('signing', active.certificate, active.since),
      ...(next === undefined ? [] : [authority('next', next.certificate, next.since)]),
      ...previous.map(({ certificate, since }) => authority('previous', certificate, since)),
    ],
    revoked: ca.revoked.map(({ node, until }) => ({
      $typeName: 'vl3.v1.RevokedNode' as const,
      node,
      until: timestampFromMs(until),
    })),
    sequence: BigInt(ca.sequence),
    nextStep,
    ...(after !== undefined && { nextStepAt: timestampFromMs(after + ca.svidValidityMs) }),
    ...(apart?.counts ?? { tokens: 0, nodes: 0, networks: 0, leases: 0 }),
    partners: (apart?.partners ?? []).map(({ trustDomain, admits, caFingerprints, confirmedAt }) => ({
      $typeName: 'vl3.v1.KnownPartner' as const,
      trustDomain,
      ...(admits !== undefined && {
        admits: {
          $typeName: 'vl3.v1.FederationConstraints' as const,
          networks: [...admits.networks],
          names: [...admits.names],
          prefixes: [...admits.prefixes],
        },
      }),
      caFingerprints: [...caFingerprints],
      ...(confirmedAt !== undefined && { confirmedAt: timestampFromMs(confirmedAt) }),
    })),
  };
};
