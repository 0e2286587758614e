// The signer on a machine of its own: the CA, and a ledger of what admins told it. A registry asks; what is signed is decided here,
// by evidence that no registry can make up, so that one that was taken over gets nothing but refusals out of it.

import { createHash } from 'node:crypto';
import { admissionRule } from '../../native-free/admission/rule.ts';
import { decodeAttestation } from '../../native-free/ca/attestation.ts';
import {
  forgetLeases,
  grantTo,
  noteAttested,
  registerNetwork,
  registerRule,
  uidOf,
  withdrawNetwork,
  withdrawRule,
} from '../../native-free/ca/grant-rules.ts';
import {
  admitByToken,
  admitRenewal,
  noteIssued,
  registerToken,
  revokeNode,
  tokenOf,
  withdrawToken,
} from '../../native-free/ca/issue-rules.ts';
import { GRANTED, LEASE, NETWORK, NODE, TOKEN } from '../../native-free/ca/ledger.ts';
import { Vl3Error } from '../../native-free/error.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { check, name as nameSchema } from '../../native-free/registry/model.ts';
import { nextSequence, type SignedRecord } from '../../native-free/registry/record.ts';
import { parseName } from '../../native-free/registry/spiffe-id.ts';
import { MAX_TOKEN_TTL_MS } from '../../native-free/registry/token-rules.ts';
import { toBase64 } from '../base64.ts';
import type { CertificateAuthority } from '../identity/ca.ts';
import { parseCertificate } from '../identity/certificate.ts';
import { readCertificateRequest } from '../identity/certificate-request.ts';
import { revocationsOf } from '../identity/domain-statement.ts';
import { createRecordVerifier } from '../identity/record-signer.ts';
import type { GrantContent, SignedGrant, SvidEvidence } from '../identity/signer.ts';
import { isEnrolmentProven, verifyRenewal } from '../identity/svid-proofs.ts';

export interface ApartSignerDependencies {
  readonly ca: CertificateAuthority;
  readonly ledger: DocumentStore;
  /** Unix ms. */
  readonly now: () => number;
}

/** Of the term of a lease: so long its prefix rests once it has ended. */
const REST_SHARE = 1 / 7;
/** As far as clocks of a registry and its signer may differ. */
const SEQUENCE_AHEAD_MS = 60 * 60 * 1000;
const HASH = /^[0-9a-f]{64}$/;

export class ApartSigner {
  readonly #deps: ApartSignerDependencies;

  constructor(deps: ApartSignerDependencies) {
    this.#deps = deps;
  }

  get ca(): CertificateAuthority {
    return this.#deps.ca;
  }

  // --- what a registry asks

  async signNodeSvid(request: Uint8Array, node: string, evidence: SvidEvidence): Promise<Uint8Array[]> {
    const { ca, ledger, now } = this.#deps;
    parseName('node', node);
    const key = await readCertificateRequest(request);
    if (evidence.kind === 'token') {
      const { tokenId, proof } = evidence;
      const token = tokenOf(ledger, tokenId);
      if (!isEnrolmentProven(Buffer.from(token.key, 'base64'), { tokenId, node, request }, proof))
        throw new Vl3Error('permission-denied', 'the signer refuses it: the join token was not proven');
      const spki = key.export({ type: 'spki', format: 'der' });
      const keyHash = createHash('sha256').update(spki).digest('hex');
      admitByToken(ledger, { tokenId, node, keyHash }, now());
    } else {
      const proven =
        evidence.kind === 'renewal'
          ? verifyRenewal(request, evidence.proof, ca.trustBundle, now())
          : undefined;
      if (proven?.id.kind !== 'node' || proven.id.name !== node)
        throw new Vl3Error(
          'permission-denied',
          `the signer refuses it: nothing proves that this is node "${node}" (agents of an earlier version, and nodes that enrol by their cluster's word, cannot)`,
        );
      admitRenewal(ledger, node, proven.leaf.serial);
    }
    const chain = await ca.signNodeSvid(request, node);
    const [leaf] = chain;
    if (leaf === undefined) throw new Vl3Error('internal', 'the CA answered no certificate');
    const { serial, notAfter } = parseCertificate(leaf);
    // On the disk before anybody has it.
    noteIssued(ledger, node, { serial, notAfter }, now());
    return chain;
  }

