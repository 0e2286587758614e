// What is judged now and then by looking at everything: that no queue grows, that peers are where they say, and, once all
// is settled, that every book agrees with every other and nothing is left of what went.

import { fromBase64 } from '../base64.ts';
import { peerId } from '../device/device.ts';
import { STAGED_LIMIT } from '../device/outbound.ts';
import { type Prefix, parsePrefix, prefixesOverlap } from '../ipam/prefix.ts';
import { NETWORK } from '../reconcile/documents.ts';
import { nodeNameOf } from '../registry/foreign-key.ts';
import { isHeld } from '../registry/lease-phase.ts';
import { State } from '../registry/state.ts';
import { ATTACHMENT, Documents } from './documents.ts';
import type { Machine } from './machine.ts';
import type { Simulation } from './simulator.ts';

/** Five periodic ones, and two an agent waits for on each network. */
const TIMERS_AN_AGENT = 16;
/** On each network: whoever waits for a verdict. */
const TIMERS_A_POD = 3;
const EVENTS_A_MACHINE = 200;
const EVENTS_A_POD = 30;
const DATAGRAMS_A_PAIR = 400;
/** Carried out between two looks. */
const WORK_A_MACHINE = 400;
const WORK_A_PAIR = 20;
/** Three keypairs and a handshake. */
const INDICES_A_PEER = 5;

/** `done`: how many events were carried out since the last time. Whoever is refused and asks again at once keeps everybody busy. */
export const judgeWork = ({ machines, invariants }: Simulation, done: number): void => {
  const most = WORK_A_MACHINE * (machines.size + 1) + WORK_A_PAIR * machines.size ** 2;
  invariants.judge(
    'no livelock',
    done <= most,
    () => `${done} events between two looks, and at most ${most} is sane`,
  );
};

export const judgeQueues = (simulation: Simulation): void => {
  const { machines, scheduler, internet, invariants, pods, registry, control, plan } = simulation;
  const memberships = [...machines.values()].flatMap(({ agent }) => agent?.memberships ?? []);
  const pairs = machines.size ** 2;
  const events = EVENTS_A_MACHINE * (machines.size + 1) + DATAGRAMS_A_PAIR * pairs;
  invariants.bounded(
    'events that wait',
    scheduler.pending,
    events + (EVENTS_A_POD + plan.steps.length) * (pods.all.length + 2),
  );
  invariants.bounded('datagrams under way', internet.underWay, DATAGRAMS_A_PAIR * pairs + 100);
  invariants.bounded('streams to the registry', control.streams, machines.size * plan.networks.length);
  invariants.bounded(
    'watchers of the registry',
    registry.process?.watchers ?? 0,
    memberships.length + machines.size * 6,
  );
  for (const machine of machines.values()) {
    const own = machine.agent?.memberships ?? [];
    const podsHere = pods.all.filter((pod) => pod.machine === machine).length;
    invariants.bounded(
      `timers of ${machine.name}`,
      machine.timers,
      TIMERS_AN_AGENT + TIMERS_A_POD * podsHere,
    );
    const peers = own.reduce((sum, one) => sum + one.peers.length, 0);
    invariants.bounded(
      `receiver indices of ${machine.name}`,
      machine.indices,
      INDICES_A_PEER * (peers + own.length * machines.size),
    );
    for (const membership of own) {
      for (const { node, publicKey } of membership.peers) {
        const id = peerId(fromBase64(publicKey));
        const { staged, endpoint } = membership.tunnel.plane.peer(id);
        invariants.bounded(`packets of ${machine.name} that wait for ${node}`, staged.length, STAGED_LIMIT);
        const learned = membership.tunnel.device.status(id)?.learnedEndpoint;
        for (const one of [learned, learned && endpoint])
          if (one !== undefined)
            invariants.endpointLearned(
              machine.name,
              node,
              one,
              internet.wasSeenAs(nodeNameOf(node).node, one),
            );
      }
    }
  }
};

