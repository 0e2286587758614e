// The domain's CA and what it signs: in the registry's own process, or behind a signer apart (src/ca). Certificate profiles follow
// X509-SVID, section 4. It is rotated in steps, each of which is on the disk before it counts. Not here: where the CA is kept
// (ca-directory.ts, ca-authorities.ts), and who may ask for what (whoever holds it decides).

import { hkdfSync } from 'node:crypto';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { HEAD_CONTEXT } from '../../native-free/admission/exported-log.ts';
import { encodeStatement, MAX_REVOKED, STATEMENT_CONTEXT } from '../../native-free/ca/statement.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import {
  formatSpiffeId,
  parseName,
  parseTrustDomain,
  type SpiffeId,
} from '../../native-free/registry/spiffe-id.ts';
import { toBase64 } from '../base64.ts';
import {
  type Authorities,
  openAuthorities,
  openRevocations,
  type Revocations,
  storeAuthorities,
  storeRevocations,
} from './ca-authorities.ts';
import { makeCa, serialNumber } from './ca-directory.ts';
import { outOfTurn, type RotationStep, tooSoon } from './ca-rotation.ts';
import { BACKDATE_MS, CLIENT_AUTH, DOCUMENT_SIGNING, LEASED_UNIT, SERVER_AUTH } from './certificate.ts';
import { readCertificateRequest } from './certificate-request.ts';
import type { TrustBundle } from './chain.ts';
import { GrantSigner } from './grant-signer.ts';
import { ECDSA, webKeys } from './key.ts';
import { isHost } from './registry-address.ts';
import {
  type AdminSigner,
  type GrantContent,
  SECRET_PURPOSES,
  type SignedGrant,
  type SignedStatement,
  type Signer,
} from './signer.ts';
import { type Credential, createServerCredential } from './tls.ts';
import { loadX509 } from './x509-library.ts';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** How long an SVID or a server certificate lasts; six days of it is the outage budget. */
export const SVID_VALIDITY_MS = 7 * DAY;
const ADMIN_VALIDITY_MS = 365 * DAY;
/** What is granted lasts a term and is signed at any time in the first of these. */
const ADMISSION_TERMS = 2;

const MAX_HOSTS = 64;

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

interface Profile {
  readonly id: SpiffeId;
  readonly usages: readonly string[];
  readonly validityMs: number;
  readonly hosts?: readonly string[];
  readonly isLeased?: boolean;
  /** Unix ms. */
  readonly issuedAfter?: number | undefined;
}

