// The composition root of a signer apart (`vl3 ca run`): CA, ledger and the TLS port, opened in this order and closed in reverse.
// Everything it keeps is in its state directory: ca/ and ledger.db.

import { join } from 'node:path';
import { type ConnectRouter, createContextValues, type Interceptor } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { HostPort } from '../../native-free/host-port.ts';
import { leaseTerms } from '../../native-free/registry/lease-terms.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { toConnectError } from '../api/errors.ts';
import { CaService, SignerService } from '../api/generated/vl3/v1/ca_pb.js';
import { CertificateAuthority } from '../identity/ca.ts';
import { hasCa } from '../identity/ca-directory.ts';
import { fingerprint } from '../identity/certificate.ts';
import { createCertificateRequest } from '../identity/certificate-request.ts';
import { generateKey } from '../identity/key.ts';
import { makePrivateDirectory } from '../identity/private-file.ts';
import { type Credential, serverTlsOptions } from '../identity/tls.ts';
import { Listener, type RequestHandler } from '../registry/listener.ts';
import { Turns } from '../registry/turns.ts';
import { checkWritableDirectory } from '../writable-directory.ts';
import { ApartSigner } from './apart-signer.ts';
import { caService } from './ca-service.ts';
import { callerKey, callerOf, mustBeAllowed } from './caller.ts';
import { LedgerStore } from './ledger-store.ts';
import { signerService } from './signer-service.ts';

export interface SignerOptions {
  readonly stateDirectory: string;
  readonly trustDomain: string;
  readonly listen: HostPort;
  /** How long nodes can do without the registry, as that has it: SVIDs last a sixth longer. */
  readonly outageBudgetMs?: number;
}

export interface SignerDependencies {
  readonly logger: Logger;
  /** Unix ms. */
  readonly now?: () => number;
}

export interface RunningSigner extends AsyncDisposable {
  readonly port: number;
  readonly signer: ApartSigner;
}

const DAY_MS = 24 * 60 * 60_000;
const TIDY_MS = 10 * 60_000;
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** From whoever is nobody, and is told so. */
const MAX_UNKNOWN_BYTES = 64 * 1024;
/** Of registries, at once: one that was taken over must leave memory and time for an admin who would end that. */
const REGISTRY_CALLS = 8;
const REGISTRY_CALL_MS = 10_000;

/** Where the CA of a state directory lies. */
export const caDirectory = (stateDirectory: string): string => join(stateDirectory, 'ca');

/** Resolves once the port is open. Throws Vl3Error with a remedy, and leaves nothing open. */
export const startSigner = async (
  options: SignerOptions,
  { logger, now = Date.now }: SignerDependencies,
): Promise<RunningSigner> => {
  await using opened = new AsyncDisposableStack();
  const { stateDirectory, trustDomain, listen } = options;
  checkWritableDirectory(stateDirectory, '--state-dir');
  // Never made in passing: whoever mistypes a directory would begin another domain.
  if (!(await hasCa(caDirectory(stateDirectory))))
    throw new Vl3Error(
      'failed-precondition',
      `there is no CA in ${caDirectory(stateDirectory)}: make it with \`vl3 ca init\`, restore it from its copy, or name the right --state-dir`,
    );
  await makePrivateDirectory(stateDirectory);
  const { termMs } = leaseTerms(options.outageBudgetMs);
  const ca = await CertificateAuthority.open(
    {
      directory: caDirectory(stateDirectory),
      trustDomain,
      svidValidityMs: termMs,
      mayCreate: false,
      leases: true,
    },
    { now },
  );
  const ledger = opened.use(new LedgerStore(stateDirectory));
  const signer = await ApartSigner.open({ ca, ledger, now });
  const tls = async () => serverTlsOptions(await serverCredential(ca, listen.host), ca.trustBundle);
  const listener = opened.use(
    await Listener.open({ ...listen, tls: await tls() }, handlerOf(signer, logger, now)),
  );
  const renew = (): void => {
    tls().then(
      (renewed) => listener.setTls(renewed),
      (error: unknown) => logger.error({ err: error }, "the CA's server certificate could not be renewed"),
    );
  };
  const stopping = new AbortController();
  opened.defer(() => stopping.abort());
  ca.onChange(renew, stopping.signal);
  const renewal = setInterval(renew, Math.min(DAY_MS, termMs / 4));
  opened.defer(() => clearInterval(renewal));
  const tidying = setInterval(() => signer.tidy(), TIDY_MS);
  opened.defer(() => clearInterval(tidying));
  const [active] = ca.trustBundle.certificates;
  const print = active === undefined ? '' : Buffer.from(fingerprint(active)).toString('hex');
  logger.info({ trustDomain, port: listener.port, ca: print }, 'CA is up');
  const owned = opened.move();
  return { port: listener.port, signer, [Symbol.asyncDispose]: () => owned.disposeAsync() };
};

const serverCredential = async (ca: CertificateAuthority, host: string): Promise<Credential> => {
  const privateKey = await generateKey();
  const isWildcard = host === '0.0.0.0' || host === '::';
  const hosts = isWildcard ? ['localhost'] : [host];
  const request = await createCertificateRequest(privateKey);
  return { privateKey, certificateChain: await ca.signCaCertificate(request, hosts) };
};

const handlerOf = (signer: ApartSigner, logger: Logger, now: () => number): RequestHandler => {
  const callerOn = (request: Parameters<RequestHandler>[0]) =>
    callerOf(request, signer.ca.trustBundle, now());
  const reading = (readMaxBytes: number): RequestHandler =>
    connectNodeAdapter({
      routes: (router: ConnectRouter) => {
        router.service(CaService, caService({ ca: signer.ca, apart: signer, logger }));
        router.service(SignerService, signerService(signer, logger));
      },
      interceptors: [guard(logger)],
      contextValues: (request) => createContextValues().set(callerKey, callerOn(request)),
      readMaxBytes,
      acceptCompression: [],
    });
  const known = reading(MAX_MESSAGE_BYTES);
  const unknown = reading(MAX_UNKNOWN_BYTES);
  const turns = new Turns({ atOnce: REGISTRY_CALLS, longestMs: REGISTRY_CALL_MS });
  return (request, response) => {
    const { role } = callerOn(request);
    if (role !== 'registry') {
      (role === 'nobody' ? unknown : known)(request, response);
      return;
    }
    // Before anything of it is read.
    void turns.take().then((giveBack) => {
      if (response.destroyed) giveBack();
      else {
        response.once('close', giveBack);
        known(request, response);
      }
    });
  };
};

/** In front of every RPC: access by role, errors mapped for the wire, refusals and failures logged. */
const guard = (logger: Logger): Interceptor => {
  const reasons = new RepeatedReasons();
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const caller = request.contextValues.get(callerKey);
    try {
      mustBeAllowed(request.service.typeName, caller);
      return await next(request);
    } catch (error) {
      const { role } = caller;
      if (error instanceof Vl3Error && error.code !== 'internal') {
        const again = reasons.take(`${method} ${error.message}`, performance.now());
        const refusal = { method, role, code: error.code, reason: error.message, again };
        if (again !== undefined) logger.warn(refusal, 'call refused');
      } else logger.error({ method, role, err: error }, 'call failed');
      throw toConnectError(error);
    }
  };
};
