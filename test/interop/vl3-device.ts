// A standalone vl3 device in a host of the lab: started, configured and asked like the stock one beside it
// (test/lab/wireguard-go.ts).

import { rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { Daemon } from '../lab/daemon.ts';
import type { Host } from '../lab/host.ts';
import type { Lab } from '../lab/lab.ts';
import { bundled } from '../lab/program.ts';
import type { KeyPair } from '../lab/wireguard-go.ts';
import type { StandaloneConfig, StandalonePeer, StandaloneRequest, StandaloneStatus } from './standalone.ts';

const PROGRAM = fileURLToPath(new URL('./standalone.ts', import.meta.url));

export interface Vl3DeviceOptions {
  keys: KeyPair;
  listenPort?: number;
  /** Addresses with prefix length. */
  addresses: readonly string[];
  peers: readonly StandalonePeer[];
  mtu?: number;
}

let made = 0;

export class Vl3Device {
  readonly interface: string;
  readonly #host: Host;
  readonly #config: StandaloneConfig;
  readonly #file: string;
  readonly #options: Vl3DeviceOptions;
  #daemon: Daemon | undefined;

  private constructor(lab: Lab, host: Host, options: Vl3DeviceOptions) {
    made += 1;
    const name = `vl3-${made}`;
    this.interface = name;
    this.#host = host;
    this.#options = options;
    this.#file = join(lab.scratch, `${name}.json`);
    this.#config = {
      privateKey: options.keys.privateKey,
      listenPort: options.listenPort ?? 51820,
      tun: name,
      netns: undefined,
      mtu: options.mtu ?? 1420,
      controlSocket: join(lab.scratch, `${name}.sock`),
      peers: options.peers,
    };
  }

  /** Starts it in `host`; resolves once it is up, with routes to its peers' allowed IPs. */
  static async start(lab: Lab, host: Host, options: Vl3DeviceOptions): Promise<Vl3Device> {
    const device = new Vl3Device(lab, host, options);
    await device.start();
    return device;
  }

  /** Starts it again, as a new process that remembers nothing. */
  async start(): Promise<void> {
    const { controlSocket, mtu } = this.#config;
    writeFileSync(this.#file, JSON.stringify(this.#config), { mode: 0o600 });
    rmSync(controlSocket, { force: true });
    this.#daemon = this.#host.start([...(bundled('standalone') ?? [process.execPath, PROGRAM]), this.#file]);
    await this.#daemon.printed(/ready/, 20_000);
    const { addresses, peers } = this.#options;
    const assign = addresses.map(
      (a) => `address replace ${a} dev ${this.interface}${a.includes(':') ? ' nodad' : ''}`,
    );
    const routes = peers.flatMap(({ allowedIps }) =>
      allowedIps.map((p) => `route replace ${p} dev ${this.interface}`),
    );
    await this.#host.ip(...assign, `link set ${this.interface} mtu ${mtu} up`, ...routes);
  }

  async status(): Promise<StandaloneStatus> {
    return await this.#ask({ do: 'status' });
  }

  async setPeer(peer: StandalonePeer): Promise<void> {
    await this.#ask({ do: 'set-peer', peer });
  }

  async removePeer(publicKey: string): Promise<void> {
    await this.#ask({ do: 'remove-peer', publicKey });
  }

  async #ask(request: StandaloneRequest): Promise<StandaloneStatus> {
    const connection = connect(this.#config.controlSocket);
    connection.end(JSON.stringify(request));
    return JSON.parse(await text(connection));
  }

  /** Ends it; its interface goes with it, unless it is killed. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#daemon?.stop(signal);
  }
}
