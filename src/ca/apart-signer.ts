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
import { LEASE, NETWORK, NODE, PARTNER, TOKEN } from '../../native-free/ca/ledger.ts';
import { forgetHead, noteHead } from '../../native-free/ca/log-rules.ts';
import {
  countingAuthorities,
  notePartner,
  openInvitation,
  partnerOf,
  registerInvitation,
  registerPins,
  vouchedPartners,
  withdrawPartner,
} from '../../native-free/ca/partner-rules.ts';
import { type DomainStatement, MAX_AUTHORITIES, readStatement } from '../../native-free/ca/statement.ts';
import { Vl3Error } from '../../native-free/error.ts';
import {
  type FederationConstraints,
  federationConstraints,
} from '../../native-free/federation/constraints.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { MAX_INVITATION_MS } from '../../native-free/registry/federation-rules.ts';
import { foreignKey, nodeNameOf } from '../../native-free/registry/foreign-key.ts';
import { check, name as nameSchema } from '../../native-free/registry/model.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { parseName, parseTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { MAX_TOKEN_TTL_MS } from '../../native-free/registry/token-rules.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import { isAcceptanceProven } from '../federation/invitation-proof.ts';
import type { CertificateAuthority } from '../identity/ca.ts';
import { fingerprint, parseCertificate } from '../identity/certificate.ts';
import { readCertificateRequest } from '../identity/certificate-request.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { bundleOfStatement, revocationsOf, verifyAuthorities } from '../identity/domain-statement.ts';
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
const HASH = /^[0-9a-f]{64}$/;

export class ApartSigner {
  readonly #deps: ApartSignerDependencies;
  /** As text. Undefined: nothing was said since the start. */
  #vouched: string | undefined;

  private constructor(deps: ApartSignerDependencies) {
    this.#deps = deps;
  }

  static async open(deps: ApartSignerDependencies): Promise<ApartSigner> {
    const signer = new ApartSigner(deps);
    await signer.#vouch();
    return signer;
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
    const { network, networkUid, node, nodeDomain, prefixes = [], storeId, sequence } = asked;
    const key = this.#keyOf(parseName('node', node), nodeDomain);
    const wall = now();
    const notAfter = Math.min(wanted, wall + ca.svidValidityMs);
    const restMs = Math.ceil(ca.svidValidityMs * REST_SHARE);
    const request = { network, networkUid, node: key, prefixes, sequence, notAfter, restMs };
    const granted = grantTo(ledger, home, request, wall);
    return await ca.signGrant({ network, networkUid, nodeDomain, node, ...granted, storeId }, notAfter);
  }

