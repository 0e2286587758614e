// The whole fast path with its threads, TUN and sockets against the readable one, through histories of sessions that begin,
// are renewed and end, peers that roam, allowed IPs that move, and whatever inside hosts and outsiders send meanwhile.

import { type Prefix, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { HALF_A_PAIR } from '../../../src/datapath/worker-pairs.ts';
import type { Source } from '../source.ts';
import type { OpenTarget, Target } from '../target.ts';
import type { Family } from '../workers/outsider.ts';
import { inRuns, someDatagrams, someSent, someSession } from '../workers/traffic.ts';
import { PREFIXES, type Sent, Twins } from '../workers/twins.ts';
import { PEERS, World } from '../workers/world.ts';

const STEPS = 30;
/** So that a full queue is full of packets, not of bytes. */
const LONGEST_OF_MANY = 4000;
const FRESH = [0, 0, 0, 60_000];
/** Past what a session may last. */
const OVER = [200_000];

class WorkersTarget implements OpenTarget {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  async run(source: Source): Promise<void> {
    const twins = await Twins.open(this.#world);
    try {
      for (const peer of PEERS) await greet(source, twins, peer);
      for (let n = 0; n < STEPS && !source.isEmpty; n++) await step(source, twins);
      await twins.check();
      await twins.checkDevice();
    } finally {
      twins.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#world[Symbol.asyncDispose]();
  }
}

/** Most peers begin with a session and an endpoint. */
const greet = async (source: Source, twins: Twins, peer: string): Promise<void> => {
  if (!source.chance(20)) setEndpoint(source, twins, peer);
  if (!source.chance(20)) twins.begin(someSession(source, peer, FRESH), !source.chance(60));
  await twins.check();
};

const step = async (source: Source, twins: Twins): Promise<void> => {
  const peer = source.pick(PEERS);
  const kind = source.between(0, 15);
  if (kind < 4) await sendSome(source, twins);
  else if (kind < 9) await receiveSome(source, twins);
  else if (kind === 9) twins.begin(someSession(source, peer, [0]), source.chance(128));
  else if (kind === 10) setEndpoint(source, twins, peer);
  else if (kind === 11) twins.apply({ kind: 'send-keepalive', peer });
  else if (kind === 12) await sendMany(source, twins);
  else if (kind === 13) await twins.move(somePrefix(source), peer);
  else if (kind === 14) await twins.setMtu(source.pick([1280, 1420, 9000, 65_535]));
  else endSome(source, twins, peer);
  if (kind >= 9) await twins.check();
};

const sendSome = async (source: Source, twins: Twins): Promise<void> => {
  const sent = Array.from({ length: source.between(1, 12) }, () => someSent(source, false));
  let { packets, bytes } = twins.stagingRoom;
  const fits = (one: Sent): boolean => {
    packets -= one.packets.length;
    bytes -= one.frame.length;
    return packets >= 0 && bytes >= 0;
  };
  await twins.send(sent.filter(fits));
};

/** So many that a peer without a session lets go of the oldest. */
const sendMany = async (source: Source, twins: Twins): Promise<void> => {
  const one = someSent(source, true);
  if (twins.hasStagedSuperPacket || one.frame.length > LONGEST_OF_MANY) return;
  await twins.send(Array.from({ length: source.between(1, 300) }, () => one));
};

const receiveSome = async (source: Source, twins: Twins): Promise<void> => {
  const from: readonly [0 | 1, Family] = [source.pick([0, 1] as const), source.pick([4, 6] as const)];
  const mark = source.pick([0, 0, 0, 1, 2, 3]);
  const together = source.chance(160);
  const datagrams = someDatagrams(source, twins.sessions);
  await twins.receive(together ? inRuns(datagrams) : datagrams.map((one) => [one]), from, mark);
};

const setEndpoint = (source: Source, twins: Twins, peer: string): void => {
  const outsider = source.pick(twins.world.outsiders);
  const endpoint = source.chance(20) ? undefined : outsider.endpoint(source.pick([4, 6] as const));
  twins.apply({ kind: 'set-endpoint', peer, endpoint });
};

const somePrefix = (source: Source): Prefix =>
  parsePrefix(source.pick([...PREFIXES, '0.0.0.0/0', '::/0', '10.60.1.2/32', 'fd00:60::102/128']));

const endSome = (source: Source, twins: Twins, peer: string): void => {
  const kind = source.between(0, 2);
  if (kind === 0) twins.apply({ kind: 'drop-staged', peer });
  else {
    twins.forget(peer);
    if (kind === 1) twins.begin(someSession(source, peer, OVER), true);
  }
};

const about = 'the fast path sends, delivers and drops what the reference does, whatever happens to both';

export const workersTarget: Target = {
  name: 'workers',
  about,
  maxLength: 800,
  open: async () => new WorkersTarget(await World.open(1)),
};

export const duplexTarget: Target = {
  name: 'duplex',
  about: `${about}, with one thread for both directions`,
  maxLength: 800,
  open: async () => new WorkersTarget(await World.open(HALF_A_PAIR)),
};
