// The names of one network on this node: what is attached here, and what other nodes signed of theirs, served to the
// network's pods at this node's gateway addresses. Works from what the agent knows: without a registry it goes on. A node's
// names count while its routes do: they go with its record, and when it is found to be lost.

import type { Logger } from 'pino';
import { type Address, type Prefix, prefixContains } from '../../native-free/ipam/prefix.ts';
import type { Moment } from '../../native-free/moment.ts';
import { answer, type Zone } from '../../native-free/names/answer.ts';
import { canBeZone, zoneOf } from '../../native-free/names/name.ts';
import { NameTable } from '../../native-free/names/name-table.ts';
import type { NodeNames } from '../../native-free/names/signed-names.ts';
import { NameServer, type NameServerCounts } from './name-server.ts';
import type { NamesBook } from './names-book.ts';
import type { OwnNames } from './own-names.ts';

export interface NetworkNamesOptions {
  readonly node: string;
  readonly network: string;
  /** Path of its router namespace. */
  readonly netns: string;
}

/** Another node that is on the network and not lost. */
export interface NamingPeer {
  readonly node: string;
  /** Names point to these and to nothing else. The same array while they are the same. */
  readonly prefixes: readonly Prefix[];
}

export interface NetworkNamesDeps {
  readonly pools: () => readonly Prefix[];
  readonly gateways: () => readonly Address[];
  readonly own: OwnNames;
  readonly book: NamesBook;
  readonly peers: () => readonly NamingPeer[];
  /** All networks of this node. */
  readonly networks: () => readonly string[];
  readonly clock: { readonly monotonic: () => number; readonly moment: () => Moment };
  readonly logger: Logger;
}

/** Sockets and peers are looked at this often; names that came, and what is attached here, at once. */
const LOOK_MS = 1_000;
/** Of each tick, for signatures: the agent has other work. */
const BUDGET_MS = 20;

export class NetworkNames implements AsyncDisposable {
  readonly #options: NetworkNamesOptions;
  readonly #deps: NetworkNamesDeps;
  readonly #table = new NameTable();
  readonly #server: NameServer;
  /** What is in the table, by node. */
  readonly #taken = new Map<string, { readonly names: NodeNames; readonly prefixes: readonly Prefix[] }>();
  #problem = '';
  #lookAt = 0;

  constructor(options: NetworkNamesOptions, deps: NetworkNamesDeps) {
    const { network, netns } = options;
    const { clock, logger } = deps;
    this.#options = options;
    this.#deps = deps;
    this.#server = new NameServer(
      { netns },
      {
        answer: (query, transport) => answer(query, this.#zone, transport),
        now: clock.monotonic,
        onError: (error) => logger.warn({ err: error, network }, 'a socket for names was lost'),
      },
    );
  }

  get problems(): string[] {
    return [
      ...(this.#problem === '' ? [] : [this.#problem]),
      ...(canBeZone(zoneOf(this.#options.network))
        ? []
        : ['its names are not served: its domain is called longer, or otherwise, than names can be']),
      ...this.#deps.own.problems,
      ...[...this.#deps.book.refusals].map(
        ([node, reason]) => `the names of ${node} were refused: ${reason}`,
      ),
    ];
  }

  get counts(): NameServerCounts {
    return this.#server.counts;
  }

  get #zone(): Zone {
    const { pools, gateways, networks } = this.#deps;
    const others = networks().map(zoneOf);
    return {
      network: this.#options.network,
      pools: pools(),
      gateways: gateways(),
      names: this.#table,
      others,
    };
  }

  /** What is attached here has changed. */
  attachmentsChanged(): void {
    this.#table.set(this.#options.node, this.#deps.own.all);
  }

  /** To be called several times a second, once the router stands. */
  tick(): void {
    const { book, clock } = this.#deps;
    const at = clock.monotonic();
    const isDue = at >= this.#lookAt;
    if (isDue) {
      this.#lookAt = at + LOOK_MS;
      this.#serve();
    }
    let hasChanged = false;
    while (clock.monotonic() - at < BUDGET_MS) {
      const changed = book.look(clock.moment());
      if (changed === false) break;
      hasChanged ||= changed !== undefined;
    }
    if (isDue || hasChanged) this.#takeOver();
  }

  #serve(): void {
    try {
      this.#server.serve(this.#deps.gateways());
      this.#problem = '';
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#problem === '')
        this.#deps.logger.warn({ network: this.#options.network, reason }, 'names are not served');
      this.#problem = `names are not served: ${reason}`;
    }
  }

  /** Brings the table in step with who is there and what he says. */
  #takeOver(): void {
    const { book, peers, clock } = this.#deps;
    const now = clock.moment();
    const present = new Set<string>();
    for (const { node, prefixes } of peers()) {
      const names = book.names(node, now);
      if (names === undefined || node === this.#options.node) continue;
      present.add(node);
      const taken = this.#taken.get(node);
      if (taken?.names === names && taken.prefixes === prefixes) continue;
      this.#taken.set(node, { names, prefixes });
      this.#table.set(node, namesWithin(names, prefixes));
    }
    for (const node of this.#taken.keys()) {
      if (present.has(node)) continue;
      this.#taken.delete(node);
      this.#table.set(node, []);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

/** A node names what is its own. */
const namesWithin = ({ names }: NodeNames, prefixes: readonly Prefix[]) =>
  names.map(({ name, addresses }) => ({
    name,
    addresses: addresses.filter((address) => prefixes.some((prefix) => prefixContains(prefix, address))),
  }));
