// The registry's composition root: store, CA, admin credential, services and the TLS port, opened in this order and
// closed in reverse. Everything it keeps is in the state directory: store.db, ca/ and admin.json. With a signer apart there are neither
// of the last two, but that one's credential for it.

import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { type ConnectRouter, createContextValues } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort, type HostPort } from '../../native-free/host-port.ts';
import { choosePrefix } from '../../native-free/ipam/pool.ts';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import { startClock } from '../../native-free/registry/clock-rules.ts';
import { bindCa, knowsCa } from '../../native-free/registry/domain-rules.ts';
import { keys, one } from '../../native-free/registry/keys.ts';
import { type LeaseTerms, leaseTerms } from '../../native-free/registry/lease-terms.ts';
import type { OwnEnrolment } from '../../native-free/registry/own-identity-rules.ts';
import { beginRestored, recoveryOf } from '../../native-free/registry/recovery-rules.ts';
import { AdminService } from '../api/generated/vl3/v1/admin_pb.js';
import { AdmissionService } from '../api/generated/vl3/v1/admission_pb.js';
import { AgentService } from '../api/generated/vl3/v1/agent_pb.js';
import { CaService, DomainService } from '../api/generated/vl3/v1/ca_pb.js';
import { CredentialService } from '../api/generated/vl3/v1/credential_pb.js';
import { EnrollmentService } from '../api/generated/vl3/v1/enrollment_pb.js';
import { FederationService } from '../api/generated/vl3/v1/federation_pb.js';
import { toBase64 } from '../base64.ts';
import { caService } from '../ca/ca-service.ts';
import { RemoteSigner } from '../ca/remote-signer.ts';
import { createAdminCredential } from '../identity/admin-credential.ts';
import { CertificateAuthority } from '../identity/ca.ts';
import { hasCa } from '../identity/ca-directory.ts';
import { fingerprint } from '../identity/certificate.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { type DomainAddress, formatDomainAddress } from '../identity/domain-address.ts';
import { readAdminCredential, writeIdentity } from '../identity/identity-file.ts';
import { makePrivateDirectory } from '../identity/private-file.ts';
import type { AdminSigner, Signer } from '../identity/signer.ts';
import { serverTlsOptions } from '../identity/tls.ts';
import { formatJoinToken } from '../identity/token.ts';
import { adminService } from './admin-service.ts';
import { AdmissionKeeper } from './admission-keeper.ts';
import { admissionService } from './admission-service.ts';
import { agentService } from './agent-service.ts';
import { Backups } from './backup.ts';
import { Callers, callerKey } from './caller.ts';
import { type InCluster, inCluster as podInCluster } from './cluster-keys.ts';
import { Clusters } from './clusters.ts';
import { Counters, type RegistryContext } from './context.ts';
import { credentialService } from './credential-service.ts';
import { type ConfigMapName, publishDomain } from './domain-publisher.ts';
import { enrollmentService } from './enrollment-service.ts';
import { federationService } from './federation-service.ts';
import { Feed } from './feed.ts';
import { guard } from './guard.ts';
import { Hearing } from './hearing.ts';
import { Heartbeats } from './heartbeats.ts';
import { Listener, type RequestHandler } from './listener.ts';
import { maintain } from './maintenance.ts';
import { MeasuredTransactor } from './measured-transactor.ts';
import { OwnBundle } from './own-bundle.ts';
import { type OwnDomainOptions, openOwnDomain } from './own-domain.ts';
import { domainService, OwnStatement } from './own-statement.ts';
import { PartnerLinks, type PartnerLinksOptions } from './partner-links.ts';
import { Partners } from './partners.ts';
import { PositionStamps, STAMP_PURPOSE } from './position-stamps.ts';
import { preflight } from './preflight.ts';
import { bundleLocation, openPublicBundle, type PublicBundleOptions } from './public-bundle.ts';
import { SqliteStore } from './sqlite-store.ts';
import type { Store } from './store.ts';
import type { Transactor } from './transactor.ts';
import { streamKey } from './watch-network.ts';

