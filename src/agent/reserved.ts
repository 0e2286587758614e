// What workloads on this node reach outside of vl3 and no route shows: the ranges the operator named (a cluster's pods and
// services), the node's own addresses, the resolvers. A network whose pool overlaps them is refused at attach.

import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { formatPrefix, hostPrefix, type Prefix, parseAddress } from '../../native-free/ipam/prefix.ts';
import { readNamespace } from '../netns/ip.ts';
import type { Taken } from '../netns/pod-routes.ts';
import type { Tools } from '../netns/tool.ts';

export interface ReservedOptions {
  /** By --reserved-range. */
  readonly ranges: readonly Prefix[];
}

export interface ReservedDeps {
  readonly tools: Tools;
  /** Milliseconds that only grow. */
  readonly now: () => number;
}

/** How long the node's addresses are believed. */
const NODE_ADDRESSES_MS = 2_000;

/** resolv.conf is short; what pods have in its place may be anything. */
const MAX_RESOLV_CONF = 65_536;

export class Reserved {
  readonly #ranges: readonly Taken[];
  readonly #deps: ReservedDeps;
  #node: { readonly taken: Promise<Taken[]>; readonly until: number } | undefined;

  constructor({ ranges }: ReservedOptions, deps: ReservedDeps) {
    this.#ranges = ranges.map((prefix) => ({
      prefix,
      by: `${formatPrefix(prefix)}, which is reserved on this node (--reserved-range)`,
    }));
    this.#deps = deps;
  }

  /** What a workload at this path of a network namespace must keep reaching. */
  async of(netns: string): Promise<Taken[]> {
    const [addresses, ...resolvers] = await Promise.all([
      this.#nodeAddresses(),
      readResolvers('/etc/resolv.conf', 'this node'),
      ...resolverFiles(netns).map((path) => readResolvers(path, 'the workload')),
    ]);
    return [...this.#ranges, ...addresses, ...resolvers.flat()];
  }

  /** Read once for many workloads that come at the same time. */
  #nodeAddresses(): Promise<Taken[]> {
    const now = this.#deps.now();
    if (this.#node === undefined || now >= this.#node.until)
      this.#node = { taken: this.#readNodeAddresses(), until: now + NODE_ADDRESSES_MS };
    return this.#node.taken;
  }

  async #readNodeAddresses(): Promise<Taken[]> {
    const { links } = await readNamespace(this.#deps.tools, undefined);
    return links
      .filter(({ loopback }) => !loopback)
      .flatMap(({ name, addresses }) =>
        addresses
          .filter(({ global }) => global)
          .map(({ address }) => {
            const prefix = hostPrefix(address);
            return { prefix, by: `${formatPrefix(prefix)}, an address of this node (on ${name})` };
          }),
      );
  }
}

/** The workload's own resolv.conf: of the process that the path names, or of a named namespace as iproute2 has it. */
const resolverFiles = (netns: string): string[] => {
  const [, process] = /^\/proc\/(\d+)\//.exec(netns) ?? [];
  if (process !== undefined) return [`/proc/${process}/root/etc/resolv.conf`];
  const [, name] = /^(?:\/var)?\/run\/netns\/([^/]+)$/.exec(netns) ?? [];
  return name === undefined ? [] : [`/etc/netns/${name}/resolv.conf`];
};

/** None when it cannot be read. It may be a workload's: a FIFO must not hold us up, nor a long file fill the memory. */
const readResolvers = async (path: string, whose: string): Promise<Taken[]> => {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await file.stat()).isFile()) return [];
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_RESOLV_CONF), 0, MAX_RESOLV_CONF, 0);
    return resolversIn(buffer.toString('latin1', 0, bytesRead), whose);
  } catch {
    return [];
  }
};

/** The name servers of a resolv.conf(5). */
export const resolversIn = (text: string, whose: string): Taken[] =>
  text.split('\n').flatMap((line) => {
    const [keyword, address = ''] = line.trim().split(/\s+/);
    if (keyword !== 'nameserver') return [];
    try {
      const prefix = hostPrefix(parseAddress(address.replace(/%.*$/, '')));
      return [{ prefix, by: `${address}, a resolver of ${whose}` }];
    } catch {
      return [];
    }
  });
