// The reason vl3 exists: an unmodified cluster program (serf, as Debian ships it) that only wants plain IP forms one
// cluster across the clouds on red and another on green. Pods on both are members of both, and they never see each other.

import type { Daemon } from '../lab/daemon.ts';
import { forEach, holds, until } from './report.ts';
import type { NetworkName, Pod, World } from './world.ts';

interface Member {
  pod: Pod;
  daemon: Daemon;
  /** Where this serf answers `serf members`. */
  rpc: string;
}

const GOSSIP_PORT = 7946;
const RPC_PORT = { red: 7373, green: 7374 };
const NETWORK_NAMES: readonly NetworkName[] = ['red', 'green'];

/**
 * Gossip is a rumour: whoever missed it is told at the next exchange of whole lists, which serf holds every 30 s. Three of
 * them are certain.
 */
const FORMED_WITHIN_MS = 100_000;

export class Gossip {
  readonly #clusters: Record<NetworkName, Member[]> = { red: [], green: [] };

  /** Starts serf on every pod of both networks, told only of one other member. */
  async start(world: World): Promise<void> {
    for (const network of NETWORK_NAMES) {
      const pods = world.on(network);
      const seed = `${pods[0]?.v4[network]}:${GOSSIP_PORT}`;
      this.#clusters[network] = await forEach(pods, 4, async (pod) => {
        const rpc = `127.0.0.1:${RPC_PORT[network]}`;
        const bind = `${pod.v4[network]}:${GOSSIP_PORT}`;
        const join = pod === pods[0] ? [] : ['-retry-join', seed, '-retry-interval', '1s'];
        const command = ['serf', 'agent', '-node', pod.name, '-bind', bind, '-rpc-addr', rpc, ...join];
        return { pod, rpc, daemon: pod.host.start(command) };
      });
    }
  }

  /** Waits until every member sees all the others of its network alive, and checks that it sees nobody else. */
  async formed(network: NetworkName): Promise<string> {
    const members = this.#clusters[network];
    const wanted = members.map(({ pod }) => pod.name).sort();
    let views: { member: Member; seen: string[] }[] = [];
    const short = () => views.filter(({ seen }) => wanted.some((name) => !seen.includes(name)));
    await until(
      async () => {
        views = await forEach(members, 4, async (member) => ({ member, seen: (await alive(member)) ?? [] }));
        return short().length === 0 ? true : undefined;
      },
      FORMED_WITHIN_MS,
      () =>
        short()
          .map(({ member, seen }) => describe(member, seen))
          .join('\n'),
    );
    return `${members.length} members: ${wanted.join(' ')}`;
  }

  /** Nobody in one cluster ever knew of a member of the other, alive or failed. */
  async separate(world: World): Promise<string> {
    for (const network of NETWORK_NAMES) {
      const own = new Set(world.on(network).map((pod) => pod.name));
      const views = await forEach(this.#clusters[network], 4, async (member) => ({
        name: member.pod.name,
        known: [
          ...new Set([...((await everKnown(member)) ?? []), ...namesIn(member.daemon.output(), world)]),
        ],
      }));
      for (const { name, known } of views) {
        const foreign = known.filter((one) => !own.has(one));
        holds(foreign.length === 0, `${name} on ${network} knows of ${foreign.join(', ')}`);
        holds(known.length === own.size, `${name} on ${network} knows of ${known.join(', ')} only`);
      }
    }
    const both = world.pods.filter((pod) => pod.networks.length === 2).map((pod) => pod.name);
    return `only ${both.join(', ')} are in both`;
  }

  async stop(): Promise<void> {
    const members = NETWORK_NAMES.flatMap((network) => this.#clusters[network]);
    await forEach(members, members.length, ({ daemon }) => daemon.stop('SIGKILL'));
  }
}

function describe({ pod, daemon }: Member, seen: readonly string[]): string {
  if (!daemon.running) return `serf in ${pod.name} ended: ${daemon.output().trimEnd().split('\n').pop()}`;
  return `${pod.name} sees only ${seen.join(' ')}`;
}

async function alive(member: Member): Promise<string[] | undefined> {
  return (await list(member))?.filter(({ status }) => status === 'alive').map(({ name }) => name);
}

async function everKnown(member: Member): Promise<string[] | undefined> {
  return (await list(member))?.map(({ name }) => name);
}

async function list(member: Member): Promise<{ name: string; status: string }[] | undefined> {
  const command = ['serf', 'members', '-format', 'json', '-rpc-addr', member.rpc];
  const { code, stdout } = await member.pod.host.tryRun(command, { timeoutMs: 10_000 });
  if (code !== 0) return undefined;
  const parsed: { members?: { name: string; status: string }[] } = JSON.parse(stdout);
  return parsed.members;
}

/** The pods that a serf's log speaks of. */
function namesIn(log: string, world: World): string[] {
  return world.pods
    .map((pod) => pod.name)
    .filter((name) => new RegExp(`EventMemberJoin: ${name} `).test(log));
}
