// One end of the suite: a WireGuard device of either maker, started as people start it and driven by Debian's wg alone, so
// that every step can be taken by each maker against each.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { untilListening } from '../lab/control-socket.ts';
import type { Daemon } from '../lab/daemon.ts';
import type { Host, Result } from '../lab/host.ts';
import type { Lab } from '../lab/lab.ts';
import { vl3 } from '../lab/program.ts';
import { wireguardKeys } from '../lab/wireguard-go.ts';

export type Maker = 'vl3' | 'wireguard-go';

/** What `wg show NAME dump` says of a peer. */
export interface PeerLine {
  readonly publicKey: string;
  /** `address:port`, v6 in brackets; `(none)`. */
  readonly endpoint: string;
  readonly allowedIps: string;
  /** Seconds since 1970; 0: never. */
  readonly lastHandshake: number;
  readonly rxBytes: number;
  readonly txBytes: number;
}

let made = 0;

export class End implements AsyncDisposable {
  readonly maker: Maker;
  /** Where it was started: its UDP port is there. */
  readonly host: Host;
  readonly interface: string;
  readonly keys = wireguardKeys();
  /** Where its interface is. */
  inside: Host;
  readonly #lab: Lab;
  readonly #daemon: Daemon;
  #files = 0;

  /** Resolves once interface and control socket are there; it has no key and is down. */
  static async start(lab: Lab, host: Host, maker: Maker): Promise<End> {
    made += 1;
    const name = `${lab.name}-s${made}`;
    const socket = `/var/run/wireguard/${name}.sock`;
    lab.ledger.record({ kind: 'file', path: socket });
    const daemon =
      maker === 'vl3'
        ? host.start(vl3('device', '--foreground', name))
        : host.start(['wireguard-go', '--foreground', name], { env: { LOG_LEVEL: 'error' } });
    await untilListening(daemon, socket);
    return new End(lab, host, maker, name, daemon);
  }

  private constructor(lab: Lab, host: Host, maker: Maker, name: string, daemon: Daemon) {
    this.#lab = lab;
    this.host = host;
    this.inside = host;
    this.maker = maker;
    this.interface = name;
    this.#daemon = daemon;
  }

  get pid(): number {
    return this.#daemon.pid;
  }

  get isRunning(): boolean {
    return this.#daemon.running;
  }

  /** What it printed. */
  get output(): string {
    return this.#daemon.output();
  }

  get socket(): string {
    return `/var/run/wireguard/${this.interface}.sock`;
  }

  // --- what wg does

  async wg(command: string, ...args: string[]): Promise<string> {
    return await this.#lab.run(['wg', command, this.interface, ...args]);
  }

  async tryWg(command: string, ...args: string[]): Promise<Result> {
    return await this.#lab.tryRun(['wg', command, this.interface, ...args]);
  }

  async set(...args: string[]): Promise<void> {
    await this.wg('set', ...args);
  }

  /** Changes the peer whose key is that of `peer`. */
  async setPeer(peer: End, ...args: string[]): Promise<void> {
    await this.set('peer', peer.keys.publicKey, ...args);
  }

  async setconf(text: string): Promise<void> {
    await this.wg('setconf', this.file(text));
  }

  async show(what: string): Promise<string> {
    return (await this.wg('show', what)).trim();
  }

  async peers(): Promise<PeerLine[]> {
    const [, ...lines] = (await this.wg('show', 'dump')).trim().split('\n');
    return lines.map((line) => {
      const [publicKey = '', , endpoint = '', allowedIps = '', handshake, rx, tx] = line.split('\t');
      return {
        publicKey,
        endpoint,
        allowedIps,
        lastHandshake: Number(handshake),
        rxBytes: Number(rx),
        txBytes: Number(tx),
      };
    });
  }

  async peer(peer: End): Promise<PeerLine> {
    const found = (await this.peers()).find(({ publicKey }) => publicKey === peer.keys.publicKey);
    if (found === undefined) throw new Error(`${this.interface} does not have that peer`);
    return found;
  }

  /** The path of a file that only root can read. */
  file(text: string): string {
    this.#files += 1;
    const path = join(this.#lab.scratch, `${this.interface}-${this.#files}`);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }

  // --- what ip does

  /** Moves its interface to another host; its port stays. */
  async moveTo(host: Host): Promise<void> {
    await this.inside.ip(`link set ${this.interface} netns ${host.netns.slice('/run/netns/'.length)}`);
    this.inside = host;
  }

  async up(addresses: readonly string[], routes: readonly string[], mtu = 1420): Promise<void> {
    await this.inside.ip(
      ...addresses.map((a) => `address add ${a} dev ${this.interface}${a.includes(':') ? ' nodad' : ''}`),
      `link set ${this.interface} mtu ${mtu} up`,
      ...routes.map((route) => `route replace ${route} dev ${this.interface}`),
    );
  }

  async setLink(...words: string[]): Promise<void> {
    await this.inside.ip(`link set ${this.interface} ${words.join(' ')}`);
  }

  /** Megabytes it has in memory. */
  get rssMb(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'latin1');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  }

  /** Ends it, and says what it printed: nothing, if all was well. */
  async stop(): Promise<string> {
    await this.#daemon.stop();
    return this.#daemon.output();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon.stop();
  }
}
