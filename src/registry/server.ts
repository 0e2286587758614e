// The registry's composition root: store, CA, admin credential, services and the TLS port, opened in this order and
// closed in reverse. Everything it keeps is in the state directory: store.db, ca/ and admin.json. With a signer apart there
// are neither of the last two, but that one's credential for it.

import { join } from 'node:path';
import type { Logger } from 'pino';
import type { HostPort } from '../../native-free/host-port.ts';
import { choosePrefix } from '../../native-free/ipam/pool.ts';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import { leaseTerms } from '../../native-free/registry/lease-terms.ts';
import type { CertificateAuthority } from '../identity/ca.ts';
import { formatDomainAddress } from '../identity/domain-address.ts';
import { makePrivateDirectory } from '../identity/private-file.ts';
import type { Signer } from '../identity/signer.ts';
import { serverTlsOptions } from '../identity/tls.ts';
import { ensureAdminCredential } from './admin-file.ts';
import { AdmissionKeeper } from './admission-keeper.ts';
import { Backups } from './backup.ts';
import { type InCluster, inCluster as podInCluster } from './cluster-keys.ts';
import { Clusters } from './clusters.ts';
import { Counters, type RegistryContext } from './context.ts';
import { type ConfigMapName, publishDomain } from './domain-publisher.ts';
import { Feed } from './feed.ts';
import { Hearing } from './hearing.ts';
import { Heartbeats } from './heartbeats.ts';
import { Listener } from './listener.ts';
import { maintain } from './maintenance.ts';
import { MeasuredTransactor } from './measured-transactor.ts';
import { bindTo, openDomain, recoverMemory } from './open-domain.ts';
import { OwnBundle } from './own-bundle.ts';
import { type OwnDomainOptions, openOwnDomain } from './own-domain.ts';
import { OwnStatement } from './own-statement.ts';
import { PartnerLinks, type PartnerLinksOptions } from './partner-links.ts';
import { Partners } from './partners.ts';
import { PositionStamps, STAMP_PURPOSE } from './position-stamps.ts';
import { preflight } from './preflight.ts';
import { bundleLocation, openPublicBundle, type PublicBundleOptions } from './public-bundle.ts';
import { advertised, advertisedHosts, domainAddress, joinToken, noTokens } from './registry-addresses.ts';
import { handlerOf } from './routes.ts';
import { SqliteStore } from './sqlite-store.ts';

export interface RegistryOptions {
  readonly stateDirectory: string;
  readonly trustDomain: string;
  readonly listen: { readonly host: string; readonly port: number };
  /** Where nodes and admins reach it; empty: the listen address, or every address of this machine. */
  readonly advertise?: readonly HostPort[];
  readonly livenessTtlMs?: number;
  readonly progressMs?: number;
  /** How long a connection may last on which nobody is known. */
  readonly unknownClientMs?: number;
  /** What pools should not overlap, e.g. a cluster's pod and service ranges: who creates a network is warned. */
  readonly reservedRanges?: readonly Prefix[];
  /** How long nodes can do without the registry; SVIDs and leases last a sixth longer. Default 6 days. */
  readonly outageBudgetMs?: number;
  /** The Kubernetes clusters whose nodes enrol by their word (deploy/examples/clusters.yaml). Default: none. */
  readonly clustersFile?: string;
  /** The signer is apart, and this is how it is reached: what `vl3 ca registry` made. Default: the CA is in this process. */
  readonly signerFile?: string;
  readonly signerPollMs?: number;
  /** This domain's bundle on a port of its own, too. Default: on the registry's own port alone. */
  readonly publicBundle?: PublicBundleOptions;
  /** Where partners are told that the bundle is. Default: where it is served. */
  readonly bundleUrl?: string;
  readonly partnerLinks?: PartnerLinksOptions;
  /** SVIDs are not the registry's to give: it has its own from there, as nodes have theirs. */
  readonly ownIdentity?: OwnDomainOptions;
  /** The ConfigMap in which nodes of the cluster that this is a pod of find the domain's address. */
  readonly publishDomain?: ConfigMapName;
}

export interface RegistryDependencies {
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /** How the API server of the own cluster is reached. Default: as a pod reaches it. */
  readonly inCluster?: () => InCluster;
  /** Ends a start that waits for something. */
  readonly signal?: AbortSignal;
}

/** What metrics and health checks look at. */
export interface ObservedRegistry {
  readonly context: RegistryContext;
  readonly transactor: MeasuredTransactor;
  readonly storeFile: string;
  /** 0: it is closed. */
  readonly port: () => number;
}

