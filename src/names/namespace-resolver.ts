// The resolver of a namespace that has nothing but vl3's interfaces, on its loopback: names of its networks come from their
// gateways, all others from the machine's own resolvers, and every question is answered, so that no library waits. It serves
// that namespace alone. What is asked below .vl3 goes to no other resolver.

import { readFile } from 'node:fs/promises';
import { parseAddress } from '../../native-free/ipam/prefix.ts';
import { NXDOMAIN, REFUSED, SERVFAIL } from '../../native-free/names/dns-constants.ts';
import { gatewaysOfRoutes } from '../../native-free/names/gateways-of-routes.ts';
import { DOMAIN } from '../../native-free/names/name.ts';
import { parseQuery } from '../../native-free/names/query.ts';
import { parseResolvConf } from '../../native-free/names/resolv-conf.ts';
import { bareResponse, encodeResponse, type Transport } from '../../native-free/names/response.ts';
import { exchange, type NameServerAddress } from './exchange.ts';
import { NAME_PORT, NameServer } from './name-server.ts';
import { RESOLVER_ADDRESS } from './resolver-address.ts';

/** A gateway is next door. */
const GATEWAY_TIMEOUT_MS = 1_000;
/** Of each of the machine's resolvers; libraries give up after 5 s. */
const UPSTREAM_TIMEOUT_MS = 2_000;

export interface NamespaceResolverOptions {
  /** The first process in the namespace. */
  readonly pid: number;
  /** The machine's own resolv.conf, read anew for each question. */
  readonly resolvConf: string;
}

export class NamespaceResolver implements AsyncDisposable {
  readonly #options: NamespaceResolverOptions;
  readonly #server: NameServer;

  /** Throws Vl3Error when it cannot serve there. */
  constructor(options: NamespaceResolverOptions) {
    this.#options = options;
    this.#server = new NameServer(
      { netns: this.#netns },
      {
        answer: (query, transport) => this.#answer(query, transport),
        now: () => performance.now(),
        onError: () => {},
      },
    );
    this.#server.serve([parseAddress(RESOLVER_ADDRESS)]);
  }

  get #netns(): string {
    return `/proc/${this.#options.pid}/ns/net`;
  }

  async #answer(query: Uint8Array, transport: Transport): Promise<Uint8Array | undefined> {
    const parsed = parseQuery(query);
    if (parsed.kind === 'dropped') return undefined;
    if (parsed.kind === 'refused') return bareResponse(parsed.id, parsed.flags, parsed.rcode);
    const { labels } = parsed.query;
    const isOurs = labels.at(-1) === DOMAIN;
    const isReverse = labels.at(-1) === 'arpa';
    if (isOurs || isReverse) {
      for (const server of await this.#gateways()) {
        const response = await exchange(query, server, transport, GATEWAY_TIMEOUT_MS);
        // A gateway refuses what is not of its network.
        if (response !== undefined && rcodeOf(response) !== REFUSED) return response;
      }
    }
    if (!isOurs) {
      for (const server of await this.#upstreams()) {
        const response = await exchange(query, server, transport, UPSTREAM_TIMEOUT_MS);
        if (response !== undefined) return response;
      }
    }
    const rcode = isOurs ? NXDOMAIN : SERVFAIL;
    return encodeResponse(
      parsed.query,
      { rcode, isAuthoritative: false, answers: [], authorities: [] },
      transport,
    );
  }

  async #gateways(): Promise<NameServerAddress[]> {
    const read = (file: string): Promise<string> =>
      readFile(`/proc/${this.#options.pid}/net/${file}`, 'latin1').catch(() => '');
    const gateways = gatewaysOfRoutes(await read('route'), await read('ipv6_route'));
    return gateways.map((address) => ({ address, port: NAME_PORT, netns: this.#netns }));
  }

  async #upstreams(): Promise<NameServerAddress[]> {
    const text = await readFile(this.#options.resolvConf, 'utf8').catch(() => '');
    return parseResolvConf(text).servers.map((address) => ({ address, port: NAME_PORT, netns: undefined }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

const rcodeOf = (response: Uint8Array): number => (response[3] ?? 0) & 0xf;
