// The signer of a domain whose SVIDs somebody else issues (SPIRE, files): it has the registry's SVID and that of the domain's
// admission identity, which signs what the domain grants, and gives out none. CAs are the issuer's; they come with the SVIDs,
// and change with them.

import { hkdfSync, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { HEAD_CONTEXT } from '../../native-free/admission/exported-log.ts';
import { AUTHORITIES_CONTEXT, encodeStatement, STATEMENT_CONTEXT } from '../../native-free/ca/statement.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { formatSpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { toBase64 } from '../base64.ts';
import type { TrustBundle } from './chain.ts';
import { GrantSigner } from './grant-signer.ts';
import type { IdentitySource } from './identity-source.ts';
import { makePrivateDirectory, readPrivateFile, writePrivateFile } from './private-file.ts';
import type { GivenIdentity, GrantContent, SignedGrant, SignedStatement, Signer } from './signer.ts';
import type { Svid } from './svid.ts';
import type { Credential } from './tls.ts';

interface OwnSignerOptions {
  /** Holds the secret from which keys of the registry's own follow; the registry's state directory. */
  readonly directory: string;
}

interface OwnSignerDependencies {
  readonly registry: IdentitySource;
  readonly admission: IdentitySource;
  /** Unix ms. */
  readonly now: () => number;
}

const SECRET_FILE = 'secret';
const SECRET_BYTES = 32;

export class OwnSigner implements Signer {
  readonly isApart = false;
  readonly #deps: OwnSignerDependencies;
  readonly #secret: Uint8Array;
  /** What the SVIDs were when they were looked at last. */
  #registry: Svid;
  #admission: Svid;
  #grants: GrantSigner;
  #sequence: number;

  private constructor(deps: OwnSignerDependencies, secret: Uint8Array, registry: Svid, admission: Svid) {
    this.#deps = deps;
    this.#secret = secret;
    this.#registry = registry;
    this.#admission = admission;
    this.#grants = grantSignerOf(admission);
    this.#sequence = deps.now();
    deps.registry.onChange(() => this.#look());
    deps.admission.onChange(() => this.#look());
  }

  /** Waits for both SVIDs. Rejects with what is wrong with a source when `signal` aborts. */
  static async open(
    { directory }: OwnSignerOptions,
    deps: OwnSignerDependencies,
    signal: AbortSignal,
  ): Promise<OwnSigner> {
    const [registry, admission] = await Promise.all([
      deps.registry.first(signal),
      deps.admission.first(signal),
    ]);
    return new OwnSigner(deps, await keptSecret(directory), registry, admission);
  }

  /** The registry's, by which callers and records are verified. */
  get trustBundle(): TrustBundle {
    return this.#registry.trustBundle;
  }

  get given(): GivenIdentity[] {
    const { registry, admission } = this.#deps;
    const held = [
      [this.#registry, registry],
      [this.#admission, admission],
    ] as const;
    return held.map(([{ id, notAfter }, { place, problem }]) => ({
      spiffeId: formatSpiffeId(id),
      place,
      notAfter,
      problem,
    }));
  }

  /** Nothing that it signs now lasts longer; unix ms. */
  get signsUntil(): number {
    return this.#admission.notAfter;
  }

  async signNodeSvid(): Promise<Uint8Array[]> {
    throw new Vl3Error(
      'failed-precondition',
      `this domain gives out no SVIDs: have spiffe://${this.trustBundle.trustDomain}/node/<name> issued to the agent, and start it with --identity`,
    );
  }

  async serverCredential(): Promise<Credential> {
    return this.#registry;
  }

  async signGrant(content: GrantContent, notAfter: number): Promise<SignedGrant> {
    this.#mustHold();
    return this.#grants.grant(content, notAfter);
  }

  async signLogHead(head: Uint8Array): Promise<SignedRecord> {
    this.#mustHold();
    return this.#grants.sign(HEAD_CONTEXT, head);
  }

  /** Nobody is revoked in it: whoever issues SVIDs stops doing so. */
  async statement(): Promise<SignedStatement> {
    return this.#state(STATEMENT_CONTEXT);
  }

  async ownAuthorities(): Promise<SignedStatement> {
    return this.#state(AUTHORITIES_CONTEXT);
  }

  #state(context: string): SignedStatement {
    const { trustDomain, certificates } = this.trustBundle;
    const sequence = this.#sequence;
    const before = this.#stated.get(context);
    if (before?.sequence === sequence) return before;
    const authorities = certificates.map(toBase64);
    const bytes = encodeStatement({ trustDomain, authorities, revoked: [], sequence });
    const stated = { ...this.#grants.sign(context, bytes), sequence };
    this.#stated.set(context, stated);
    return stated;
  }

  /** By context: anybody may ask. */
  readonly #stated = new Map<string, SignedStatement>();
  readonly #listeners = new Set<() => void>();

  onChange(listener: () => void, signal: AbortSignal): void {
    this.#listeners.add(listener);
    signal.addEventListener('abort', () => this.#listeners.delete(listener), { once: true });
  }

  /** Of a secret beside the store: with the whole directory lost, so is what the registry said of its store. */
  async secretFor(purpose: string): Promise<Uint8Array> {
    return new Uint8Array(hkdfSync('sha256', this.#secret, '', purpose, SECRET_BYTES));
  }

  #look(): void {
    const { registry, admission, now } = this.#deps;
    this.#registry = registry.svid ?? this.#registry;
    if (admission.svid !== undefined && admission.svid !== this.#admission) {
      this.#admission = admission.svid;
      this.#grants = grantSignerOf(this.#admission);
    }
    this.#sequence = Math.max(this.#sequence + 1, now());
    for (const listener of this.#listeners) listener();
  }

  #mustHold(): void {
    const { admission, now } = this.#deps;
    if (this.#admission.notAfter > now()) return;
    throw new Vl3Error(
      'unavailable',
      `the SVID of the domain's admission identity has expired: ${admission.problem ?? `see whether ${admission.place} is still renewed`}`,
    );
  }
}

const grantSignerOf = ({ trustBundle, certificateChain, privateKey }: Svid): GrantSigner =>
  GrantSigner.of(trustBundle.trustDomain, { certificateChain, privateKey });

const keptSecret = async (directory: string): Promise<Uint8Array> => {
  const path = join(directory, SECRET_FILE);
  const what = "the registry's secret";
  await makePrivateDirectory(directory);
  const kept = await readPrivateFile(path, what);
  if (kept === undefined) {
    const made = new Uint8Array(randomBytes(SECRET_BYTES));
    await writePrivateFile(path, made, what);
    return made;
  }
  if (kept.length === SECRET_BYTES) return kept;
  throw new Vl3Error('failed-precondition', `${what} ${path} is damaged: restore it, or remove it`);
};
