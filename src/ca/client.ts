// An admin's client of the CA: the signer apart, when the credential names one, else the registry, in whose process the CA is.

import { type Client, createClient } from '@connectrpc/connect';
import { CaService } from '../api/generated/vl3/v1/ca_pb.js';
import type { Identity } from '../identity/identity.ts';
import { readAdminCredential } from '../identity/identity-file.ts';
import { clientTlsOptions } from '../identity/tls.ts';
import { type Connected, withVl3Errors } from '../registry/client.ts';
import { connectRegistry } from '../registry/connection.ts';

export type CaClient = Client<typeof CaService>;

const connect = (identity: Identity): Connected<CaClient> => {
  const { registries, signers, trustBundle } = identity;
  const connection = connectRegistry({
    registries: signers ?? registries,
    ...(signers !== undefined && { who: 'signer' }),
    tls: clientTlsOptions(trustBundle, identity, signers === undefined ? 'registry' : 'ca'),
  });
  return {
    client: withVl3Errors(createClient(CaService, connection.transport)),
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
};

/** Reads the credential file; connects at the first call. Throws Vl3Error when the file is missing or damaged. */
export const connectCa = async (file: string): Promise<Connected<CaClient>> =>
  connect(await readAdminCredential(file));

/** As connectCa, of a signer apart; undefined where there is none. */
export const connectSigner = async (
  file: string,
): Promise<(Connected<CaClient> & { readonly identity: Identity }) | undefined> => {
  const identity = await readAdminCredential(file);
  if (identity.signers === undefined) return undefined;
  const { client, ...rest } = connect(identity);
  return { client, identity, [Symbol.asyncDispose]: () => rest[Symbol.asyncDispose]() };
};
