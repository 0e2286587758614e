// SignerService: what a registry asks of a signer apart. Each RPC reads its request and asks the signer, which decides.

import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { SignerService, SignNodeSvidRequest } from '../api/generated/vl3/v1/ca_pb.js';
import type { SvidEvidence } from '../identity/signer.ts';
import type { ApartSigner } from './apart-signer.ts';
import { callerKey, type SignerCaller } from './caller.ts';
import { signedMessage } from './messages.ts';

const evidenceOf = ({ tokenId, tokenProof, renewalProof }: SignNodeSvidRequest): SvidEvidence => {
  if (tokenId !== '') return { kind: 'token', tokenId, proof: tokenProof };
  if (renewalProof === undefined) return { kind: 'none' };
  const { signature, certificateChain } = renewalProof;
  return { kind: 'renewal', proof: { signature, certificateChain } };
};

export const signerService = (signer: ApartSigner, logger: Logger): ServiceImpl<typeof SignerService> => ({
  async signNodeSvid(request) {
    const { certificateRequest, node } = request;
    const evidence = evidenceOf(request);
    const certificateChain = await signer.signNodeSvid(certificateRequest, node, evidence);
    logger.info({ node, by: evidence.kind }, 'SVID signed');
    return { certificateChain };
  },

  async signServerCertificate({ certificateRequest }, handler) {
    const caller: SignerCaller = handler.values.get(callerKey);
    if (caller.role !== 'registry') throw new Vl3Error('permission-denied', 'this call is for registries');
    const certificateChain = await signer.ca.signRegistryCredential(certificateRequest, caller.hosts);
    logger.info({ hosts: caller.hosts }, "registry's certificate signed");
    return { certificateChain };
  },

  async signGrant(request) {
    const { network, networkUid, node, nodeDomain, prefixes, storeId, sequence } = request;
    if (request.notAfter === undefined) throw new Vl3Error('invalid-argument', 'not_after: it is missing');
    const signed = await signer.signGrant(
      {
        ...{ network, networkUid, node, prefixes, storeId },
        nodeDomain: nodeDomain === '' ? signer.ca.trustBundle.trustDomain : nodeDomain,
        isWhole: false,
        addresses: [],
        sequence: Number(sequence),
      },
      timestampMs(request.notAfter),
    );
    logger.debug({ network, node, prefixes }, 'grant signed');
    return {
      grant: signedMessage(signed),
      sequence: BigInt(signed.sequence),
      notAfter: timestampFromMs(signed.notAfter),
    };
  },

  async signLogHead({ head }) {
    return { head: signedMessage(await signer.signLogHead(head)) };
  },

  async putAttestation({ network, node, attestation }) {
    if (attestation === undefined) throw new Vl3Error('invalid-argument', 'attestation: it is missing');
    signer.putAttestation(network, node, attestation);
    return {};
  },

  async putPartner({ trustDomain, authorities, proof }) {
    if (authorities === undefined) throw new Vl3Error('invalid-argument', 'authorities: it is missing');
    await signer.putPartner(trustDomain, authorities, proof);
    logger.debug({ trustDomain }, "a partner's CAs were confirmed");
    return {};
  },

  async getDomain({ knownSequence }) {
    const { sequence, ...signed } = await signer.ca.statement();
    const isKnown = knownSequence === BigInt(sequence);
    return {
      ...(!isKnown && {
        statement: signedMessage(signed),
        authorities: signedMessage(await signer.ca.ownAuthorities()),
      }),
      sequence: BigInt(sequence),
      nodes: signer.counts.nodes,
    };
  },
});
