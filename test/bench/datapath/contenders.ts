// Who is measured: vl3's device, every other WireGuard in userspace that speaks the same protocol to `wg`, Debian's nebula, and
// the cable itself as the limit.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Lab } from '../../lab/lab.ts';
import { WireguardGo, type WireguardPeer, wireguardKeys } from '../../lab/wireguard-go.ts';
import { startNebula } from './nebula.ts';
import { type Family, MTU, type Site, type Sites } from './topology.ts';

export interface Running {
  /** Whose CPU time and memory are the tunnel's; none of the raw cable. */
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

export interface SetUp {
  readonly outside: Family;
  /** Peers each end has besides the other one, which never speak. */
  readonly strangers: number;
}

export interface Contender {
  readonly name: string;
  start(lab: Lab, sites: Sites, setUp: SetUp): Promise<Running>;
}

const MAIN = fileURLToPath(new URL('../../../cmd/vl3/main.ts', import.meta.url));
const PORT = 51820;

/** `others`: name=path of further programs that behave like wireguard-go. */
export const findContenders = (others: readonly string[]): Contender[] => {
  const nodeOptions = (process.env['TUNNEL_NODE_OPTIONS'] ?? '').split(' ').filter((one) => one !== '');
  const found: Contender[] = [wireguard('vl3', [process.execPath, ...nodeOptions, MAIN, 'device'])];
  if (existsSync('/usr/bin/wireguard-go'))
    found.push(wireguard('wireguard-go-debian', ['/usr/bin/wireguard-go']));
  for (const other of others) {
    const [name = '', path = ''] = other.split('=');
    if (!existsSync(path)) throw new Error(`--peer ${other}: write NAME=PATH of a program like wireguard-go`);
    found.push(wireguard(name, [path]));
  }
  if (existsSync('/usr/bin/nebula')) found.push({ name: 'nebula', start: startNebula });
  found.push({ name: 'cable', start: (_lab, sites, setUp) => startCable(sites, setUp) });
  return found;
};

const wireguard = (name: string, program: readonly string[]): Contender => ({
  name,
  start: async (lab, [a, b], setUp) => {
    const keys = [wireguardKeys(), wireguardKeys()] as const;
    const start = async (from: Site, to: Site, n: 0 | 1): Promise<WireguardGo> => {
      const peer: WireguardPeer = {
        publicKey: keys[n === 0 ? 1 : 0].publicKey,
        allowedIps: to.prefixes,
        endpoint: `${bracketed(to.outside[setUp.outside])}:${PORT}`,
      };
      return await WireguardGo.start(lab, from.host, {
        program,
        keys: keys[n],
        listenPort: PORT,
        addresses: from.tunAddresses,
        tunIn: from.tunHost,
        mtu: MTU,
        peers: [...strangers(setUp.strangers), peer],
        routedPeers: 1,
      });
    };
    const daemons = [await start(a, b, 0), await start(b, a, 1)];
    return {
      pids: daemons.map(({ pid }) => pid),
      stop: async () => {
        for (const daemon of daemons) await daemon.stop();
      },
    };
  },
});

/** Each with a prefix of its own, as the nodes of a large network have. */
const strangers = (count: number): WireguardPeer[] =>
  Array.from({ length: count }, (_, i) => ({
    publicKey: wireguardKeys().publicKey,
    allowedIps: [`10.${128 + (i >> 8)}.${i & 255}.0/24`],
  }));

const bracketed = (address: string): string => (address.includes(':') ? `[${address}]` : address);

/** No tunnel at all: what the namespaces and iperf3 can do on this machine. */
const startCable = async ([a, b]: Sites, { outside }: SetUp): Promise<Running> => {
  const undo: (() => Promise<void>)[] = [];
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    if (from.tunHost !== from.host) throw new Error('the cable is measured between hosts');
    await from.host.ip(...from.tunAddresses.map((address) => `address add ${address} dev lo`));
    for (const prefix of to.prefixes) {
      const via = prefix.includes(':') ? to.outside.v6 : to.outside.v4;
      const source = prefix.includes(':') ? from.inside.v6 : from.inside.v4;
      await from.host.ip(`route replace ${prefix} via ${via} dev eth0 src ${source}`);
      undo.push(() => from.host.ip(`route delete ${prefix} dev eth0`));
    }
    undo.push(() => from.host.ip(...from.tunAddresses.map((address) => `address delete ${address} dev lo`)));
  }
  if (outside === 'v6') throw new Error('the cable has no outside of its own');
  return {
    pids: [],
    stop: async () => {
      for (const one of undo) await one();
    },
  };
};
