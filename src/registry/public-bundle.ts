// The bundle's endpoint on a port of its own, for domains whose partners speak SPIFFE but not vl3, or are to be known by the web's
// CAs: with a certificate from files (https_web), which are read again when they change, else with the registry's SVID.

import { readFile } from 'node:fs/promises';
import type { TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { bundleEndpoint, type BundleEndpoint as Location } from '../../native-free/federation/endpoint.ts';
import { formatHostPort } from '../../native-free/host-port.ts';
import { BundleEndpoint, svidTls } from '../federation/bundle-endpoint.ts';
import { parseRegistryAddress } from '../identity/registry-address.ts';
import type { Signer } from '../identity/signer.ts';
import { REFRESH_HINT_S } from '../identity/spiffe-bundle.ts';
import { BUNDLE_PATH, type OwnBundle } from './own-bundle.ts';

export interface PublicBundleOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** PEM: makes it https_web. */
  readonly certificateFile?: string;
  readonly keyFile?: string;
}

interface Dependencies {
  readonly signer: Signer;
  readonly ownBundle: OwnBundle;
  readonly logger: Logger;
}

const LOOK_MS = 60_000;
/** SVIDs last longer by far. */
const RENEW_MS = 24 * 60 * 60 * 1000;

export interface PublicBundle extends AsyncDisposable {
  readonly port: number;
}

/** Throws Vl3Error('failed-precondition') when it cannot listen or its files are no certificate. */
export const openPublicBundle = async (
  { listen, certificateFile, keyFile }: PublicBundleOptions,
  { signer, ownBundle, logger }: Dependencies,
): Promise<PublicBundle> => {
  const isWeb = certificateFile !== undefined && keyFile !== undefined;
  let shown = '';
  const tls = async (): Promise<TlsOptions> => {
    if (!isWeb) return svidTls(await signer.serverCredential([]));
    const [cert, key] = await Promise.all([readFile(certificateFile), readFile(keyFile)]);
    shown = `${cert}${key}`;
    return { cert, key };
  };
  const open = async (): Promise<BundleEndpoint> => {
    try {
      const options = { ...listen, path: BUNDLE_PATH, tls: await tls(), maxAge: REFRESH_HINT_S };
      return await BundleEndpoint.open(options, () => ownBundle.text);
    } catch (cause) {
      if (cause instanceof Vl3Error || !isWeb) throw cause;
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Vl3Error(
        'failed-precondition',
        `the bundle cannot be served with ${certificateFile} and ${keyFile}: ${why}`,
        { cause },
      );
    }
  };
  const endpoint = await open();
  const renew = async (): Promise<void> => {
    const before = shown;
    try {
      const renewed = await tls();
      if (!isWeb || shown !== before) endpoint.setTls(renewed);
    } catch (error) {
      shown = before;
      logger.error(
        { err: error },
        "the bundle's server certificate could not be renewed: the one before goes on",
      );
    }
  };
  const stop = new AbortController();
  const timer = setInterval(() => void renew(), isWeb ? LOOK_MS : RENEW_MS);
  if (!isWeb) signer.onChange(() => void renew(), stop.signal);
  return {
    port: endpoint.port,
    async [Symbol.asyncDispose]() {
      stop.abort();
      clearInterval(timer);
      await endpoint[Symbol.asyncDispose]();
    },
  };
};

/** Where partners are told that it is. `url`: what an admin said. */
export const bundleLocation = (
  trustDomain: string,
  registries: readonly string[],
  url: string | undefined,
  open: { readonly port: number; readonly options: PublicBundleOptions } | undefined,
): Location => {
  // What a cluster alone resolves is of no use to a partner.
  const first = registries.find((one) => !/\.svc(\.|:|$)/.test(one)) ?? registries[0] ?? '';
  if (open === undefined) {
    // Elsewhere it is a copy, which the web's CAs vouch for.
    if (url !== undefined) return bundleEndpoint(trustDomain, { url, profile: 'https_web' });
    return bundleEndpoint(trustDomain, { url: `https://${first}${BUNDLE_PATH}`, profile: 'https_spiffe' });
  }
  const { listen, certificateFile } = open.options;
  // Every address of this machine is none that anybody can be told.
  const host = isUnspecified(listen.host) ? parseRegistryAddress(first).host : listen.host;
  const here = `https://${formatHostPort({ host, port: open.port })}${BUNDLE_PATH}`;
  const profile = certificateFile === undefined ? 'https_spiffe' : 'https_web';
  return bundleEndpoint(trustDomain, { url: url ?? here, profile });
};

const isUnspecified = (host: string): boolean => host === '0.0.0.0' || host === '::';
