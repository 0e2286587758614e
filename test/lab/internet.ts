// The internet of the lab: one router that joins clouds and public hosts, and the three kinds of cloud there are.
// Addresses are the documentation ranges (RFC 5737, RFC 3849); the underlay ranges of clouds behind NAT may repeat.
//
//   public cloud     nodes hold public addresses          core ── bridge ── node
//   one-to-one NAT   each node has a public address that  core ── gateway ── bridge ── node
//                    the gateway translates, both ways
//   port-restricted  nodes go out through the gateway's   core ── gateway ── bridge ── node
//   NAT              address, nothing new comes in

import type { Host } from './host.ts';
import type { Lab } from './lab.ts';

/** A node's place in a cloud. */
export interface Site {
  host: Host;
  /** Its own address. */
  address: string;
  /** Its own v6 address, where its cloud has v6. */
  address6?: string;
  /** Where others reach it: undefined behind a port-restricted NAT. */
  publicAddress?: string;
}

export interface Cloud {
  /** Adds a host; `last` is the last number of its address. */
  node(name: string, last: number): Promise<Site>;
}

export class Internet {
  /** The router; everything that crosses clouds passes here. */
  readonly core: Host;
  readonly #lab: Lab;
  #links = 0;

  private constructor(lab: Lab, core: Host) {
    this.#lab = lab;
    this.core = core;
  }

  static async create(lab: Lab): Promise<Internet> {
    return new Internet(lab, await lab.host('internet', { forward: true }));
  }

  /** A cloud whose nodes hold public addresses in `net` (three numbers: `198.51.100`), and in `net6` (`2001:db8:1::`). */
  async publicCloud(net: string, net6?: string): Promise<Cloud> {
    const bridge = this.#link();
    const gateway6 = net6 === undefined ? [] : [`${net6}1/64`];
    await this.#lab.bridge(this.core, bridge, [`${net}.1/24`, ...gateway6]);
    const node = async (name: string, last: number): Promise<Site> => {
      const host = await this.#lab.host(name);
      const address = `${net}.${last}`;
      const address6 = net6 === undefined ? undefined : `${net6}${last}`;
      const addresses = [`${address}/24`, ...(address6 === undefined ? [] : [`${address6}/64`])];
      await this.#lab.cable(
        { host, interface: 'eth0', addresses },
        { host: this.core, interface: this.#link(), bridge },
      );
      await host.ip(`route add default via ${net}.1`);
      if (net6 !== undefined) await host.ip(`route add default via ${net6}1`);
      return { host, address, publicAddress: address, ...(address6 === undefined ? {} : { address6 }) };
    };
    return { node };
  }

  /** A cloud whose gateway gives the node at `underlay`.N the public address `net`.N, and lets everything in. */
  async staticNatCloud(name: string, net: string, underlay: string): Promise<Cloud> {
    const gateway = await this.#gateway(name, net, underlay);
    const add = async (nodeName: string, last: number): Promise<Site> => {
      const address = `${underlay}.${last}`;
      const publicAddress = `${net}.${last}`;
      await gateway.ip(`address add ${publicAddress}/32 dev wan`);
      await gateway.nft(`
        table ip nat {
          chain in {
            type nat hook prerouting priority dstnat;
            iifname "wan" ip daddr ${publicAddress} dnat to ${address}
          }
          chain out {
            type nat hook postrouting priority srcnat;
            oifname "wan" ip saddr ${address} snat to ${publicAddress}
          }
        }`);
      return { host: await this.#inner(nodeName, gateway, underlay, last), address, publicAddress };
    };
    return { node: add };
  }

  /** A cloud whose nodes share the gateway's address `net`.2; only answers to what they sent come in. */
  async natCloud(name: string, net: string, underlay: string): Promise<Cloud> {
    const gateway = await this.#gateway(name, net, underlay);
    // The drop on input is part of it: a packet that came before the node's own would move the node's mapping.
    await gateway.nft(`
      table ip nat {
        chain out {
          type nat hook postrouting priority srcnat;
          oifname "wan" masquerade
        }
      }
      table inet closed {
        chain in {
          type filter hook input priority filter;
          iifname "wan" ct state new drop
        }
        chain through {
          type filter hook forward priority filter;
          iifname "wan" ct state new drop
        }
      }`);
    const node = async (nodeName: string, last: number): Promise<Site> => {
      return { host: await this.#inner(nodeName, gateway, underlay, last), address: `${underlay}.${last}` };
    };
    return { node };
  }

  async #gateway(name: string, net: string, underlay: string): Promise<Host> {
    const gateway = await this.#lab.host(`${name}-gw`, { forward: true });
    await this.#lab.cable(
      { host: this.core, interface: this.#link(), addresses: [`${net}.1/24`] },
      { host: gateway, interface: 'wan', addresses: [`${net}.2/24`] },
    );
    await gateway.ip(`route add default via ${net}.1`);
    await this.#lab.bridge(gateway, 'lan', [`${underlay}.1/24`]);
    return gateway;
  }

  async #inner(name: string, gateway: Host, underlay: string, last: number): Promise<Host> {
    const host = await this.#lab.host(name);
    await this.#lab.cable(
      { host, interface: 'eth0', addresses: [`${underlay}.${last}/24`] },
      { host: gateway, interface: `lan${last}`, bridge: 'lan' },
    );
    await host.ip(`route add default via ${underlay}.1`);
    return host;
  }

  #link(): string {
    this.#links += 1;
    return `link${this.#links}`;
  }
}