export interface RegistryOptions {
  readonly stateDirectory: string;
  readonly trustDomain: string;
  readonly listen: { readonly host: string; readonly port: number };
  /** Where nodes and admins reach it; empty: the listen address, or every address of this machine. */
  readonly advertise?: readonly HostPort[];
  readonly livenessTtlMs?: number;
  readonly progressMs?: number;
  /** How long nodes can do without the registry; SVIDs and leases last a sixth longer. Default 6 days. */
  /** What pools should not overlap, e.g. a cluster's pod and service ranges: who creates a network is warned. */
  readonly reservedRanges?: readonly Prefix[];
  readonly outageBudgetMs?: number;
  /** The Kubernetes clusters whose nodes enrol by their word (deploy/examples/clusters.yaml). Default: none. */
  readonly clustersFile?: string;
  /** The signer is apart, and this is how it is reached: what `vl3 ca registry` made. Default: the CA is in this process. */
  readonly signerFile?: string;
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

const ADMIN_NAME = 'admin';
const DAY_MS = 24 * 60 * 60 * 1000;
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** From whoever has shown no certificate: an enrolment is far smaller, and parsing megabytes would hold all others up. */
const MAX_ANONYMOUS_BYTES = 64 * 1024;

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
  const terms = leaseTerms(options.outageBudgetMs);
  const storePath = join(stateDirectory, 'store.db');
  const store = opened.use(new SqliteStore({ path: storePath, now: () => performance.now() }));
  const transactor = new MeasuredTransactor(store);
  const livenessTtlMs = options.livenessTtlMs ?? 15_000;
  const hearing = await Hearing.begin({ patienceMs: livenessTtlMs }, store, transactor);
  const { ownIdentity } = options;
  const own =
    ownIdentity &&
    (await openOwnDomain({ ...options, ...ownIdentity }, { transactor, logger, now, opened, signal }));
  const { signer, ca } =
    own === undefined
      ? await openDomain(options, opened, { terms, store, transactor, logger, now })
      : { signer: own.signer, ca: undefined };
  await recoverMemory(store, transactor, logger);
  const stamps = new PositionStamps(await signer.secretFor(STAMP_PURPOSE), store.identity);
  const feed = opened.use(new Feed({ store, stamps, logger }));
  await feed.start();
  opened.use(await maintain({ transactor, now, logger, terms }));

  const admissionKeeper = opened.use(new AdmissionKeeper({ store, transactor, signer, terms, now, logger }));
  await admissionKeeper.start();

