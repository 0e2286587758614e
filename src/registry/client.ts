// Typed clients of the registry: an admin's, from the credential file, and an agent's, from its identity. They throw
// Vl3Error only; 'unavailable' names the addresses that were tried.

import { type CallOptions, type Client, createClient } from '@connectrpc/connect';
import type { VerifyGrant } from '../../native-free/admission/grant.ts';
import { fromConnectError } from '../api/errors.ts';
import { AdminService } from '../api/generated/vl3/v1/admin_pb.js';
import { AdmissionService } from '../api/generated/vl3/v1/admission_pb.js';
import { AgentService } from '../api/generated/vl3/v1/agent_pb.js';
import { DomainService } from '../api/generated/vl3/v1/ca_pb.js';
import { CredentialService } from '../api/generated/vl3/v1/credential_pb.js';
import { FederationService } from '../api/generated/vl3/v1/federation_pb.js';
import { createGrantVerifier } from '../identity/grant-signer.ts';
import type { Identity } from '../identity/identity.ts';
import { readAdminCredential } from '../identity/identity-file.ts';
import { clientTlsOptions } from '../identity/tls.ts';
import { connectRegistry } from './connection.ts';

export type AdminClient = Client<typeof AdminService>;
export type CredentialClient = Client<typeof CredentialService>;
export type AdmissionClient = Client<typeof AdmissionService>;
export type AgentClient = Client<typeof AgentService>;
export type DomainClient = Client<typeof DomainService>;
export type FederationClient = Client<typeof FederationService>;

export interface Connected<C> extends AsyncDisposable {
  readonly client: C;
}

export interface ClientOptions {
  readonly connectTimeoutMs?: number;
  /** For each call that is not a stream. */
  readonly callTimeoutMs?: number;
  readonly maxAnswerBytes?: number;
}

/** More than a network's whole snapshot (reconcile/told-bounds.ts); what is announced longer is not read. */
const MAX_PARTNER_ANSWER = 48 * 1024 * 1024;

/** Reads the credential file; connects at the first call. Throws Vl3Error when the file is missing or damaged. */
export const connectAdmin = async (
  file: string,
  options?: ClientOptions,
): Promise<Connected<AdminClient>> => {
  const connection = connect(await readAdminCredential(file), options);
  return {
    client: withVl3Errors(createClient(AdminService, connection.transport)),
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
};

/** As connectAdmin, for the rules of admission; `verify` says what the credential's domain has signed. */
export const connectAdmission = async (
  file: string,
  options?: ClientOptions,
): Promise<Connected<AdmissionClient> & { readonly verify: VerifyGrant }> => {
  const credential = await readAdminCredential(file);
  const connection = connect(credential, options);
  return {
    client: withVl3Errors(createClient(AdmissionService, connection.transport)),
    verify: createGrantVerifier(credential.trustBundle),
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
};

/** As connectAdmin, for credentials of operators. */
export const connectCredentials = async (
  file: string,
  options?: ClientOptions,
): Promise<Connected<CredentialClient>> => {
  const connection = connect(await readAdminCredential(file), options);
  return {
    client: withVl3Errors(createClient(CredentialService, connection.transport)),
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
};

/** As connectAdmin, for federations. */
export const connectFederation = async (
  file: string,
  options?: ClientOptions,
): Promise<Connected<FederationClient>> => {
  const connection = connect(await readAdminCredential(file), options);
  return {
    client: withVl3Errors(createClient(FederationService, connection.transport)),
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
};

/**
 * Connects at the first call, as the node that the identity names. An identity that was renewed needs a new client:
 * dispose of this one when its calls are done.
 */
export const connectAgent = (
  identity: Identity,
  options?: ClientOptions,
): Connected<AgentClient> & { readonly domain: DomainClient } => {
  const connection = connect(identity, options);
  return {
    client: withVl3Errors(createClient(AgentService, connection.transport)),
    domain: withVl3Errors(createClient(DomainService, connection.transport)),
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
};

/** As connectAgent, to the registries of another domain, which are verified by that domain's bundle. */
export const connectPartner = (
  identity: Identity,
  partner: Pick<Identity, 'registries' | 'trustBundle'>,
  options?: ClientOptions,
): Connected<AgentClient> =>
  connectAgent({ ...identity, ...partner }, { maxAnswerBytes: MAX_PARTNER_ANSWER, ...options });

const connect = (identity: Identity, options: ClientOptions | undefined) =>
  connectRegistry({
    ...options,
    registries: identity.registries,
    tls: clientTlsOptions(identity.trustBundle, identity),
    certificateChain: identity.certificateChain,
  });

/**
 * The same client, but what its calls and streams throw is a Vl3Error, and a reader that stops early ends the call: the
 * framework alone would leave the stream open.
 */
export const withVl3Errors = <C extends object>(client: C): C =>
  new Proxy(client, {
    get(target, name) {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== 'function') return method;
      return (request: unknown, options: CallOptions = {}): unknown => {
        const stop = new AbortController();
        const signal =
          options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
        const result: unknown = method.call(target, request, { ...options, signal });
        if (result instanceof Promise) {
          return result.catch((error: unknown) => {
            throw fromConnectError(error);
          });
        }
        return isAsyncIterable(result) ? untilStopped(result, stop) : result;
      };
    },
  });

const isAsyncIterable = (value: unknown): value is AsyncIterable<unknown> =>
  typeof value === 'object' && value !== null && Symbol.asyncIterator in value;

async function* untilStopped<T>(stream: AsyncIterable<T>, stop: AbortController): AsyncGenerator<T> {
  try {
    yield* stream;
  } catch (error) {
    throw fromConnectError(error);
  } finally {
    stop.abort();
  }
}
