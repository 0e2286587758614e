// The domain's CA and what it signs: in the registry's own process, or behind a signer apart (src/ca). Certificate profiles follow
// X509-SVID, section 4. It is rotated in steps, each of which is on the disk before it counts. Not here: what the steps do
// (ca-rotation.ts), how a certificate is made (certificate-profile.ts), where the CA is kept (ca-directory.ts, ca-authorities.ts),
// and who may ask for what (whoever holds it decides).

import { resolve } from 'node:path';
import { HEAD_CONTEXT } from '../../native-free/admission/exported-log.ts';
import {
  AUTHORITIES_CONTEXT,
  encodeStatement,
  MAX_REVOKED,
  STATEMENT_CONTEXT,
  type VouchedPartner,
} from '../../native-free/ca/statement.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { parseName, parseTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { toBase64 } from '../base64.ts';
import {
  type Authorities,
  openAuthorities,
  openRevocations,
  type Revocations,
  storeAuthorities,
  storeRevocations,
} from './ca-authorities.ts';
import { bundleOf, type RotationStep, secretOf, stepped } from './ca-rotation.ts';
import { BACKDATE_MS, CLIENT_AUTH, DOCUMENT_SIGNING, SERVER_AUTH } from './certificate.ts';
import { type Profile, signCertificate } from './certificate-profile.ts';
import type { TrustBundle } from './chain.ts';
import { GrantSigner } from './grant-signer.ts';
import type { AdminSigner, GrantContent, SignedGrant, SignedStatement, Signer } from './signer.ts';
import { type Credential, createServerCredential } from './tls.ts';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** How long an SVID or a server certificate lasts; six days of it is the outage budget. */
export const SVID_VALIDITY_MS = 7 * DAY;
const ADMIN_VALIDITY_MS = 365 * DAY;
/** What is granted lasts a term and is signed at any time in the first of these. */
const ADMISSION_TERMS = 2;

export interface CaOptions {
  /** Holds the CA and nothing else; made, 0700, when it is missing. */
  readonly directory: string;
  readonly trustDomain: string;
  readonly svidValidityMs?: number;
  /** False: the CA must be there already. Default true. */
  readonly mayCreate?: boolean;
  /** Nodes' prefixes go by their grants alone, and their SVIDs say so. Default false. */
  readonly leases?: boolean;
}

interface CaDependencies {
  /** Unix ms. */
  readonly now: () => number;
}

interface Stated {
  readonly by: GrantSigner;
  readonly whole: SignedStatement;
  readonly authorities: SignedStatement;
}

export class CertificateAuthority implements Signer, AdminSigner {
  readonly isApart = false;
  readonly svidValidityMs: number;
  readonly #directory: string;
  readonly #trustDomain: string;
  readonly #leases: boolean;
  readonly #now: () => number;
  readonly #listeners = new Set<() => void>();
  #authorities: Authorities;
  #revocations: Revocations;
  #trustBundle: TrustBundle;
  #grantSigner: Promise<GrantSigner> | undefined;
  #statement: Stated | undefined;
  #vouched: readonly VouchedPartner[] = [];
  /** Changes are made one after another. */
  #changing: Promise<unknown> = Promise.resolve();

  private constructor(
    options: CaOptions,
    { authorities, revocations }: { readonly authorities: Authorities; readonly revocations: Revocations },
    now: () => number,
  ) {
    this.#directory = resolve(options.directory);
    this.#trustDomain = options.trustDomain;
    this.#leases = options.leases ?? false;
    this.svidValidityMs = options.svidValidityMs ?? SVID_VALIDITY_MS;
    this.#now = now;
    this.#authorities = authorities;
    this.#revocations = revocations;
    this.#trustBundle = bundleOf(options.trustDomain, authorities);
  }

  /** Opens the CA of the directory, or makes it. Throws Vl3Error when what is there is not this domain's good CA. */
  static async open(
    options: CaOptions,
    { now }: CaDependencies = { now: Date.now },
  ): Promise<CertificateAuthority> {
    parseTrustDomain(options.trustDomain);
    const directory = resolve(options.directory);
    const authorities = await openAuthorities(directory, options.trustDomain, now(), options.mayCreate);
    const revocations = await openRevocations(directory);
    return new CertificateAuthority(options, { authorities, revocations }, now);
  }