  /** What is granted is found here; of the content, network, node, prefixes and store are asked about. */
  async signGrant(asked: GrantContent, wanted: number): Promise<SignedGrant> {
    const { ca, ledger, now } = this.#deps;
    const home = ca.trustBundle.trustDomain;
    const { network, networkUid, node, nodeDomain, prefixes = [], storeId } = asked;
    if (nodeDomain !== home)
      throw new Vl3Error(
        'failed-precondition',
        `the signer grants nothing to node "${node}" of ${nodeDomain}: one that is apart does not know partners`,
      );
    const wall = now();
    const notAfter = Math.min(wanted, wall + ca.svidValidityMs);
    const restMs = Math.ceil(ca.svidValidityMs * REST_SHARE);
    const granted = grantTo(ledger, home, { network, networkUid, node, prefixes, notAfter, restMs }, wall);
    const sequence = this.#nextSequence(`${networkUid} ${node}`, asked.sequence, wall);
    return await ca.signGrant(
      { network, networkUid, nodeDomain, node, ...granted, storeId, sequence },
      notAfter,
    );
  }

  /**
   * Past the last one, whatever a registry says that was: a grant of a year ahead would keep all later ones out. Only where nothing is
   * on record, as in a ledger that was lost, its word counts for a little.
   */
  #nextSequence(key: string, asked: number, wall: number): number {
    const { ledger } = this.#deps;
    return ledger.transact(() => {
      const last = ledger.get(GRANTED, key)?.sequence ?? 0;
      const sequence = nextSequence(Math.max(last, Math.min(asked, wall + SEQUENCE_AHEAD_MS)), 0, wall);
      ledger.put(GRANTED, key, { sequence });
      return sequence;
    });
  }

  /** Throws Vl3Error('permission-denied') for what the node did not sign. */
  putAttestation(network: string, node: string, signed: SignedRecord): void {
    const { ca, ledger, now } = this.#deps;
    const networkUid = uidOf(ledger, network);
    const revoked = revocationsOf({ revoked: [...ca.revoked] });
    const verify = createRecordVerifier({ ...ca.trustBundle, revoked });
    const expected = { network, networkUid, home: ca.trustBundle.trustDomain, node };
    noteAttested(ledger, decodeAttestation(signed, verify, now(), expected));
  }

  get counts(): { tokens: number; nodes: number; networks: number; leases: number } {
    const { ledger, now } = this.#deps;
    const wall = now();
    return {
      tokens: ledger.list(TOKEN).filter(({ value }) => value.expiresAt > wall && value.usedBy === undefined)
        .length,
      nodes: ledger.list(NODE).filter(({ value }) => value.revokedAt === undefined).length,
      networks: ledger.list(NETWORK).length,
      leases: ledger.list(LEASE).filter(({ value }) => value.until > wall).length,
    };
  }

  // --- what an admin tells

  async revoke(node: string): Promise<void> {
    const { ca, ledger, now } = this.#deps;
    parseName('node', node);
    // First what renews nothing any more, then what says so.
    revokeNode(ledger, node, now());
    await ca.revoke(node);
    forgetLeases(ledger, now(), node);
  }

  registerToken(tokenId: string, key: Uint8Array, node: string, expiresAt: number): void {
    const { ledger, now } = this.#deps;
    if (!HASH.test(tokenId) || key.length !== 32)
      throw new Vl3Error('invalid-argument', 'a token is registered by a SHA-256 in hex and a key of 32 B');
    if (!(expiresAt > now() && expiresAt <= now() + MAX_TOKEN_TTL_MS + 60_000))
      throw new Vl3Error('invalid-argument', 'expires_at: use 1 second to 7 days from now');
    const value = { key: toBase64(key), expiresAt: Math.floor(expiresAt) };
    const named = node === '' ? value : { ...value, node: check(nameSchema, node, 'node') };
    registerToken(ledger, tokenId, named, now());
  }

  withdrawToken(id: string): void {
    if (!/^[0-9a-f]{16,64}$/.test(id)) throw new Vl3Error('invalid-argument', 'id: this is none of a token');
    withdrawToken(this.#deps.ledger, id);
  }

  registerNetwork(network: string, uid: string, pools: readonly string[]): void {
    check(nameSchema, network, 'name');
    for (const pool of pools) parsePrefix(pool);
    registerNetwork(this.#deps.ledger, { network, uid, pools });
  }

  withdrawNetwork(network: string): void {
    withdrawNetwork(this.#deps.ledger, network);
  }

  registerRule(rule: unknown): void {
    registerRule(this.#deps.ledger, check(admissionRule, rule, 'rule'));
  }

  withdrawRule(network: string, rule: string): void {
    withdrawRule(this.#deps.ledger, network, rule);
  }

  /** What ended, goes. */
  tidy(): void {
    forgetLeases(this.#deps.ledger, this.#deps.now());
  }
}
