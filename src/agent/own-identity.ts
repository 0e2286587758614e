// The identity of a node whose SVIDs are not the registry's to give: it follows a source (SPIRE, files), keeps what was good in the
// state directory, and asks no registry for anything. A node that was there before starts from what it kept, whether the source
// answers or not.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { createIdentity, type Identity } from '../identity/identity.ts';
import { loadNodeIdentity, storeNodeIdentity } from '../identity/identity-file.ts';
import { type IdentityPlace, openIdentitySource } from '../identity/identity-place.ts';
import type { IdentitySource } from '../identity/identity-source.ts';
import type { Svid } from '../identity/svid.ts';
import type { Clock } from './clock.ts';

export interface OwnIdentityOptions {
  readonly place: IdentityPlace;
  /** "host:port" each. */
  readonly registries: readonly string[];
  /** The domain it has to be of; default: the one it is of. */
  readonly trustDomain?: string | undefined;
}

interface Options extends OwnIdentityOptions {
  readonly stateDirectory: string;
  /** Default: as its SVID has it. */
  readonly name?: string | undefined;
}

/** With less than this share of its term left, an SVID that is not replaced is something to worry about. */
const WORRYING_SHARE = 1 / 3;

export class OwnIdentity implements AsyncDisposable {
  readonly #options: Options;
  readonly #source: IdentitySource;
  readonly #wall: () => number;
  readonly #saved: Identity | undefined;
  #taken: Svid | undefined;

  private constructor(
    options: Options,
    source: IdentitySource,
    wall: () => number,
    saved: Identity | undefined,
  ) {
    this.#options = options;
    this.#source = source;
    this.#wall = wall;
    this.#saved = saved;
  }

  /** Throws Vl3Error('failed-precondition') where another identity was kept than is asked for now. */
  static async open(
    options: Options,
    { logger, clock }: { readonly logger: Logger; readonly clock: Clock },
  ): Promise<OwnIdentity> {
    const saved = await loadNodeIdentity(options.stateDirectory);
    const { name = saved?.name, trustDomain = saved?.trustBundle.trustDomain } = options;
    if (saved !== undefined && (name !== saved.name || trustDomain !== saved.trustBundle.trustDomain))
      throw new Vl3Error(
        'failed-precondition',
        `this node was ${saved.name} of ${saved.trustBundle.trustDomain}: leave --name and --trust-domain out, or run "vl3 agent clean" first`,
      );
    const wanted = { kind: 'node', name, trustDomain } as const;
    const source = openIdentitySource(options.place, wanted, {
      logger,
      now: clock.wall,
      monotonic: clock.monotonic,
    });
    return new OwnIdentity(options, source, clock.wall, saved);
  }

  /** What it kept, or else the first that the source gives. Throws the source's problem when `signal` aborts. */
  async identify(signal: AbortSignal): Promise<Identity> {
    const { registries } = this.#options;
    if (this.#saved !== undefined) return { ...this.#saved, registries };
    await this.#source.first(signal);
    const identity = await this.next();
    if (identity === undefined) throw new Vl3Error('internal', 'an identity came and went');
    return identity;
  }

  /** What the source has given since this was asked last, which is stored by then; undefined: nothing that holds. */
  async next(): Promise<Identity | undefined> {
    const { svid } = this.#source;
    if (svid === undefined || svid === this.#taken || !('name' in svid.id)) return undefined;
    const { certificateChain, privateKey, trustBundle } = svid;
    const { registries, stateDirectory } = this.#options;
    const identity = createIdentity(
      { kind: 'node', name: svid.id.name, registries, certificateChain, privateKey, trustBundle },
      this.#wall(),
    );
    await storeNodeIdentity(stateDirectory, identity);
    this.#taken = svid;
    return identity;
  }

  get place(): string {
    return this.#source.place;
  }

  /** Why what the source offers now is not used, in a sentence; undefined: it is. */
  get offered(): string | undefined {
    return this.#source.problem;
  }

  /** What is wrong with it, for whoever wonders; undefined: nothing. `leftMs`, `termMs`: of the SVID in use. */
  problemOf(leftMs: number, termMs: number): string | undefined {
    if (this.offered !== undefined) return this.offered;
    if (leftMs > termMs * WORRYING_SHARE) return undefined;
    return `the SVID of this node ends soon, and there is no other: see whether ${this.place} is still renewed`;
  }

  /** What comes after "the SVID of this node has expired:", and after being told that the node was deleted. */
  get sentence(): string {
    return `it goes on as soon as ${this.place} holds another that the registry takes (${this.offered ?? 'after a deletion an admin lets it in again: `vl3 node readmit`'})`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
  }
}