  get trustBundle(): TrustBundle {
    return this.#trustBundle;
  }

  get authorities(): Authorities {
    return this.#authorities;
  }

  get revoked(): Revocations['revoked'] {
    return this.#revocations.revoked;
  }

  /** Of what the domain says of itself at present. */
  get sequence(): number {
    return Math.max(this.#authorities.sequence, this.#revocations.sequence);
  }

  async signNodeSvid(request: Uint8Array, node: string): Promise<Uint8Array[]> {
    parseName('node', node);
    return await this.#sign(request, {
      id: { kind: 'node', trustDomain: this.#trustDomain, name: node },
      usages: [CLIENT_AUTH, SERVER_AUTH],
      validityMs: this.svidValidityMs,
      isLeased: this.#leases,
      // One that was revoked and is let in again gets what its revocation does not cover.
      issuedAfter: this.#revocations.revoked.find((one) => one.node === node)?.until,
    });
  }

  async signAdminCredential(request: Uint8Array, name: string): Promise<Uint8Array[]> {
    parseName('admin', name);
    return await this.#sign(request, {
      id: { kind: 'admin', trustDomain: this.#trustDomain, name },
      usages: [CLIENT_AUTH],
      validityMs: ADMIN_VALIDITY_MS,
    });
  }

  async signOperatorCredential(request: Uint8Array, name: string, validityMs: number): Promise<Uint8Array[]> {
    parseName('operator', name);
    return await this.#sign(request, {
      id: { kind: 'operator', trustDomain: this.#trustDomain, name },
      usages: [CLIENT_AUTH],
      validityMs: Math.min(validityMs, ADMIN_VALIDITY_MS),
    });
  }

  async signServerCertificate(request: Uint8Array, hosts: readonly string[]): Promise<Uint8Array[]> {
    return await this.#sign(request, {
      id: { kind: 'registry', trustDomain: this.#trustDomain },
      usages: [SERVER_AUTH],
      validityMs: this.svidValidityMs,
      hosts,
    });
  }

  async serverCredential(hosts: readonly string[]): Promise<Credential> {
    return await createServerCredential(this, hosts);
  }

  /** A server certificate for `spiffe://<trust domain>/ca`: of a signer apart. */
  async signCaCertificate(request: Uint8Array, hosts: readonly string[]): Promise<Uint8Array[]> {
    return await this.#sign(request, {
      id: { kind: 'ca', trustDomain: this.#trustDomain },
      usages: [SERVER_AUTH],
      validityMs: this.svidValidityMs,
      hosts,
    });
  }

  /** A certificate for `spiffe://<trust domain>/registry` that also opens connections: of a registry whose signer is apart. */
  async signRegistryCredential(request: Uint8Array, hosts: readonly string[]): Promise<Uint8Array[]> {
    return await this.#sign(request, {
      id: { kind: 'registry', trustDomain: this.#trustDomain },
      usages: [SERVER_AUTH, CLIENT_AUTH],
      validityMs: this.svidValidityMs,
      hosts,
    });
  }

  /** A certificate for `spiffe://<trust domain>/admission`, which signs what the domain grants (admission/grant.ts). */
  async signAdmissionCertificate(request: Uint8Array): Promise<Uint8Array[]> {
    return await this.#sign(request, {
      id: { kind: 'admission', trustDomain: this.#trustDomain },
      usages: [DOCUMENT_SIGNING],
      validityMs: this.svidValidityMs * ADMISSION_TERMS,
    });
  }

  async signGrant(content: GrantContent, notAfter: number): Promise<SignedGrant> {
    return (await this.#signerOfGrants()).grant(content, notAfter);
  }

  async signLogHead(head: Uint8Array): Promise<SignedRecord> {
    return (await this.#signerOfGrants()).sign(HEAD_CONTEXT, head);
  }

  async statement(): Promise<SignedStatement> {
    return (await this.#stated()).whole;
  }

  async ownAuthorities(): Promise<SignedStatement> {
    return (await this.#stated()).authorities;
  }

  /** By which CAs its nodes know its partners from now on. That is news under a sequence of its own, whatever was said before. */
  async vouchFor(partners: readonly VouchedPartner[]): Promise<void> {
    await this.#inTurn(async () => {
      const sequence = Math.max(this.sequence + 1, this.#now());
      const noted = { ...this.#revocations, sequence };
      await storeRevocations(this.#directory, noted);
      this.#revocations = noted;
      this.#vouched = partners;
    });
  }

  async #stated(): Promise<Stated> {
    const by = await this.#signerOfGrants();
    if (this.#statement?.by === by) return this.#statement;
    const { sequence, revoked } = this;
    const partners = this.#vouched;
    const said = {
      trustDomain: this.#trustDomain,
      authorities: this.#trustBundle.certificates.map(toBase64),
      revoked: [],
      sequence,
    };
    const whole = encodeStatement({
      ...said,
      revoked: [...revoked].sort((a, b) => (a.node < b.node ? -1 : 1)),
      ...(partners.length > 0 && { partners: [...partners] }),
    });
    const stated = {
      by,
      whole: { ...by.sign(STATEMENT_CONTEXT, whole), sequence },
      authorities: { ...by.sign(AUTHORITIES_CONTEXT, encodeStatement(said)), sequence },
    };
    this.#statement = stated;
    return stated;
  }

  onChange(listener: () => void, signal: AbortSignal): void {
    this.#listeners.add(listener);
    signal.addEventListener('abort', () => this.#listeners.delete(listener), { once: true });
  }

  async secretFor(purpose: string): Promise<Uint8Array> {
    return secretOf(this.#authorities, purpose);
  }

  /**
   * One step of a rotation. Each waits for what was signed, or heard, before the last one, unless `isUrgent`. Throws
   * Vl3Error('failed-precondition') when it is not this step's turn.
   */
  async rotate(step: RotationStep, isUrgent = false): Promise<void> {
    await this.#inTurn(async () => {
      const present = this.#authorities;
      const now = this.#now();
      const changed = await stepped(present, step, {
        trustDomain: this.#trustDomain,
        termMs: this.svidValidityMs,
        now,
        isUrgent,
      });
      const sequence = Math.max(this.sequence + 1, now);
      await storeAuthorities(this.#directory, { ...changed, sequence });
      this.#authorities = { ...changed, sequence };
      this.#trustBundle = bundleOf(this.#trustDomain, changed);
      // Of the CA that signs now.
      if (changed.active.key !== present.active.key) this.#grantSigner = undefined;
    });
  }

  /** Whatever was issued for the node until now is void. */
  async revoke(node: string): Promise<void> {
    parseName('node', node);
    await this.#inTurn(async () => {
      const now = this.#now();
      // What was issued before has ended by then.
      const lasting = this.revoked.filter(
        (one) => one.node !== node && one.until + this.svidValidityMs + BACKDATE_MS > now,
      );
      if (lasting.length >= MAX_REVOKED)
        throw new Vl3Error(
          'resource-exhausted',
          `${MAX_REVOKED} nodes were revoked within the time that an SVID lasts: rotate the CA instead, and let the others renew`,
        );
      const changed = {
        revoked: [...lasting, { node, until: now }],
        sequence: Math.max(this.sequence + 1, now),
      };
      await storeRevocations(this.#directory, changed);
      this.#revocations = changed;
    });
  }

  async #inTurn(change: () => Promise<void>): Promise<void> {
    const done = this.#changing.then(change);
    this.#changing = done.catch(() => undefined);
    await done;
    this.#statement = undefined;
    for (const listener of this.#listeners) listener();
  }

  /** With time enough for whatever it signs now. */
  async #signerOfGrants(): Promise<GrantSigner> {
    const pending = this.#grantSigner;
    const present = await pending?.catch(() => undefined);
    const now = this.#now();
    // Of a clock that was set back since, it does not hold yet.
    if (present !== undefined && present.notBefore <= now && present.notAfter - now >= this.svidValidityMs)
      return present;
    // Of several who find that, the first makes it for all: what each of them signed would differ.
    if (this.#grantSigner === pending || this.#grantSigner === undefined)
      this.#grantSigner = GrantSigner.create(this);
    return await this.#grantSigner;
  }

  async #sign(request: Uint8Array, profile: Profile): Promise<Uint8Array[]> {
    return [await signCertificate(request, profile, this.#authorities.active, this.#now())];
  }
}