  #keyOf(node: string, domain: string): string {
    return domain === this.#deps.ca.trustBundle.trustDomain ? node : foreignKey(node, domain);
  }

  /** `key`: `<node>@<domain>`, if it is of another domain. Throws Vl3Error('permission-denied') for what the node did not sign. */
  putAttestation(network: string, key: string, signed: SignedRecord): void {
    const { ca, ledger, now } = this.#deps;
    const networkUid = uidOf(ledger, network);
    const { node, trustDomain } = nodeNameOf(key);
    const revoked = revocationsOf({ revoked: [...ca.revoked] });
    const bundle = trustDomain === undefined ? { ...ca.trustBundle, revoked } : this.#bundleOf(trustDomain);
    const verify = createRecordVerifier(bundle);
    const expected = { network, networkUid, home: ca.trustBundle.trustDomain, node };
    noteAttested(ledger, key, decodeAttestation(signed, verify, now(), expected));
  }

  /** By which nodes of a partner are verified. Throws Vl3Error('permission-denied') when there is none. */
  #bundleOf(trustDomain: string): TrustBundle {
    const { ledger, now } = this.#deps;
    const authorities = countingAuthorities(partnerOf(ledger, trustDomain), now());
    if (authorities !== undefined) return bundleOfStatement({ trustDomain, authorities: [...authorities] });
    throw new Vl3Error(
      'permission-denied',
      `the signer believes nothing of ${trustDomain}: it has not accepted, or was not confirmed for a week`,
    );
  }

  /**
   * What another domain says of its CAs. Believed the first time by a proof of its invitation's secret, or by the
   * fingerprints in the one that was accepted from it, and then by what is known already. Throws
   * Vl3Error('permission-denied') for all else.
   */
  async putPartner(trustDomain: string, signed: SignedRecord, proof: Uint8Array): Promise<void> {
    const { ca, ledger, now } = this.#deps;
    const wall = now();
    const known = partnerOf(ledger, trustDomain);
    const claimed = authoritiesIn(signed);
    const verifiedBy = (certificates: readonly Uint8Array[]): DomainStatement =>
      verifyAuthorities(signed, { trustDomain, certificates }, wall);
    const isUnderProof = proof.length > 0 && known.invitation !== undefined;
    if (isUnderProof) {
      const { key } = openInvitation(ledger, trustDomain, wall);
      const claim = { home: ca.trustBundle.trustDomain, trustDomain, caFingerprints: claimed.map(printOf) };
      if (!isAcceptanceProven(Buffer.from(key, 'base64'), claim, proof))
        throw new Vl3Error(
          'permission-denied',
          `the signer takes no partner by it: the secret of ${trustDomain}'s invitation was not proven for these CAs`,
        );
      notePartner(ledger, verifiedBy(claimed), 'invitation', wall);
    } else {
      const { pins = [] } = known;
      const pinned = claimed.filter((der) => pins.includes(printOf(der)));
      if (pinned.length > 0) notePartner(ledger, verifiedBy(pinned), 'pins', wall);
      else notePartner(ledger, verifiedBy(this.#bundleOf(trustDomain).certificates), 'known', wall);
    }
    await this.#vouch();
  }

  /** Says what the ledger has of partners, unless that was said. */
  async #vouch(): Promise<void> {
    const { ca, ledger } = this.#deps;
    const partners = vouchedPartners(ledger);
    const said = JSON.stringify(partners);
    if (said === this.#vouched) return;
    // At once: whoever comes while this is written would else take the one before for what is said.
    this.#vouched = said;
    try {
      await ca.vouchFor(partners);
    } catch (error) {
      this.#vouched = undefined;
      throw error;
    }
  }

  /** The head of the registry's log, if none that was signed contradicts it. */
  async signLogHead(head: Uint8Array): Promise<SignedRecord> {
    const { ca, ledger, now } = this.#deps;
    noteHead(ledger, head, ca.trustBundle.trustDomain, now());
    return await ca.signLogHead(head);
  }

  forgetLog(): void {
    forgetHead(this.#deps.ledger);
  }

  get partners(): {
    readonly trustDomain: string;
    readonly admits: FederationConstraints | undefined;
    readonly caFingerprints: readonly string[];
    readonly confirmedAt: number | undefined;
  }[] {
    const { ledger } = this.#deps;
    return ledger.list(PARTNER).map(({ name, value: { admits, said } }) => ({
      trustDomain: name,
      admits,
      caFingerprints: (said?.authorities ?? []).map((one) => printOf(fromBase64(one))),
      confirmedAt: said?.confirmedAt,
    }));
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

  /** It is invited: see registerInvitation. */
  invite(constraints: FederationConstraints, key: Uint8Array, expiresAt: number): void {
    const { ledger, now } = this.#deps;
    this.#mustBeOther(constraints.trustDomain);
    if (key.length !== 32) throw new Vl3Error('invalid-argument', 'key: it is 32 B');
    if (!(expiresAt > now() && expiresAt <= now() + MAX_INVITATION_MS + 60_000))
      throw new Vl3Error('invalid-argument', 'expires_at: use 1 second to 30 days from now');
    const value = check(federationConstraints, constraints, 'constraints');
    for (const network of value.networks) uidOf(ledger, network);
    registerInvitation(ledger, {
      ...{ key: toBase64(key), constraints: value },
      expiresAt: Math.floor(expiresAt),
    });
  }

  /** This domain accepts its invitation, which names these CAs (SHA-256, hex). */
  accept(trustDomain: string, pins: readonly string[]): void {
    this.#mustBeOther(trustDomain);
    if (pins.length === 0 || pins.length > MAX_AUTHORITIES || !pins.every((one) => HASH.test(one)))
      throw new Vl3Error('invalid-argument', 'ca_fingerprints: these are none');
    const said = this.partners.find((one) => one.trustDomain === trustDomain)?.caFingerprints ?? [];
    if (said.length > 0 && !said.some((one) => pins.includes(one)))
      throw new Vl3Error(
        'already-exists',
        `${trustDomain} is known by other CAs than the invitation names: ask there whether it has new ones; then revoke it first (\`vl3 federation revoke ${trustDomain}\`)`,
      );
    registerPins(this.#deps.ledger, trustDomain, pins);
  }

  async withdrawPartner(trustDomain: string): Promise<void> {
    withdrawPartner(this.#deps.ledger, trustDomain);
    await this.#vouch();
  }

  #mustBeOther(trustDomain: string): void {
    parseTrustDomain(trustDomain);
    if (trustDomain === this.#deps.ca.trustBundle.trustDomain)
      throw new Vl3Error('invalid-argument', `${trustDomain} is this domain itself`);
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

const printOf = (der: Uint8Array): string => Buffer.from(fingerprint(der)).toString('hex');

/** The CAs that it claims, before anything of it is believed. */
const authoritiesIn = ({ record }: SignedRecord): Uint8Array[] =>
  (readStatement(record)?.authorities ?? []).map(fromBase64);