/** No prefix is usable by two nodes, whatever the registry believes. */
export const judgePrefixes = ({ machines, invariants, plan }: Simulation): void => {
  for (const network of plan.networks) {
    const held: { readonly node: string; readonly text: string; readonly prefix: Prefix }[] = [];
    for (const machine of machines.values()) {
      if (machine.isLost || machine.isDeleted || machine.isExpelled) continue;
      if (machine.agent === undefined || machine.freezer.isFrozen) continue;
      for (const text of machine.usable(network)) {
        const prefix = parsePrefix(text);
        const other = held.find((one) => prefixesOverlap(one.prefix, prefix));
        invariants.judge(
          'no prefix twice',
          other === undefined,
          () => `${machine.name} and ${other?.node} both use ${text} of ${network}`,
        );
        held.push({ node: machine.name, text, prefix });
      }
    }
  }
};

/** Which books do not agree. Once nothing is under way any more, all do. */
export const disagreements = (simulation: Simulation): string[] => {
  const { machines, registry } = simulation;
  const { process: running } = registry;
  if (running === undefined) return ['the registry is down'];
  const found: string[] = [];
  const all = [{ prefix: '/' }];
  const state = new State(all, running.store.read(all));
  for (const machine of machines.values()) {
    if (machine.isLost) continue;
    const documents = new Documents(machine.disk);
    const same = (what: string, present: Iterable<string>, wanted: Iterable<string>): void => {
      const [a, b] = [[...present].sort().join(' '), [...wanted].sort().join(' ')];
      if (a !== b) found.push(`${machine.name}: ${what}: "${a}", and it should be "${b}"`);
    };
    if (machine.isRogue) continue;
    const attachments = documents.list(ATTACHMENT).map(({ value }) => value);
    same(
      'attachments on its disk and pods that were told so',
      attachments.map((one) => `${one.network}:${one.namespace}:${one.addresses.join(',')}`),
      simulation.pods.all
        .filter((pod) => pod.machine === machine)
        .flatMap((pod) => [...pod.places.values()])
        .flatMap(({ pod, network, acknowledged }) =>
          acknowledged === undefined ? [] : [`${network}:${pod.namespace}:${acknowledged.join(',')}`],
        ),
    );
    const networks = documents.list(NETWORK).map(({ value }) => value);
    for (const { name, leases } of networks) {
      const own = attachments.filter(({ network }) => network === name);
      same(
        `interfaces on ${name} and attachments`,
        machine.kernel.interfaces(name).keys(),
        own.map(({ id }) => id),
      );
      same(
        `owners of addresses on ${name} and attachments`,
        ownersOf(machine, name),
        own.map(({ id }) => id),
      );
      const leased = state
        .leases(name)
        .flatMap(({ value }) => (value.node === machine.key && isHeld(value) ? [value.prefix] : []));
      const known = leases.map(({ prefix }) => prefix);
      same(
        `prefixes of ${name} that the registry leases it`,
        known.filter((one) => leased.includes(one)),
        known,
      );
      // One a family may be leased whose answer got lost: the next request is answered with it.
      const unknown = leased.filter((one) => !known.includes(one));
      for (const family of [4, 6])
        if (unknown.filter((one) => one.includes(':') === (family === 6)).length > 1)
          found.push(`${machine.name}: knows nothing of its prefixes ${unknown.join(' ')} of ${name}`);
      same(
        `attachments on ${name} in the registry and attachments`,
        state.attachments(name, machine.key).map(({ value }) => `${value.id}:${value.addresses.join(',')}`),
        own.map(({ id, addresses }) => `${id}:${addresses.join(',')}`),
      );
    }
    // The reverse need not hold: a node whose request to join was answered in vain may have lost interest.
    const member = state
      .members()
      .flatMap(({ value }) => (value.node === machine.key ? [value.network] : []));
    const known = networks.map(({ name }) => name);
    same(
      'networks and memberships in the registry',
      known,
      known.filter((one) => member.includes(one)),
    );
  }
  return found;
};

const ownersOf = (machine: Machine, network: string): Set<string> => {
  const membership = machine.agent?.memberships.find((one) => one.network === network);
  const prefixes = membership?.allocator.toState().prefixes ?? [];
  return new Set(prefixes.flatMap(({ used }) => Object.values(used)));
};