const SECOND = 1000;

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
  #statement: { readonly by: GrantSigner; readonly signed: SignedStatement } | undefined;
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
    const by = await this.#signerOfGrants();
    if (this.#statement?.by === by) return this.#statement.signed;
    const { sequence, revoked } = this;
    const bytes = encodeStatement({
      trustDomain: this.#trustDomain,
      authorities: this.#trustBundle.certificates.map(toBase64),
      revoked: [...revoked].sort((a, b) => (a.node < b.node ? -1 : 1)),
      sequence,
    });
    const signed = { ...by.sign(STATEMENT_CONTEXT, bytes), sequence };
    this.#statement = { by, signed };
    return signed;
  }

  onChange(listener: () => void, signal: AbortSignal): void {
    this.#listeners.add(listener);
    signal.addEventListener('abort', () => this.#listeners.delete(listener), { once: true });
  }

  async secretFor(purpose: string): Promise<Uint8Array> {
    const kept = this.#authorities.secrets[purpose];
    return kept === undefined ? this.#derive(purpose) : new Uint8Array(Buffer.from(kept, 'base64'));
  }

  /**
   * One step of a rotation. Each waits for what was signed, or heard, before the last one, unless `isUrgent`. Throws
   * Vl3Error('failed-precondition') when it is not this step's turn.
   */
  async rotate(step: RotationStep, isUrgent = false): Promise<void> {
    await this.#inTurn(async () => {
      const present = this.#authorities;
      const now = this.#now();
      const changed = await this.#stepped(present, step, isUrgent, now);
      const sequence = Math.max(this.sequence + 1, now);
      await storeAuthorities(this.#directory, { ...changed, sequence });
      this.#authorities = { ...changed, sequence };
      this.#trustBundle = bundleOf(this.#trustDomain, changed);
      // Of the CA that signs now.
      if (changed.active.key !== present.active.key) this.#grantSigner = undefined;
    });
  }

  async #stepped(
    present: Authorities,
    step: RotationStep,
    isUrgent: boolean,
    now: number,
  ): Promise<Authorities> {
    if (step === 'prepare') return await this.#prepared(present, now);
    const since = step === 'sign' ? present.next?.since : present.previous.at(-1)?.since;
    if (since === undefined) throw outOfTurn(step);
    const left = since + this.svidValidityMs - now;
    if (left > 0 && !isUrgent) throw tooSoon(step, since + this.svidValidityMs);
    return step === 'sign' ? this.#promoted(present, now) : { ...present, previous: [] };
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

  async #prepared(present: Authorities, now: number): Promise<Authorities> {
    if (present.next !== undefined || present.previous.length > 0) throw outOfTurn('prepare');
    return { ...present, next: { ...(await makeCa(this.#trustDomain, now)), since: now } };
  }

  #promoted(present: Authorities, now: number): Authorities {
    const { active, next, previous, secrets } = present;
    if (next === undefined) throw outOfTurn('sign');
    const kept = Object.values(SECRET_PURPOSES).map((purpose) => [
      purpose,
      secrets[purpose] ?? toBase64(this.#derive(purpose)),
    ]);
    return {
      ...present,
      active: { ...next, since: now },
      next: undefined,
      previous: [...previous, { certificate: active.certificate, since: now }],
      secrets: Object.fromEntries(kept),
    };
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
    const present = await this.#grantSigner?.catch(() => undefined);
    const now = this.#now();
    // Of a clock that was set back since, it does not hold yet.
    if (present !== undefined && present.notBefore <= now && present.notAfter - now >= this.svidValidityMs)
      return present;
    this.#grantSigner = GrantSigner.create(this);
    return await this.#grantSigner;
  }

  #derive(purpose: string): Uint8Array {
    const { d } = this.#authorities.active.key.export({ format: 'jwk' });
    if (d === undefined) throw new Vl3Error('internal', 'the CA key is no private key');
    return new Uint8Array(hkdfSync('sha256', Buffer.from(d, 'base64url'), '', purpose, 32));
  }

  async #sign(request: Uint8Array, profile: Profile): Promise<Uint8Array[]> {
    mustBeHosts(profile.hosts ?? []);
    const publicKey = await readCertificateRequest(request);
    const x509 = await loadX509();
    const now = this.#now();
    const { key, certificate: issuer } = this.#authorities.active;
    const notAfter = Math.min(now + profile.validityMs, issuer.notAfter);
    if (notAfter <= now) {
      throw new Vl3Error('failed-precondition', 'the CA has expired: the domain needs a new one');
    }
    const { issuedAfter } = profile;
    const earliest = issuedAfter === undefined ? 0 : roundUp(issuedAfter - BACKDATE_MS);
    const ca = new x509.X509Certificate(issuer.der.slice().buffer);
    const spki = publicKey.export({ type: 'spki', format: 'der' });
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      // A short subject for people; X509-SVID says that nobody may rely on it.
      subject: [
        { CN: ['name' in profile.id ? profile.id.name : profile.id.kind] },
        ...(profile.isLeased ? [{ OU: [LEASED_UNIT] }] : []),
      ],
      issuer: ca.subjectName,
      notBefore: new Date(Math.max(now - BACKDATE_MS, issuer.notBefore, earliest)),
      notAfter: new Date(notAfter),
      publicKey: new Uint8Array(spki).buffer,
      signingKey: (await webKeys(key)).privateKey,
      signingAlgorithm: ECDSA,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([...profile.usages]),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: formatSpiffeId(profile.id) },
          ...(profile.hosts ?? []).map((host) => ({ type: isIP(host) ? 'ip' : 'dns', value: host }) as const),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
      ],
    });
    return [new Uint8Array(certificate.rawData)];
  }
}

const mustBeHosts = (hosts: readonly string[]): void => {
  if (hosts.length > MAX_HOSTS) {
    throw new Vl3Error('invalid-argument', `a server certificate names at most ${MAX_HOSTS} hosts`);
  }
  const stranger = hosts.find((host) => !isHost(host));
  if (stranger !== undefined) {
    throw new Vl3Error('invalid-argument', `"${stranger}" is neither a DNS name nor an IP address`);
  }
};

/** The signing one first: it is what join tokens and domain addresses name. */
const bundleOf = (trustDomain: string, { active, next, previous }: Authorities): TrustBundle => ({
  trustDomain,
  certificates: [active, ...(next === undefined ? [] : [next]), ...previous].map(
    ({ certificate }) => certificate.der,
  ),
});

/** Certificates know whole seconds: the next one after `time`. */
const roundUp = (time: number): number => (Math.floor(time / SECOND) + 1) * SECOND;
