// The domains that this node's own is federated with, as its own registry says: their bundles, and where their registries are. Kept
// on disk, so that neither a start nor a registry that is gone needs them anew. A domain goes when the registry, having its
// memory, lists it no more; then it is believed nothing from that moment on, and forgotten once all that hung on it is taken
// down. Where the domain's signer is apart, a registry's word for a bundle counts for nothing: by which CAs a partner is
// known that signer says.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { FEDERATION, type FederationDocument } from '../../native-free/reconcile/documents.ts';
import { isTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { fromConnectError } from '../api/errors.ts';
import type { Federation as FederationMessage } from '../api/generated/vl3/v1/agent_pb.js';
import type { TrustBundle } from '../identity/chain.ts';
import { parseRegistryAddress } from '../identity/registry-address.ts';
import { decodeSpiffeBundle, trustBundleOf } from '../identity/spiffe-bundle.ts';
import type { AgentClient } from '../registry/client.ts';
import type { Clock } from './clock.ts';
import type { Vouched } from './domain-statement.ts';
import { Failures } from './failures.ts';

export interface Federation {
  readonly trustDomain: string;
  /** "host:port". */
  readonly registries: readonly string[];
  /** Undefined: none counts (any more). */
  readonly bundle: TrustBundle | undefined;
  /** Networks there that nodes of this domain may ask for. */
  readonly networks: readonly string[];
  /** What workloads of this domain may be called there, or something below it. */
  readonly names: readonly string[];
  /** It is one no more, and what hangs on it is being taken down. */
  readonly isRevoked: boolean;
}

export interface FederationsDeps {
  readonly state: DocumentStore;
  readonly own: () => string;
  readonly client: () => AgentClient;
  readonly clock: Pick<Clock, 'monotonic' | 'wall'>;
  /** By which CAs a signer apart knows each partner; undefined: there is none, and the registry says. */
  readonly vouched: () => ReadonlyMap<string, Vouched> | undefined;
  readonly logger: Logger;
  /** Something of this domain is otherwise than before. */
  readonly onChanged: (trustDomain: string) => void;
}

const CALL_TIMEOUT_MS = 10_000;
/** As many as a registry has. */
const MAX_FEDERATIONS = 256;

export class Federations {
  readonly #deps: FederationsDeps;
  readonly #known = new Map<string, Federation>();
  readonly #failures: Failures;
  /** Of what is known, as the registry calls it; undefined: not asked since the start. */
  #version: string | undefined;
  #problem = '';
  #asking: Promise<void> | undefined;

  /** With what was saved. */
  constructor(deps: FederationsDeps) {
    this.#deps = deps;
    this.#failures = new Failures('federations were not learned', deps);
    for (const { value } of deps.state.list(FEDERATION))
      this.#known.set(value.trustDomain, federationOf(value));
  }

  get all(): Federation[] {
    return [...this.#known.values()].map((one) => this.#believed(one));
  }

  /** Undefined: there is none with the domain. */
  get(trustDomain: string): Federation | undefined {
    const federation = this.#known.get(trustDomain);
    return federation && this.#believed(federation);
  }

  /** What verifies the domain's identities; undefined: nothing does. The same object until something else does. */
  bundleOf(trustDomain: string): TrustBundle | undefined {
    const federation = this.get(trustDomain);
    return federation?.isRevoked === false ? federation.bundle : undefined;
  }

  #believed(federation: Federation): Federation {
    const { vouched, clock } = this.#deps;
    const partners = vouched();
    if (partners === undefined) return federation;
    const said = partners.get(federation.trustDomain);
    return {
      ...federation,
      bundle: said !== undefined && clock.wall() < said.until ? said.bundle : undefined,
    };
  }

  /** The domain's signer has spoken. */
  vouchedChanged(): void {
    for (const trustDomain of this.#known.keys()) this.#deps.onChanged(trustDomain);
  }

  /** Whether the own registry has ever said. */
  get hasHeard(): boolean {
    return this.#version !== undefined || this.#known.size > 0;
  }

  /** What is wrong, in sentences. */
  get problems(): string[] {
    const unbelieved = this.all
      .filter(({ bundle, isRevoked }) => bundle === undefined && !isRevoked)
      .map(({ trustDomain }) =>
        this.#deps.vouched() === undefined
          ? `the bundle of ${trustDomain} was not confirmed for too long, so that nothing of it is believed: see \`vl3 federation list\``
          : `the signer of this domain does not vouch for ${trustDomain}, or not any more, so that nothing of it is believed: see \`vl3 ca show\``,
      );
    return [...(this.#problem === '' ? [] : [this.#problem]), ...unbelieved];
  }

  /** The own registry answered a heartbeat, and has this version. Asks it for what is new; never throws. */
  heard(version: string, isRecovering: boolean): void {
    if (version === '' || version === this.#version || isRecovering) return;
    void this.refresh();
  }

  /** Asks the own registry now, rather than after its next answer; never throws. */
  async refresh(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    await this.#asking;
  }

  async #ask(): Promise<void> {
    try {
      const answer = await this.#deps.client().listFederations({}, { timeoutMs: CALL_TIMEOUT_MS });
      this.#take(answer.federations.slice(0, MAX_FEDERATIONS), answer.recovering);
      this.#version = answer.version;
    } catch (error) {
      const { message } = fromConnectError(error);
      this.#problem = `which domains are federated with this one could not be asked: ${message}`;
      this.#failures.say(error);
    }
  }

  #take(listed: readonly FederationMessage[], isRecovering: boolean): void {
    const { own, logger } = this.#deps;
    this.#problem = '';
    const present = new Set<string>();
    for (const message of listed) {
      const { trustDomain } = message;
      present.add(trustDomain);
      try {
        this.#put(documentOf(message, own()));
      } catch (error) {
        if (!(error instanceof Vl3Error)) throw error;
        // What is known of it stays as it is.
        this.#problem = `the registry says of ${trustDomain.slice(0, 80)} what cannot be read: ${error.message}`;
        logger.warn({ trustDomain, reason: error.message }, 'federation cannot be read');
      }
    }
    if (isRecovering) return;
    for (const { trustDomain, isRevoked } of this.all)
      if (!present.has(trustDomain) && !isRevoked) this.#revoke(trustDomain);
  }

  #put(document: FederationDocument): void {
    const { state, logger, onChanged } = this.#deps;
    const { trustDomain } = document;
    const before = state.get(FEDERATION, trustDomain);
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(document)) return;
    state.put(FEDERATION, trustDomain, document);
    this.#known.set(trustDomain, federationOf(document));
    const { registries, bundleSequence } = document;
    logger.info(
      { trustDomain, registries, bundleSequence },
      before === undefined ? 'federated' : 'federation changed',
    );
    onChanged(trustDomain);
  }

  #revoke(trustDomain: string): void {
    const { state, logger, onChanged } = this.#deps;
    const document = state.get(FEDERATION, trustDomain);
    const known = this.#known.get(trustDomain);
    if (document === undefined || known === undefined) return;
    // First of all: a disk that is full must not keep a domain believed.
    this.#known.set(trustDomain, { ...known, isRevoked: true });
    logger.warn({ trustDomain }, 'federation revoked');
    onChanged(trustDomain);
    state.put(FEDERATION, trustDomain, { ...document, isRevoked: true });
  }

  /** All that hung on a revoked one is taken down. */
  forget(trustDomain: string): void {
    if (this.#known.get(trustDomain)?.isRevoked !== true) return;
    this.#deps.state.delete(FEDERATION, trustDomain);
    this.#known.delete(trustDomain);
  }
}

/** Throws Vl3Error for what is none. */
const documentOf = (message: FederationMessage, own: string): FederationDocument => {
  const { trustDomain, registries, bundle, bundleSequence, isBundleExpired, networks, names } = message;
  if (!isTrustDomain(trustDomain) || trustDomain === own)
    throw new Vl3Error('invalid-argument', 'it is no other trust domain');
  for (const registry of registries) parseRegistryAddress(registry);
  if (bundle !== '') decodeSpiffeBundle(bundle, trustDomain);
  return {
    trustDomain,
    registries: [...registries],
    bundle,
    bundleSequence,
    isBundleExpired,
    networks: [...networks],
    names: [...names],
    isRevoked: false,
  };
};

const federationOf = (document: FederationDocument): Federation => {
  const { trustDomain, registries, bundle, isBundleExpired, networks, names, isRevoked } = document;
  return {
    trustDomain,
    registries,
    bundle:
      isBundleExpired || bundle === '' ? undefined : trustBundleOf(decodeSpiffeBundle(bundle, trustDomain)),
    networks,
    names,
    isRevoked,
  };
};
