// Who is measured: vl3's device, every other WireGuard in userspace that speaks the same protocol to `wg`, nebula, and two
// limits: a TUN copy without crypto, and the cable itself. All are given the same addresses, MTU and peers by the same commands.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from '../../lab/lab.ts';
import { type KeyPair, WireguardGo, type WireguardPeer, wireguardKeys } from '../../lab/wireguard-go.ts';
import { Refusal } from '../refusal.ts';
import { startCable, startTunCopy } from './limits.ts';
import { startNebula } from './nebula.ts';
import { OURS } from './samples.ts';
import { type Family, MTU, type Site, type Sites } from './topology.ts';
import type { Vl3Program } from './vl3-program.ts';

export interface Running {
  /** Whose CPU time and memory are the tunnel's, the second site's last; none of the raw cable. */
  readonly pids: readonly number[];
  /** Of the second site's WireGuard: where it listens, and as whom. */
  readonly responder?: { readonly port: number; readonly publicKey: string };
  stop(): Promise<void>;
}

export interface SetUp {
  readonly outside: Family;
  /** Peers each end has besides the other one, which never speak. */
  readonly strangers: number;
  /** Peers of the second site that come from anywhere. */
  readonly callers: readonly KeyPair[];
}

/** What not everybody can do. */
export type Ability = 'pods' | 'v6-inside' | 'v6-outside' | 'wireguard' | 'networks';

export interface Contender {
  readonly name: string;
  /** What it is: a program, a version. */
  readonly about: string;
  /** What it cannot do, and why. */
  readonly cannot: Readonly<Partial<Record<Ability, string>>>;
  start(lab: Lab, sites: Sites, setUp: SetUp): Promise<Running>;
}

/** A program under a name, as `--peer NAME=PATH` gives it. */
export interface Named {
  readonly name: string;
  readonly path: string;
}

const PORT = 51820;
const ONE_NETWORK = 'is one device on one network';

export const findContenders = (
  vl3: Vl3Program,
  wireguards: readonly Named[],
  nebulas: readonly Named[],
): Contender[] => {
  const debian = existsSync('/usr/bin/wireguard-go')
    ? [{ name: 'wireguard-go-debian', path: '/usr/bin/wireguard-go' }]
    : [];
  const debianNebula = existsSync('/usr/bin/nebula') ? [{ name: 'nebula', path: '/usr/bin/nebula' }] : [];
  return [
    wireguard(OURS, vl3.command('device'), vl3.about, {}),
    ...[...debian, ...wireguards].map(({ name, path }) =>
      wireguard(name, [path], `${path}, ${versionOf(path, '--version')}`, { networks: ONE_NETWORK }),
    ),
    ...[...debianNebula, ...nebulas].map(nebula),
    {
      name: 'tun-copy',
      about: 'a TUN copy without crypto',
      cannot: {
        pods: 'is measured on the bare device',
        'v6-outside': 'is measured over v4',
        wireguard: 'is no WireGuard',
        networks: ONE_NETWORK,
      },
      start: startTunCopy,
    },
    {
      name: 'cable',
      about: 'no tunnel at all',
      cannot: {
        pods: 'is measured between hosts',
        'v6-outside': 'has no outside',
        wireguard: 'is no WireGuard',
        networks: ONE_NETWORK,
      },
      start: (_lab, sites) => startCable(sites),
    },
  ];
};

const nebula = ({ name, path }: Named): Contender => ({
  name,
  about: `${path}, ${versionOf(path, '-version')}`,
  cannot: {
    pods: 'has its TUN where its socket is',
    'v6-inside': 'carries IPv4 inside',
    wireguard: 'is no WireGuard',
    networks: ONE_NETWORK,
  },
  start: async (lab, sites, setUp) => await startNebula(lab, path, sites, setUp),
});

const wireguard = (
  name: string,
  program: readonly string[],
  about: string,
  cannot: Contender['cannot'],
): Contender => ({
  name,
  about,
  cannot,
  start: async (lab, [a, b], setUp) => {
    const keys = [wireguardKeys(), wireguardKeys()] as const;
    const start = async (
      from: Site,
      to: Site,
      own: KeyPair,
      other: KeyPair,
      more: readonly WireguardPeer[],
    ): Promise<WireguardGo> =>
      await WireguardGo.start(lab, from.host, {
        program,
        keys: own,
        listenPort: PORT,
        addresses: from.tunAddresses,
        tunIn: from.tunHost,
        mtu: MTU,
        peers: [
          ...strangers(setUp.strangers),
          ...more,
          {
            publicKey: other.publicKey,
            allowedIps: to.prefixes,
            endpoint: `${bracketed(to.outside[setUp.outside])}:${PORT}`,
          },
        ],
        routedPeers: 1,
      });
    const callers = setUp.callers.map(({ publicKey }, i) => ({ publicKey, allowedIps: [tenth(i)] }));
    const daemons: WireguardGo[] = [];
    const stop = async (): Promise<void> => {
      for (const daemon of daemons) await daemon.stop();
    };
    try {
      daemons.push(await start(a, b, keys[0], keys[1], []));
      daemons.push(await start(b, a, keys[1], keys[0], callers));
    } catch (error) {
      await stop();
      throw error;
    }
    return {
      pids: daemons.map(({ pid }) => pid),
      responder: { port: PORT, publicKey: keys[1].publicKey },
      stop,
    };
  },
});

/** The first line of what it says of itself. */
const versionOf = (path: string, option: string): string => {
  const { stdout } = spawnSync(path, [option], {
    encoding: 'utf8',
    timeout: 5000,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return stdout?.split('\n')[0]?.trim() || 'version unknown';
};

/** Each with a prefix of its own, as the nodes of a large network have. */
const strangers = (count: number): WireguardPeer[] =>
  Array.from({ length: count }, (_, i) => ({
    publicKey: wireguardKeys().publicKey,
    allowedIps: [tenth(i)],
  }));

const tenth = (i: number): string => `10.${128 + (i >> 8)}.${i & 255}.0/24`;

const bracketed = (address: string): string => (address.includes(':') ? `[${address}]` : address);

/** Of `--peer` and `--nebula`, and of the environment variables of the same meaning. */
export const parseNamed = (option: string, text: string): Named => {
  const at = text.indexOf('=');
  const named = { name: text.slice(0, at), path: text.slice(at + 1) };
  if (at <= 0 || !/^[\w.-]+$/.test(named.name)) throw new Refusal(`${option} ${text}: write NAME=PATH`);
  if (!existsSync(named.path)) throw new Refusal(`${option} ${text}: there is no ${join(named.path)}`);
  return named;
};
