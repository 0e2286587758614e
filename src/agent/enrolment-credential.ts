// What a node shows the registry when it enrols: a join token, which is good once, or a token of its Kubernetes cluster, which the
// kubelet renews, so that it is read anew for each attempt. Not here: when it enrols (enrolment.ts).

import { closeSync, openSync, readSync } from 'node:fs';
import { hostname } from 'node:os';
import { type ErrorCode, Vl3Error } from '../../native-free/error.ts';
import { type DomainAddress, parseDomainAddress } from '../identity/domain-address.ts';
import { enroll, enrollByCluster } from '../identity/enroll.ts';
import type { Identity } from '../identity/identity.ts';
import { parseJoinToken } from '../identity/token.ts';

/** A node of a Kubernetes cluster; one of `domain` and `domainFile` is set. */
export interface ClusterCredential {
  /** Where the kubelet keeps the service-account token for the registry. */
  readonly tokenFile: string;
  /** What `vl3 registry domain` prints. */
  readonly domain?: string;
  /** As the registry writes it for its own cluster; it may not be there yet. */
  readonly domainFile?: string;
}

export interface CredentialOptions {
  /** A join token; beats `cluster`. */
  readonly token?: string;
  readonly cluster?: ClusterCredential;
}

interface Attempt {
  /** What the node is called, if that is known or asked for. */
  readonly name?: string | undefined;
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly now: () => number;
}

export interface EnrolmentCredential {
  /** What comes after "enrols anew". */
  readonly means: string;
  /** What to do once it is refused for good. */
  readonly remedy: string;
  /** Throws Vl3Error when it can never do for a node of this domain (undefined: of any). */
  check(trustDomain?: string): void;
  /** The identity is stored when this resolves. `trustDomain`: as with `check`. */
  enroll(attempt: Attempt, trustDomain?: string): Promise<Identity>;
  /** Whether a failure of this code stays one, also of a node that never enrolled (`isFirst`). */
  isFinal(code: ErrorCode, isFirst: boolean): boolean;
}

export const credentialOf = ({ token, cluster }: CredentialOptions): EnrolmentCredential | undefined => {
  if (token !== undefined) return byJoinToken(token);
  return cluster && byCluster(cluster);
};

/**
 * It was used, has expired, was revoked, is of another node or domain, or is no token. Everything else may pass, or be set
 * right.
 */
const TOKEN_IS_BAD = new Set<ErrorCode>(['permission-denied', 'failed-precondition', 'invalid-argument']);

export const byJoinToken = (text: string): EnrolmentCredential => {
  const parse = (trustDomain?: string) => {
    const token = parseJoinToken(text);
    mustBeOf(token, trustDomain, 'join token');
    return token;
  };
  return {
    means: 'with its join token',
    remedy: 'start the agent with a new join token (--token)',
    check: (trustDomain) => void parse(trustDomain),
    enroll: async ({ name, directory, signal, now }, trustDomain) =>
      await enroll({ token: parse(trustDomain), node: name ?? hostNode(), directory, signal }, now),
    isFinal: (code, isFirst) => (isFirst ? code !== 'unavailable' : TOKEN_IS_BAD.has(code)),
  };
};

/** What is wrong on this machine; what a registry refuses, its admin can set right. */
const MACHINE_IS_WRONG = new Set<ErrorCode>(['failed-precondition', 'invalid-argument']);

export const byCluster = ({ tokenFile, domain, domainFile }: ClusterCredential): EnrolmentCredential => {
  const parse = (text: string, trustDomain?: string): DomainAddress => {
    const address = parseDomainAddress(text);
    mustBeOf(address, trustDomain, 'domain address');
    return address;
  };
  return {
    means: 'by the word of its Kubernetes cluster',
    remedy: 'mend that, or start the agent with a join token (--token)',
    check: (trustDomain) => void (domain !== undefined && parse(domain, trustDomain)),
    enroll: async ({ name: node, directory, signal, now }, trustDomain) => {
      const kubernetesToken = readNow(tokenFile, 'the kubelet keeps the token for the registry');
      const text = domain ?? readNow(domainFile ?? '', 'the registry writes its address, once it runs,');
      return await enrollByCluster(
        { domain: parse(text, trustDomain), kubernetesToken, node, directory, signal },
        now,
      );
    },
    isFinal: (code, isFirst) => isFirst && MACHINE_IS_WRONG.has(code),
  };
};

const mustBeOf = (address: DomainAddress, trustDomain: string | undefined, what: string): void => {
  if (trustDomain === undefined || address.trustDomain === trustDomain) return;
  throw new Vl3Error(
    'failed-precondition',
    `the ${what} is of ${address.trustDomain}, and this node of ${trustDomain}: use a ${what} of ${trustDomain}, or run "vl3 agent clean" and enrol anew`,
  );
};

const MAX_FILE = 16_384;

/** Throws Vl3Error('unavailable') while there is nothing in it. */
const readNow = (path: string, who: string): string => {
  let text = '';
  let why = 'it is empty';
  try {
    const fd = openSync(path, 'r');
    try {
      const bytes = Buffer.alloc(MAX_FILE + 1);
      const length = readSync(fd, bytes);
      if (length > MAX_FILE) why = `it is longer than ${MAX_FILE} bytes`;
      else text = bytes.toString('utf8', 0, length).trim();
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    why = error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
  if (text === '') throw new Vl3Error('unavailable', `${who} in ${path}, which cannot be read yet (${why})`);
  return text;
};

/** The host's name as a DNS label. */
const hostNode = (): string => (hostname().split('.')[0] ?? '').toLowerCase().replaceAll('_', '-');
