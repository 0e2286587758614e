// Whether the registry can start as it is asked to, found out before its store, CA and credential are made. Looks only.

import { parseTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { checkWritableDirectory } from '../writable-directory.ts';
import { Listener } from './listener.ts';

export interface PreflightOptions {
  readonly stateDirectory: string;
  readonly trustDomain: string;
  readonly listen: { readonly host: string; readonly port: number };
}

/** Throws Vl3Error with a remedy. Changes nothing. */
export const preflight = async ({ stateDirectory, trustDomain, listen }: PreflightOptions): Promise<void> => {
  parseTrustDomain(trustDomain);
  checkWritableDirectory(stateDirectory, '--state-dir');
  if (listen.port === 0) return;
  const probe = await Listener.open({ ...listen, tls: {} }, (_, response) => response.destroy());
  await probe[Symbol.asyncDispose]();
};