  const registries: string[] = [];
  const stopping = new AbortController();
  const partners = opened.use(
    new Partners({ store, transactor, ownBundle: () => signer.trustBundle, now, logger }),
  );
  await partners.start();
  const partnerLinks = opened.use(
    new PartnerLinks(options.partnerLinks ?? {}, { partners, transactor, trustDomain, now, logger }),
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
  const tls = () => serverTlsOptions(credential, signer.trustBundle, partners.clientCertificates());
  const { host, port } = options.listen;
  const listener = opened.use(
    await Listener.open({ host, port, tls: tls() }, handlerOf(context, ca, ownIdentity?.enrolment)),
  );
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
  // TLS has to let a partner's nodes in, before it is asked who they are. With the certificate that there is: a signer that is gone
  // must keep no partner out.
  opened.defer(partners.onChange(ifOthers(partners, () => listener.setTls(tls()))));
  const renewal = setInterval(() => void renew(), Math.min(DAY_MS, terms.termMs / 4));
  opened.defer(() => clearInterval(renewal));
  signer.onChange(() => {
    void renew();
    if (own !== undefined) return;
    Promise.all([
      transactor.run(bindCa(caFingerprintOf(signer), false, othersOf(signer))),
      renewAdmin(),
    ]).catch((error: unknown) =>
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

/**
 * The CA of the store, and the store of the CA. A store in which nothing was ever written, beside a CA, has lost its
 * memory; that a first start was cut off between the two is told by the clock, which is written first.
 */
const openDomain = async (
  options: RegistryOptions,
  opened: AsyncDisposableStack,
  deps: DomainDependencies,
): Promise<{ readonly signer: Signer; readonly ca: CertificateAuthority | undefined }> => {
  const { transactor } = deps;
  const { answer: memory } = await transactor.run(knowsCa);
  const isApart = options.signerFile !== undefined;
  const { signer, ca, isOlder } = isApart
    ? await openRemote(options, opened, memory, deps)
    : await openOwnCa(options, memory, deps);
  await transactor.run(bindCa(caFingerprintOf(signer), isOlder, othersOf(signer)));
  return { signer, ca };
};

const recoverMemory = async (store: Store, transactor: Transactor, logger: Logger): Promise<void> => {
  if (store.origin.kind === 'restored') await transactor.run(beginRestored(store.identity));
  const recovery = recoveryOf(await transactor.read([one(keys.domain)]));
  if (recovery !== undefined) {
    logger.warn(
      { reason: recovery.reason },
      'the registry lost its memory and recovers what nodes hold: no prefix is issued until they have spoken (`vl3 registry status`) or `vl3 registry settle`',
    );
  }
};

interface DomainDependencies {
  readonly terms: LeaseTerms;
  readonly store: Store;
  readonly transactor: Transactor;
  readonly logger: Logger;
  readonly now: () => number;
}
interface OpenedSigner {
  readonly signer: Signer;
  readonly ca: CertificateAuthority | undefined;
  /** Than the store. */
  readonly isOlder: boolean;
}
type Memory = 'known' | 'unknown' | 'fresh';

const openOwnCa = async (
  { stateDirectory, trustDomain }: RegistryOptions,
  memory: Memory,
  { terms, transactor, now }: DomainDependencies,
): Promise<OpenedSigner> => {
  const directory = join(stateDirectory, 'ca');
  const isOlder = memory === 'fresh' && (await hasCa(directory));
  if (!isOlder) await transactor.run(startClock);
  const mayCreate = memory !== 'known' && !isOlder;
  const ca = await CertificateAuthority.open(
    { mayCreate, directory, trustDomain, svidValidityMs: terms.termMs },
    { now },
  );
  return { signer: ca, ca, isOlder };
};

const openRemote = async (
  { stateDirectory, trustDomain, signerFile = '' }: RegistryOptions,
  opened: AsyncDisposableStack,
  memory: Memory,
  { transactor, logger, now }: DomainDependencies,
): Promise<OpenedSigner> => {
  const directory = join(stateDirectory, 'ca');
  if (await hasCa(directory))
    throw new Vl3Error(
      'failed-precondition',
      `with --signer no CA key may lie beside the registry: move ${directory} to where \`vl3 ca run\` runs, or start without --signer`,
    );
  const signer = opened.use(await RemoteSigner.open({ file: signerFile, trustDomain }, { logger, now }));
  const isOlder = memory === 'fresh' && signer.hasNodes;
  if (!isOlder) await transactor.run(startClock);
  return { signer, ca: undefined, isOlder };
};

/** Only when the partners' CAs are others. */
const ifOthers = (partners: Partners, tell: () => void): (() => void) => {
  const prints = () =>
    partners
      .clientCertificates()
      .map((der) => Buffer.from(der).toString('base64'))
      .join();
  let before = prints();
  return () => {
    const after = prints();
    if (after === before) return;
    before = after;
    tell();
  };
};

const handlerOf = (
  context: RegistryContext,
  ca: CertificateAuthority | undefined,
  enrolment: OwnEnrolment | undefined,
): RequestHandler => {
  const { transactor, logger, now, signer, stopping, partners, ownBundle, ownStatement } = context;
  const callers = new Callers({
    trustDomain: signer.trustBundle.trustDomain,
    bundleFor: (domain) => partners.bundleFor(domain),
    changes: () => partners.changes + ownStatement.sequence,
    now,
  });
  const handler = (readMaxBytes: number): RequestHandler =>
    connectNodeAdapter({
      routes: (router: ConnectRouter) => {
        router.service(AdminService, adminService(context));
        router.service(AdmissionService, admissionService(context));
        router.service(AgentService, agentService(context));
        router.service(EnrollmentService, enrollmentService(context));
        router.service(FederationService, federationService(context));
        if (ca !== undefined) router.service(CredentialService, credentialService({ signer: ca, logger }));
        router.service(DomainService, domainService(ownStatement));
        if (ca !== undefined) router.service(CaService, caService({ ca, logger }));
      },
      interceptors: [
        guard({
          ...{ transactor, now, logger, stopping, counters: context.counters },
          trustDomain: signer.trustBundle.trustDomain,
          enrolment,
        }),
      ],
      contextValues: (request) =>
        createContextValues()
          .set(callerKey, callers.of(request))
          .set(streamKey, 'stream' in request ? request.stream : undefined),
      readMaxBytes,
      // Signatures and keys do not compress, each watcher would pay for it, and no request can be a bomb.
      acceptCompression: [],
    });
  const known = handler(MAX_MESSAGE_BYTES);
  const anonymous = handler(MAX_ANONYMOUS_BYTES);
  return (request, response) => {
    if (ownBundle.answer(request, response)) return;
    (callers.of(request).role === 'anonymous' ? anonymous : known)(request, response);
  };
};

const caOf = ({ trustBundle }: Signer): Uint8Array => {
  const [ca] = trustBundle.certificates;
  if (ca === undefined) throw new Vl3Error('internal', 'the trust bundle is empty');
  return ca;
};

const caFingerprintOf = (signer: Signer): string => Buffer.from(fingerprint(caOf(signer))).toString('hex');

const othersOf = ({ trustBundle }: Signer): string[] =>
  trustBundle.certificates.slice(1).map((der) => Buffer.from(fingerprint(der)).toString('hex'));

const domainAddress = (signer: Signer, registries: readonly string[]): DomainAddress => {
  const { trustDomain } = signer.trustBundle;
  return { registries, trustDomain, caFingerprint: fingerprint(caOf(signer)) };
};

const noTokens = (trustDomain: string): Vl3Error =>
  new Vl3Error(
    'failed-precondition',
    `this domain has no join tokens, since its registry gives out no SVIDs: have spiffe://${trustDomain}/node/<name> issued to the agent, and start it with --identity`,
  );

const joinToken = (signer: Signer, registries: readonly string[], secret: string): string =>
  formatJoinToken({ ...domainAddress(signer, registries), secret });

const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::';

/** Loopback comes last, and only when there is nothing else. */
const machineAddresses = (): string[] => {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const usable = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'));
  const found = usable.map(({ address }) => address);
  return found.length > 0 ? found.slice(0, 8) : ['127.0.0.1'];
};

const advertised = ({ advertise = [], listen }: RegistryOptions, port: number): string[] => {
  if (advertise.length > 0) return advertise.map(formatHostPort);
  const hosts = isWildcard(listen.host) ? machineAddresses() : [listen.host];
  return hosts.map((host) => formatHostPort({ host, port }));
};

/** What the server certificate names, for curl and the like: clients of vl3 look at the SPIFFE ID alone. */
const advertisedHosts = ({ advertise = [], listen }: RegistryOptions): string[] => {
  const listening = isWildcard(listen.host) ? machineAddresses() : [listen.host];
  const hosts = [...advertise.map(({ host }) => host), ...listening, 'localhost', '127.0.0.1', '::1'];
  return [...new Set(hosts)].slice(0, 64);
};

/** Written at the first start, and anew when it names other registries or has less than a third of its life left. */
const ensureAdminCredential = async (
  file: string,
  signer: AdminSigner,
  registries: readonly string[],
  now: number,
): Promise<void> => {
  try {
    const present = await readAdminCredential(file);
    const fresh = present.notAfter - now > (present.notAfter - present.notBefore) / 3;
    const isOfThese = present.registries.join() === registries.join();
    if (fresh && isOfThese && sameBundle(present.trustBundle, signer.trustBundle)) return;
  } catch (error) {
    if (!(error instanceof Vl3Error && error.code === 'not-found')) throw error;
  }
  await writeIdentity(file, await createAdminCredential(signer, ADMIN_NAME, registries, now));
};

const sameBundle = (a: TrustBundle, b: TrustBundle): boolean =>
  a.certificates.map(toBase64).join() === b.certificates.map(toBase64).join();
