// Debian's wireguard-go, configured by Debian's wg: the other implementation to talk to and to be measured against.

import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { untilListening } from './control-socket.ts';
import type { Daemon } from './daemon.ts';
import type { Host } from './host.ts';
import type { Lab } from './lab.ts';

/** A static key pair, in WireGuard's base64. */
export interface KeyPair {
  privateKey: string;
  publicKey: string;
}

export interface WireguardPeer {
  publicKey: string;
  allowedIps: readonly string[];
  /** `address:port`, v6 in brackets. */
  endpoint?: string;
  presharedKey?: string;
  keepaliveSeconds?: number;
}

export interface WireguardGoOptions {
  /** Another one that behaves like it; `--foreground NAME` is added. */
  program?: readonly string[];
  keys: KeyPair;
  listenPort?: number;
  /** Addresses with prefix length. */
  addresses: readonly string[];
  peers: readonly WireguardPeer[];
  /** How many of them, the last ones, get routes; by default all. */
  routedPeers?: number;
  /** Where its TUN goes; by default it stays in the host. Its socket is always the host's. */
  tunIn?: Host;
  mtu?: number;
}

let made = 0;

export class WireguardGo {
  readonly interface: string;
  readonly #lab: Lab;
  readonly #daemon: Daemon;

  private constructor(lab: Lab, name: string, daemon: Daemon) {
    this.#lab = lab;
    this.interface = name;
    this.#daemon = daemon;
  }

  /** Starts it in `host`; resolves once it is configured and up, with routes to its peers' allowed IPs. */
  static async start(lab: Lab, host: Host, options: WireguardGoOptions): Promise<WireguardGo> {
    made += 1;
    // Its control socket is named after the interface in a directory all hosts share, so the name is unique.
    const name = `${lab.name}-w${made}`;
    const socket = `/var/run/wireguard/${name}.sock`;
    lab.ledger.record({ kind: 'file', path: socket });
    const { program = ['wireguard-go'] } = options;
    const daemon = host.start([...program, '--foreground', name], { env: { LOG_LEVEL: 'error' } });
    await untilListening(daemon, socket);
    const device = new WireguardGo(lab, name, daemon);
    await device.configure(options);
    const tunHost = options.tunIn ?? host;
    if (tunHost !== host)
      await host.ip(`link set ${name} netns ${tunHost.netns.slice('/run/netns/'.length)}`);
    const assign = options.addresses.map(
      (a) => `address add ${a} dev ${name}${a.includes(':') ? ' nodad' : ''}`,
    );
    const routed = options.peers.slice(-(options.routedPeers ?? options.peers.length));
    const routes = routed.flatMap((peer) => peer.allowedIps.map((p) => `route replace ${p} dev ${name}`));
    await tunHost.ip(...assign, `link set ${name} mtu ${options.mtu ?? 1420} up`, ...routes);
    return device;
  }

  get pid(): number {
    return this.#daemon.pid;
  }

  /** Replaces keys and peers. */
  async configure(options: Pick<WireguardGoOptions, 'keys' | 'listenPort' | 'peers'>): Promise<void> {
    const lines = ['[Interface]', `PrivateKey = ${options.keys.privateKey}`];
    if (options.listenPort !== undefined) lines.push(`ListenPort = ${options.listenPort}`);
    for (const peer of options.peers) {
      lines.push('[Peer]', `PublicKey = ${peer.publicKey}`, `AllowedIPs = ${peer.allowedIps.join(', ')}`);
      if (peer.endpoint !== undefined) lines.push(`Endpoint = ${peer.endpoint}`);
      if (peer.presharedKey !== undefined) lines.push(`PresharedKey = ${peer.presharedKey}`);
      if (peer.keepaliveSeconds !== undefined) lines.push(`PersistentKeepalive = ${peer.keepaliveSeconds}`);
    }
    const file = join(this.#lab.scratch, `${this.interface}.conf`);
    writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
    await this.#lab.run(['wg', 'setconf', this.interface, file]);
  }

  /** What `wg show NAME dump` says: the interface's line, then one of tab-separated fields per peer. */
  async dump(): Promise<string[][]> {
    const text = await this.#lab.run(['wg', 'show', this.interface, 'dump']);
    return text
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t'));
  }

  /** Ends it; its interface goes with it. */
  async stop(): Promise<void> {
    await this.#daemon.stop();
  }
}

export function wireguardKeys(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('x25519');
  // PKCS #8 and SubjectPublicKeyInfo (RFC 8410) both end with the 32 bytes of the key.
  const last32 = (der: Buffer) => der.subarray(-32).toString('base64');
  return {
    privateKey: last32(privateKey.export({ type: 'pkcs8', format: 'der' })),
    publicKey: last32(publicKey.export({ type: 'spki', format: 'der' })),
  };
}
