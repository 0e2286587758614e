// Names served in one network namespace, by UDP and TCP on port 53 of some addresses in it. What is answered is decided by
// native-free/names/answer.ts; here are the sockets, and the limits of what an asker may cost.

import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import { type Address, formatAddress } from '../../native-free/ipam/prefix.ts';
import { QUERY_RATES, QueryLimiter, type QueryRates } from '../../native-free/names/query-limiter.ts';
import type { Transport } from '../../native-free/names/response.ts';
import { bindIn } from './namespace-socket.ts';

export const NAME_PORT = 53;

/** RFC 7766 asks for seconds; whoever has more to ask connects again. */
const TCP_IDLE_MS = 10_000;
const MAX_CONNECTIONS = 128;
const MAX_CONNECTIONS_OF_ONE = 8;
/** Of queries on a connection, and of answers that are not taken. */
const MAX_QUERY_BYTES = 1500;
const MAX_UNSENT_BYTES = 256 * 1024;
const LENGTH_BYTES = 2;

export interface NameServerOptions {
  /** Path of the namespace. */
  readonly netns: string;
  readonly rates?: QueryRates;
}

export interface NameServerDeps {
  /** The response to a query; undefined: none. */
  readonly answer: (
    query: Uint8Array,
    transport: Transport,
  ) => Uint8Array | undefined | Promise<Uint8Array | undefined>;
  /** Milliseconds that only grow. */
  readonly now: () => number;
  readonly onError: (error: Error) => void;
}

export interface NameServerCounts {
  readonly answered: number;
  /** Of too many, or not worth an answer. */
  readonly dropped: number;
}

interface Place {
  readonly address: Address;
  readonly udp: UdpSocket;
  readonly tcp: Server;
}

export class NameServer implements AsyncDisposable {
  readonly #options: NameServerOptions;
  readonly #deps: NameServerDeps;
  readonly #limiter: QueryLimiter;
  readonly #places = new Map<string, Place>();
  readonly #connections = new Set<Socket>();
  readonly #connectionsOf = new Map<string, number>();
  #answered = 0;
  #dropped = 0;
  #isClosed = false;

  constructor(options: NameServerOptions, deps: NameServerDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#limiter = new QueryLimiter(options.rates ?? QUERY_RATES);
  }

  get counts(): NameServerCounts {
    return { answered: this.#answered, dropped: this.#dropped };
  }

  /** Serves at these addresses and no others. Throws Vl3Error for the first where it cannot; call it again. */
  serve(addresses: readonly Address[]): void {
    if (this.#isClosed) return;
    const wanted = new Map(addresses.map((address) => [formatAddress(address), address]));
    for (const [text, place] of this.#places) {
      if (wanted.has(text)) continue;
      this.#places.delete(text);
      void closed(place);
    }
    for (const [text, address] of wanted)
      if (!this.#places.has(text)) this.#places.set(text, this.#open(address));
  }

  #open(address: Address): Place {
    const { netns } = this.#options;
    const udpFd = bindIn(netns, 'udp', address, NAME_PORT);
    const udp = createSocket({
      type: address.family === 4 ? 'udp4' : 'udp6',
      // Answers go to addresses: there is nothing to look up.
      lookup: (host, _, callback) => callback(null, host, address.family),
    });
    const lost = (error: Error): void => {
      this.#deps.onError(error);
      const place = this.#places.get(formatAddress(address));
      if (place?.udp !== udp) return;
      this.#places.delete(formatAddress(address));
      void closed(place);
    };
    udp.on('error', lost);
    udp.on('message', (query, from) => void this.#datagram(udp, query, from));
    udp.bind({ fd: udpFd });
    const tcp = createServer({ noDelay: true }, (socket) => this.#connection(socket));
    tcp.maxConnections = MAX_CONNECTIONS;
    tcp.on('error', lost);
    try {
      tcp.listen({ fd: bindIn(netns, 'tcp', address, NAME_PORT) });
    } catch (error) {
      udp.close();
      throw error;
    }
    return { address, udp, tcp };
  }

  async #datagram(udp: UdpSocket, query: Uint8Array, from: RemoteInfo): Promise<void> {
    const response = await this.#answer(query, from.address, 'udp');
    if (response === undefined || this.#isClosed) return;
    // Whoever does not take it asks again.
    udp.send(response, from.port, from.address, () => {});
  }

  async #answer(query: Uint8Array, source: string, transport: Transport): Promise<Uint8Array | undefined> {
    const response = this.#limiter.allow(source, this.#deps.now())
      ? await this.#deps.answer(query, transport)
      : undefined;
    if (response === undefined) this.#dropped++;
    else this.#answered++;
    return response;
  }

  #connection(socket: Socket): void {
    const source = socket.remoteAddress ?? '';
    const count = this.#connectionsOf.get(source) ?? 0;
    if (source === '' || count >= MAX_CONNECTIONS_OF_ONE) {
      socket.destroy();
      return;
    }
    this.#connectionsOf.set(source, count + 1);
    this.#connections.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#connections.delete(socket);
      const left = (this.#connectionsOf.get(source) ?? 1) - 1;
      if (left > 0) this.#connectionsOf.set(source, left);
      else this.#connectionsOf.delete(source);
    });
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
    void this.#converse(socket, source).catch(() => socket.destroy());
  }

  /** One query after the other, each after its length (RFC 1035 4.2.2). */
  async #converse(socket: Socket, source: string): Promise<void> {
    let waiting = new Uint8Array(0);
    for await (const chunk of socket) {
      waiting = joined(waiting, chunk);
      for (;;) {
        if (waiting.length < LENGTH_BYTES) break;
        const length = ((waiting[0] ?? 0) << 8) | (waiting[1] ?? 0);
        if (length > MAX_QUERY_BYTES) return void socket.destroy();
        if (waiting.length < LENGTH_BYTES + length) break;
        const response = await this.#answer(
          waiting.subarray(LENGTH_BYTES, LENGTH_BYTES + length),
          source,
          'tcp',
        );
        waiting = waiting.slice(LENGTH_BYTES + length);
        if (response === undefined || socket.writableLength > MAX_UNSENT_BYTES) return void socket.destroy();
        socket.write(joined(Uint8Array.of(response.length >> 8, response.length & 0xff), response));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const places = [...this.#places.values()];
    this.#places.clear();
    for (const socket of this.#connections) socket.destroy();
    await Promise.all(places.map(closed));
  }
}

const closed = async ({ udp, tcp }: Place): Promise<void> => {
  await Promise.all([
    new Promise<void>((resolve) => udp.close(() => resolve())),
    new Promise<void>((resolve) => tcp.close(() => resolve())),
  ]).catch(() => undefined);
};

const joined = (first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> => {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
};
