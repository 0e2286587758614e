// Whether a service-account token (a JWT that a Kubernetes API server signed) is of the agent's pod on a node of a cluster that an
// admin named: by signature, issuer, audience, account and time, and by nothing that whoever shows it says beside it. The name
// of the node is the token's. Not here: whether the node may enrol (native-free/registry/cluster-enrolment-rules.ts).

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose';
import type { Logger } from 'pino';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import type { ClusterNode } from '../../native-free/registry/cluster-enrolment-rules.ts';
import { clusterNodeName, isKubernetesNodeName } from '../../native-free/registry/cluster-node.ts';
import { EnrollmentRefused, type RefusalReason } from '../../native-free/registry/enrolment-rules.ts';
import { formatSpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { type ClusterConfig, parseClusters } from './cluster-config.ts';
import { type InCluster, inCluster, type KeySource, type Keys, keySource, stampOf } from './cluster-keys.ts';

/** What API servers sign with. None of these takes a public key for a secret. */
const ALGORITHMS = ['RS256', 'ES256', 'ES384', 'ES512'];
export const MAX_TOKEN = 16_384;
/** The kubelet asks for tokens of 10 minutes, as the chart tells it; nobody needs one for a day. */
const MAX_TERM_S = 2 * 60 * 60;
/** A list that is broken is not read for each of those who ask. */
const BROKEN_MS = 10_000;
/** How far clocks of API servers may be off. */
const TOLERANCE_S = 30;

const named = z.object({ name: z.string().min(1).max(253), uid: z.string().max(128).optional() });
const claims = z.object({
  exp: z.int(),
  iat: z.int(),
  'kubernetes.io': z.object({
    namespace: z.string().max(253),
    serviceaccount: named,
    pod: named.optional(),
    node: named.optional(),
  }),
});

export interface ClustersOptions {
  /** See deploy/examples/clusters.yaml. */
  readonly file: string;
  readonly trustDomain: string;
}

export interface ClustersDeps {
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly monotonic?: () => number;
  readonly inCluster?: () => InCluster;
}

interface Cluster {
  readonly config: ClusterConfig;
  readonly source: KeySource;
}

type Outcome =
  | { readonly kind: 'signed'; readonly cluster: ClusterConfig; readonly payload: JWTPayload }
  | { readonly kind: 'refused'; readonly error: Vl3Error };

export class Clusters {
  readonly #options: ClustersOptions;
  readonly #deps: Required<ClustersDeps>;
  #clusters: readonly Cluster[] = [];
  #stamp = '';
  #broken: { readonly stamp: string; readonly at: number; readonly error: unknown } | undefined;
  readonly #reasons = new RepeatedReasons();

  /** Throws Vl3Error with place and remedy when the file is not as it should be. No cluster is asked for anything yet. */
  constructor(options: ClustersOptions, deps: ClustersDeps) {
    this.#options = options;
    this.#deps = { monotonic: () => performance.now(), inCluster: () => inCluster(), ...deps };
    this.#read();
  }

  /** Who shows this token. Throws EnrollmentRefused, or Vl3Error('unavailable') when that cannot be told now. */
  async verify(token: string): Promise<ClusterNode> {
    const { issuer, kid } = glance(token);
    // Side by side: one whose keys cannot be fetched must not hold up the others' nodes.
    const outcomes = await Promise.all(
      this.#current().map((cluster) => this.#verifyBy(cluster, issuer, token)),
    );
    const found = outcomes.flatMap((one) => (one?.kind === 'signed' ? [one] : []));
    const failures = outcomes.flatMap((one) => (one?.kind === 'refused' ? [one.error] : []));
    const [one, another] = found;
    if (one !== undefined && another !== undefined) {
      throw refusal(
        'other-key',
        `clusters "${one.cluster.name}" and "${another.cluster.name}" sign with the same key, so that nobody can tell their nodes apart`,
      );
    }
    if (one !== undefined) return this.#nodeOf(one.cluster, one.payload, token);
    // That a key is not one cluster's says nothing where several have the same issuer.
    const worst = failures.find((error) => reasonOf(error) !== 'other-key') ?? failures[0];
    if (worst === undefined) {
      throw refusal(
        'other-issuer',
        `the token is of issuer "${printable(issuer)}" (key "${printable(kid)}"), and no cluster of that issuer is configured here`,
      );
    }
    if (worst.code === 'unavailable') {
      const again = this.#reasons.take(worst.message, this.#deps.monotonic());
      if (again !== undefined)
        this.#deps.logger.warn({ reason: worst.message, again }, "a cluster's keys cannot be had");
      throw new Vl3Error('unavailable', "the registry cannot get the cluster's keys now: see its log");
    }
    throw worst;
  }

  /** Undefined: it is of another issuer. */
  async #verifyBy({ config, source }: Cluster, issuer: string, token: string): Promise<Outcome | undefined> {
    try {
      if (config.issuer !== undefined && config.issuer !== issuer) return undefined;
      const keys = await source.current();
      if (keys.issuer !== issuer) return undefined;
      const payload = await this.#payload(keys, config, token).catch(async (error: unknown) => {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        const renewed = await source.renewed();
        if (renewed === keys) throw error;
        return await this.#payload(renewed, config, token);
      });
      return { kind: 'signed', cluster: config, payload };
    } catch (error) {
      return { kind: 'refused', error: error instanceof Vl3Error ? error : explained(error, config) };
    }
  }

  async #payload(keys: Keys, { audience, subject }: ClusterConfig, token: string): Promise<JWTPayload> {
    const { payload } = await jwtVerify(token, keys.find, {
      ...{ issuer: keys.issuer, audience, subject, algorithms: ALGORITHMS },
      currentDate: new Date(this.#deps.now()),
      clockTolerance: TOLERANCE_S,
      requiredClaims: ['exp', 'iat', 'nbf'],
    });
    return payload;
  }

  #nodeOf(cluster: ClusterConfig, payload: JWTPayload, token: string): ClusterNode {
    const read = claims.safeParse(payload);
    if (!read.success) throw refusal('malformed', 'the token has not the claims of a service account');
    const { exp, iat, 'kubernetes.io': of } = read.data;
    if (`system:serviceaccount:${of.namespace}:${of.serviceaccount.name}` !== cluster.subject)
      throw refusal('other-account', 'the token names two service accounts');
    // From now on, too: whoever signs may say that it was made in the end of it.
    const term = Math.max(exp - iat, exp - TOLERANCE_S - this.#deps.now() / 1000);
    if (term > MAX_TERM_S) {
      throw refusal(
        'too-long',
        `the token is good for ${Math.round(term / 60)} min: mount one that is for at most ${MAX_TERM_S / 60} (expirationSeconds)`,
      );
    }
    if (of.pod === undefined || of.node === undefined || !isKubernetesNodeName(of.node.name)) {
      throw refusal(
        'no-node',
        'the token does not say on which node its pod is: it has to be mounted into the pod (projected), by Kubernetes 1.30 or newer',
      );
    }
    return {
      cluster: cluster.name,
      kubernetesNode: of.node.name,
      ...(of.node.uid !== undefined && { kubernetesUid: of.node.uid }),
      node: clusterNodeName(cluster.name, of.node.name),
      tokenHash: createHash('sha256')
        .update(token.slice(0, token.lastIndexOf('.')))
        .digest('hex'),
      tokenExpiresAt: (exp + TOLERANCE_S) * 1000,
    };
  }

  /** As the file has it now: a cluster that was taken out admits nobody any more. */
  #current(): readonly Cluster[] {
    const now = this.#deps.monotonic();
    let stamp = '';
    try {
      stamp = stampOf(this.#options.file);
      if (this.#broken?.stamp === stamp && now - this.#broken.at < BROKEN_MS) throw this.#broken.error;
      if (stamp !== this.#stamp) this.#read();
      this.#broken = undefined;
      return this.#clusters;
    } catch (error) {
      if (this.#broken?.error !== error) this.#broken = { stamp, at: now, error };
      const again = this.#reasons.take(String(error), now);
      // Not as it was before: it may have been taken out.
      if (again !== undefined)
        this.#deps.logger.error(
          { err: error, again },
          'the clusters cannot be read: no node enrols by any of them',
        );
      throw new Vl3Error('unavailable', 'the registry cannot read its list of clusters: ask its admin');
    }
  }

  #read(): void {
    const { file, trustDomain } = this.#options;
    const { stamp, clusters } = readClusters(file, trustDomain);
    const before = new Map(this.#clusters.map((one) => [JSON.stringify(one.config), one]));
    // What has not changed keeps the keys that it has fetched.
    this.#clusters = clusters.map(
      (config) => before.get(JSON.stringify(config)) ?? { config, source: keySource(config, this.#deps) },
    );
    this.#stamp = stamp;
    this.#deps.logger.info({ clusters: this.#clusters.map(({ config }) => config.name) }, 'clusters read');
  }
}

/** As they are in the file now. Throws Vl3Error with place and remedy. */
export const readClusters = (
  file: string,
  trustDomain: string,
): { readonly stamp: string; readonly clusters: readonly ClusterConfig[] } => {
  try {
    const stamp = stampOf(file);
    const audience = formatSpiffeId({ kind: 'registry', trustDomain });
    return { stamp, clusters: parseClusters(file, readFileSync(file, 'utf8'), audience) };
  } catch (cause) {
    if (cause instanceof Vl3Error) throw cause;
    const why = cause instanceof Error ? cause.message.split(',')[0] : String(cause);
    throw new Vl3Error(
      'invalid-argument',
      `cannot read the clusters in ${file} (${why}): check --kubernetes-clusters`,
      { cause },
    );
  }
};

const refusal = (reason: RefusalReason, message: string): EnrollmentRefused =>
  new EnrollmentRefused(reason, message);

const reasonOf = (error: Vl3Error): RefusalReason | undefined =>
  error instanceof EnrollmentRefused ? error.reason : undefined;

/** What the token says of itself, which nobody has verified: to find out whom to ask. */
const glance = (token: string): { readonly issuer: string; readonly kid: string } => {
  try {
    if (token.length > MAX_TOKEN) throw new Error('it is too long');
    const { kid } = decodeProtectedHeader(token);
    const { iss } = decodeJwt(token);
    if (typeof kid !== 'string' || typeof iss !== 'string') throw new Error('it names no key or issuer');
    return { issuer: iss, kid };
  } catch {
    throw refusal('malformed', 'this is no token of a service account (a JWT)');
  }
};

const explained = (error: unknown, { name, audience, subject }: ClusterConfig): Vl3Error => {
  const of = `cluster "${name}"`;
  if (!(error instanceof errors.JOSEError)) {
    const why = error instanceof Error ? error.message : String(error);
    return new Vl3Error('unavailable', `a key of ${of} cannot be used (${why})`, { cause: error });
  }
  if (error instanceof errors.JWTExpired)
    return refusal(
      'expired',
      `the token of ${of} has expired: is the clock of this registry, or of its API server, right?`,
    );
  if (error instanceof errors.JWTClaimValidationFailed) {
    switch (error.claim) {
      case 'aud':
        return refusal(
          'other-audience',
          `the token of ${of} is not for this registry: mount one for "${audience}"`,
        );
      case 'sub':
        return refusal('other-account', `the token of ${of} is not of "${subject}", whose agents may enrol`);
      case 'nbf':
        return refusal(
          'not-yet-valid',
          `the token of ${of} is not good yet: is the clock of this registry right?`,
        );
      case 'iss':
        return refusal('other-issuer', `the token is not of the issuer of ${of}`);
      default:
        return refusal('malformed', `the token of ${of} lacks the claim "${error.claim}"`);
    }
  }
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys)
    return refusal('other-key', `the token is signed with a key that ${of} does not have (any more)`);
  if (error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JOSEAlgNotAllowed)
    return refusal('forged', `the token is not signed by ${of}`);
  return refusal('malformed', `the token is not one of ${of}`);
};

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 120);
