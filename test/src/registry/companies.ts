// Two companies' real registries over loopback, one inviting the other, and what nodes of the one say to the other's.

import { timestampMs } from '@bufbuild/protobuf/wkt';
import { onTestFinished } from 'vitest';
import type { JoinNetworkResponse, NetworkSnapshot } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { signNames, signRecord } from '../../../src/identity/record-signer.ts';
import { type AgentClient, connectPartner } from '../../../src/registry/client.ts';
import type { RegistryOptions } from '../../../src/registry/server.ts';
import { red, startDomain, type TestDomain, type TestNode } from './fixture.ts';

export const HOME = 'home.example';
export const PARTNER = 'partner.example';

/** Waits for something that comes, however long it takes. */
export const until = async <T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> => {
  for (let tries = 0; tries < 600; tries++) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('it never came to be');
};

export interface Companies {
  readonly home: TestDomain;
  readonly partner: TestDomain;
}

const standingMs = 200;

/** Two domains, and red at home. */
export const companies = async (
  options: Partial<RegistryOptions> = {},
  ofPartner: Partial<RegistryOptions> = {},
): Promise<Companies> => {
  const home = await startDomain({ trustDomain: HOME, partnerLinks: { standingMs }, ...options });
  const partner = await startDomain({ trustDomain: PARTNER, partnerLinks: { standingMs }, ...ofPartner });
  await (await home.admin()).createNetwork({ network: red });
  return { home, partner };
};

interface Constraints {
  readonly networks?: string[];
  readonly names?: string[];
  readonly prefixes?: string[];
}

export const invite = async (
  { home }: Pick<Companies, 'home'>,
  constraints: Constraints = {},
): Promise<string> => {
  const { invitation } = await (await home.federation()).invitePartner({
    trustDomain: PARTNER,
    constraints: { networks: ['red'], ...constraints },
  });
  return invitation;
};

/** Answers the invitation, which is used up. */
export const federate = async (both: Companies, constraints: Constraints = {}): Promise<string> => {
  const invitation = await invite(both, constraints);
  await (await both.partner.federation()).acceptInvitation({ invitation });
  return invitation;
};

/** Speaks to the registry at home as the partner's node. */
export const abroad = (
  { home }: { readonly home: Pick<TestDomain, 'registry'> },
  { identity }: Pick<TestNode, 'identity'>,
): AgentClient => {
  const { trustBundle } = home.registry.observed.context.signer;
  const connection = connectPartner(identity, { registries: home.registry.registries, trustBundle });
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return connection.client;
};

/** A rule for the partner's workloads with these labels; none: for all. */
export const admit = async (home: TestDomain, labels: Record<string, string> = {}): Promise<void> => {
  await (await home.admission()).createAdmissionRule({
    rule: { network: 'red', name: 'partner', trustDomain: PARTNER, labels },
  });
};

export const recordOf = (
  { identity }: Pick<TestNode, 'identity'>,
  { network, leases }: Pick<JoinNetworkResponse, 'network' | 'leases'>,
  { sequence = 1, key = 7, of = HOME }: { sequence?: number; key?: number; of?: string } = {},
) => {
  const signed = signRecord(identity, {
    network: network?.name ?? '',
    networkUid: network?.uid ?? '',
    home: of,
    publicKey: Buffer.alloc(32, key).toString('base64'),
    prefixes: leases.map(({ prefix, leasedAt }) => ({
      prefix,
      leasedAt: leasedAt === undefined ? 0 : timestampMs(leasedAt),
    })),
    endpoints: [],
    sequence,
  });
  return { ...signed, certificateChain: [...signed.certificateChain] };
};

export const namesOf = (
  { identity }: Pick<TestNode, 'identity'>,
  uid: string,
  names: Parameters<typeof signNames>[1]['names'],
  of = HOME,
) => {
  const signed = signNames(identity, { network: 'red', networkUid: uid, home: of, names, sequence: 1 });
  return { ...signed, certificateChain: [...signed.certificateChain] };
};

/** What somebody on red sees first. */
export const snapshot = async (client: AgentClient): Promise<NetworkSnapshot> => {
  for await (const { step } of client.watchNetwork({ network: 'red' }))
    if (step.case === 'snapshot') return step.value;
  throw new Error('the watch ended');
};