export interface RunningRegistry extends AsyncDisposable {
  readonly observed: ObservedRegistry;
  readonly port: number;
  /** "host:port", as join tokens and the admin credential carry them. */
  readonly registries: readonly string[];
  readonly adminFile: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;

/** Resolves once the port is open. Throws Vl3Error with a remedy, and leaves nothing open. */
export const startRegistry = async (
  options: RegistryOptions,
  { logger, now = Date.now, inCluster = () => podInCluster(), signal }: RegistryDependencies,
): Promise<RunningRegistry> => {
  await using opened = new AsyncDisposableStack();
  const { stateDirectory, trustDomain, clustersFile } = options;
  await preflight(options);
  const clusters =
    clustersFile === undefined
      ? undefined
      : new Clusters({ file: clustersFile, trustDomain }, { logger, now, inCluster });
  const apiServer = options.publishDomain && { ...options.publishDomain, inCluster: inCluster() };
  await makePrivateDirectory(stateDirectory);
  const terms = leaseTerms(options.outageBudgetMs, options.signerFile !== undefined);
  const storePath = join(stateDirectory, 'store.db');
  const store = opened.use(new SqliteStore({ path: storePath, now: () => performance.now() }));
  const transactor = new MeasuredTransactor(store);
  const livenessTtlMs = options.livenessTtlMs ?? 15_000;
  const hearing = await Hearing.begin({ patienceMs: livenessTtlMs }, store, transactor);
  const { ownIdentity } = options;
  const own =
    ownIdentity &&
    (await openOwnDomain({ ...options, ...ownIdentity }, { transactor, logger, now, opened, signal }));
  const { signer, ca }: { readonly signer: Signer; readonly ca: CertificateAuthority | undefined } =
    own === undefined
      ? await openDomain(options, opened, { terms, store, transactor, logger, now })
      : { signer: own.signer, ca: undefined };
  await recoverMemory(store, transactor, logger);
  const stamps = new PositionStamps(await signer.secretFor(STAMP_PURPOSE), store.identity);
  const feed = opened.use(new Feed({ store, stamps, logger }));
  await feed.start();
  opened.use(await maintain({ transactor, now, logger, terms, trustDomain }));

  const admissionKeeper = opened.use(new AdmissionKeeper({ store, transactor, signer, terms, now, logger }));
  await admissionKeeper.start();

  const registries: string[] = [];
  const stopping = new AbortController();
  const partners = opened.use(
    new Partners({ store, transactor, ownBundle: () => signer.trustBundle, now, logger }),
  );
  await partners.start();
  const partnerLinks = opened.use(
    new PartnerLinks(options.partnerLinks ?? {}, {
      partners,
      transactor,
      signer,
      trustDomain,
      now,
      logger,
      source: own?.source,
    }),
  );
  const ownBundle = await OwnBundle.open(signer, logger, stopping.signal);
  const publicBundle = options.publicBundle && {
    options: options.publicBundle,
    port: opened.use(await openPublicBundle(options.publicBundle, { signer, ownBundle, logger })).port,
  };
  const ownStatement = await OwnStatement.open(signer, logger, stopping.signal);
  const context: RegistryContext = {
    store,
    transactor,
    feed,
    signer,
    admissionKeeper,
    logger,
    now,
    choosePrefix,
    terms,
    reservedRanges: options.reservedRanges ?? [],
    heartbeats: new Heartbeats({ ttlMs: livenessTtlMs, now }, { store, transactor }),
    hearing,
    stamps,
    partners,
    partnerLinks,
    ownBundle,
    ownStatement,
    ownAddress: () => ({
      registries,
      bundleEndpoint: bundleLocation(trustDomain, registries, options.bundleUrl, publicBundle),
    }),
    verifyRecord: partners.verifyRecord,
    formatJoinToken: (secret) => {
      if (own !== undefined) throw noTokens(trustDomain);
      return joinToken(signer, registries, secret);
    },
    backups: new Backups(store, storePath),
    clusters,
    counters: new Counters(),
    stopping: stopping.signal,
    progressMs: options.progressMs ?? 10_000,
  };

  const hosts = advertisedHosts(options);
  let credential = await signer.serverCredential(hosts);
  const tls = () => serverTlsOptions(credential, signer.trustBundle);
  const { host, port } = options.listen;
  const { handler, isKnown } = handlerOf(context, ca, ownIdentity?.enrolment);
  const { unknownClientMs } = options;
  const patience = unknownClientMs === undefined ? {} : { unknownClientMs };
  const listener = opened.use(await Listener.open({ host, port, tls: tls(), isKnown, ...patience }, handler));
  // Before the listener closes: open watches end with a reason.
  opened.defer(() => stopping.abort());
  registries.push(...advertised(options, listener.port));
  const adminFile = join(stateDirectory, 'admin.json');
  // Whoever holds the CA makes admins.
  const renewAdmin = async (): Promise<void> => {
    if (ca !== undefined) await ensureAdminCredential(adminFile, ca, registries, now());
  };
  await renewAdmin();
  await own?.writeAdminFile(adminFile, registries);
  if (apiServer !== undefined) {
    const address = formatDomainAddress(domainAddress(signer, registries));
    opened.use(publishDomain(apiServer, address, { inCluster: apiServer.inCluster, logger }));
  }

  let renewing: Promise<void> = Promise.resolve();
  /** One after another: the last one has what holds last. */
  const renew = (): Promise<void> => {
    renewing = renewing
      .then(async () => {
        credential = await signer.serverCredential(hosts);
        listener.setTls(tls());
      })
      .catch((error: unknown) => logger.error({ err: error }, 'the server certificate could not be renewed'));
    return renewing;
  };
  const renewal = setInterval(() => void renew(), Math.min(DAY_MS, terms.termMs / 4));
  opened.defer(() => clearInterval(renewal));
  signer.onChange(() => {
    void renew();
    if (own !== undefined) return;
    Promise.all([bindTo(signer, transactor), renewAdmin()]).catch((error: unknown) =>
      logger.error({ err: error }, 'what follows from another CA could not be done'),
    );
  }, stopping.signal);

  logger.info(
    { trustDomain: options.trustDomain, port: listener.port, registries, storeId: store.identity, adminFile },
    'registry is up',
  );
  const owned = opened.move();
  return {
    observed: { context, transactor, storeFile: join(stateDirectory, 'store.db'), port: () => listener.port },
    port: listener.port,
    registries,
    adminFile,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
};
