// Where a domain's nodes are, as far as its registry knows: the addresses it saw them come from and those their records
// name. A pool that holds one of them would take its traffic in every workload. Only for warnings: records are read unverified.

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import { type Address, parseAddress } from '../ipam/prefix.ts';
import { all, below } from './keys.ts';
import type { State } from './state.ts';

export const SURROUNDINGS_READS = [
  all(below.nodes),
  all(below.sightings),
  all(below.members()),
  all(below.records()),
];

export interface NodeAddress {
  readonly node: string;
  readonly address: Address;
}

export const nodeAddresses = (state: State): NodeAddress[] => {
  const found = new Map<string, NodeAddress>();
  const add = (node: string, text: string): void => {
    const address = tryAddress(text);
    if (address !== undefined) found.set(`${node} ${text}`, { node, address });
  };
  for (const { value } of state.nodes()) {
    const seen =
      value.deletedAt === undefined ? state.sighting(value.name)?.value.observedAddress : undefined;
    if (seen !== undefined) add(value.name, seen);
  }
  for (const { value } of state.members()) {
    const record = state.record(value.network, value.node)?.value.record;
    for (const { address } of record === undefined ? [] : endpointsIn(record)) add(value.node, address);
  }
  return [...found.values()];
};

const tryAddress = (text: string): Address | undefined => {
  try {
    return parseAddress(text.replace(/^::ffff:(?=\d+\.)/i, ''));
  } catch (error) {
    if (error instanceof Vl3Error) return undefined;
    throw error;
  }
};

const endpointsSchema = z.object({ endpoints: z.array(z.object({ address: z.string() })) });

const endpointsIn = (record: string): readonly { readonly address: string }[] => {
  try {
    return endpointsSchema.safeParse(JSON.parse(atob(record))).data?.endpoints ?? [];
  } catch {
    return [];
  }
};
