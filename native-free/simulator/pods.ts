// The workload: pods that come onto networks, go, and send each other echo requests all the while. Like a kubelet it asks
// an agent again until it is answered, however often the agent dies meanwhile. It knows which answers it got, and so what
// must be true.

import { NotAdmitted } from '../error.ts';
import type { Continuity } from './continuity.ts';
import type { Counters } from './counters.ts';
import { type Echo, echoPacket, readEcho } from './echo-packet.ts';
import type { Invariants } from './invariants.ts';
import type { Machine } from './machine.ts';
import type { Pace } from './pace.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

/** Asks again when an agent never answered. */
const GIVE_UP_MS = 20_000;

/** A pod on one network: what is wanted, and what was answered. */
export interface Place {
  readonly pod: Pod;
  readonly network: string;
  isWanted: boolean;
  /** The addresses an agent said it has; undefined: none, or it was said to be detached. */
  acknowledged: readonly string[] | undefined;
  /** Asked for since it was last known to be absent. */
  mayExist: boolean;
  asked: number | undefined;
  /** When the addresses it was told last changed. */
  changedAt: number;
  /** Those that the agent has written down. */
  labels: Labels;
}

export type Labels = Readonly<Record<string, string>>;

export interface Pod {
  readonly name: string;
  readonly machine: Machine;
  readonly namespace: string;
  readonly places: Map<string, Place>;
  labels: Labels;
  isGone: boolean;
  /** To be removed once it is on no network. */
  isStopping: boolean;
}

export interface PodsDependencies {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly invariants: Invariants;
  readonly counters: Counters;
  readonly pace: Pace;
  readonly continuity: Continuity;
  /** Something that admission goes by is otherwise than before. */
  readonly onChanged: () => void;
  readonly onDelivered: (from: string, to: string, network: string) => void;
}

export class Pods {
  readonly #dependencies: PodsDependencies;
  readonly #pods = new Map<string, Pod>();
  /** By who asked whom, and by the address that was asked. */
  readonly #answeredAt = new Map<string, number>();
  /** By pod, also of those that have not begun. */
  readonly #labels = new Map<string, Labels>();
  #question = 0;

  constructor(dependencies: PodsDependencies) {
    this.#dependencies = dependencies;
  }

  get(name: string): Pod | undefined {
    return this.#pods.get(name);
  }

  get all(): readonly Pod[] {
    return [...this.#pods.values()];
  }

  /** The pods that an agent says are on the network. */
  on(network: string): Place[] {
    return this.all.flatMap(({ places }) => {
      const place = places.get(network);
      return place?.acknowledged === undefined ? [] : [place];
    });
  }

  // --- what is wanted

  start(name: string, machine: Machine, networks: readonly string[]): void {
    const namespace = `${name}@${machine.name}`;
    const labels = this.#labels.get(name) ?? {};
    const pod: Pod = {
      name,
      machine,
      namespace,
      places: new Map(),
      labels,
      isGone: false,
      isStopping: false,
    };
    this.#pods.set(name, pod);
    machine.kernel.addNamespace({
      id: namespace,
      receive: (network, packet) => this.#receive(pod, network, packet),
    });
    for (const network of networks) this.want(name, network, true);
    const { scheduler, random, pace } = this.#dependencies;
    const { pingMs } = pace;
    const pings = scheduler.every(pingMs, random.fraction() * pingMs, `${name} pings`, () => {
      if (pod.isGone) pings.cancel();
      else this.#ping(pod);
    });
  }

  want(name: string, network: string, isWanted: boolean): void {
    const pod = this.#pods.get(name);
    if (pod === undefined || pod.isStopping) return;
    const place = pod.places.get(network) ?? {
      pod,
      network,
      isWanted,
      acknowledged: undefined,
      mayExist: false,
      asked: undefined,
      changedAt: 0,
      labels: pod.labels,
    };
    place.isWanted = isWanted;
    pod.places.set(network, place);
    this.#drive(place);
  }

  /** Gives it other labels, whenever its agent hears of it. */
  label(name: string, labels: Labels): void {
    this.#labels.set(name, labels);
    const pod = this.#pods.get(name);
    if (pod === undefined) return;
    pod.labels = labels;
    for (const place of pod.places.values()) this.#relabel(place, labels);
  }

  #relabel(place: Place, labels: Labels): void {
    const { pod, network } = place;
    if (pod.isGone || pod.labels !== labels || place.labels === labels) return;
    const { scheduler, pace } = this.#dependencies;
    const again = (delay: number): void => {
      scheduler.after(delay, `${pod.name} says its labels again`, () => this.#relabel(place, labels));
    };
    const { agent } = pod.machine;
    again(agent === undefined ? pace.askAgainMs : GIVE_UP_MS);
    if (agent === undefined) return;
    pod.machine.ask(() =>
      agent.relabel(network, pod.namespace, labels, (outcome) => {
        if (!outcome.ok || pod.labels !== labels) return;
        place.labels = labels;
        this.#dependencies.onChanged();
      }),
    );
  }

  /** Detaches it everywhere and then removes its namespace. */
  stop(name: string): void {
    const pod = this.#pods.get(name);
    if (pod === undefined) return;
    for (const network of pod.places.keys()) this.want(name, network, false);
    pod.isStopping = true;
    this.#removeIfDone(pod);
  }

  /** Its namespace goes without a word to the agent. */
  vanish(name: string): void {
    const pod = this.#pods.get(name);
    if (pod === undefined) return;
    this.#forget(pod);
    pod.machine.kernel.removeNamespace(pod.namespace);
  }

  /** The machine went down. */
  machineHalted(machine: Machine): void {
    for (const pod of this.all) if (pod.machine === machine) this.#forget(pod);
  }

  /** The machine was cleaned: its pods are on no network, and ask again. */
  machineCleaned(machine: Machine): void {
    for (const pod of this.all) {
      if (pod.machine !== machine) continue;
      for (const place of pod.places.values()) {
        this.#tell(place, undefined);
        place.mayExist = false;
        place.asked = undefined;
        this.#drive(place);
      }
      this.#removeIfDone(pod);
    }
  }

  /** The agent took an attachment off by itself. */
  withdrawn(namespace: string, network: string): void {
    const pod = this.all.find((one) => one.namespace === namespace);
    const place = pod?.places.get(network);
    if (place === undefined) return;
    this.#tell(place, undefined);
    this.#dependencies.scheduler.after(
      this.#dependencies.pace.askAgainMs,
      `${place.pod.name} is not attached any more`,
      () => this.#drive(place),
    );
  }

  #tell(place: Place, addresses: readonly string[] | undefined): void {
    if (place.acknowledged?.join() !== addresses?.join()) place.changedAt = this.#dependencies.scheduler.now;
    place.acknowledged = addresses;
  }

  #forget(pod: Pod): void {
    pod.isGone = true;
    this.#pods.delete(pod.name);
  }

  #removeIfDone(pod: Pod): void {
    if (!pod.isStopping || pod.isGone || [...pod.places.values()].some(({ mayExist }) => mayExist)) return;
    this.#forget(pod);
    pod.machine.kernel.removeNamespace(pod.namespace);
  }

  // --- asking the agent

  #drive(place: Place): void {
    const { pod, network } = place;
    if (place.asked !== undefined || pod.isGone) return;
    if (place.isWanted === (place.acknowledged !== undefined) && (place.isWanted || !place.mayExist)) return;
    const { agent, name } = pod.machine;
    const { scheduler } = this.#dependencies;
    const question = ++this.#question;
    place.asked = question;
    const over = (): boolean => {
      if (place.asked !== question || pod.isGone) return false;
      place.asked = undefined;
      return true;
    };
    const again = (delay: number): void => {
      scheduler.after(delay, `${pod.name} asks ${name} again`, () => {
        if (over()) this.#drive(place);
      });
    };
    if (agent === undefined) {
      again(this.#dependencies.pace.askAgainMs);
      return;
    }
    again(GIVE_UP_MS);
    if (place.isWanted) {
      place.mayExist = true;
      const { labels } = pod;
      const request = { network, namespace: pod.namespace, workload: pod.name, labels };
      pod.machine.ask(() =>
        agent.attach(request, (outcome) => {
          if (outcome.ok && over()) {
            place.labels = labels;
            this.#attached(place, outcome.answer);
          } else if (!outcome.ok) this.#refused(place, question, outcome.error instanceof NotAdmitted);
        }),
      );
    } else {
      // What is being taken away is nobody's promise any more.
      this.#tell(place, undefined);
      pod.machine.ask(() =>
        agent.detach(network, pod.namespace, (outcome) => {
          if (outcome.ok && over()) this.#detached(place);
          else if (!outcome.ok) this.#refused(place, question);
        }),
      );
    }
  }

  #refused(place: Place, question: number, isByRules = false): void {
    const { scheduler, counters, pace } = this.#dependencies;
    counters.add(isByRules ? 'attachments refused by rules' : 'attach or detach refused');
    scheduler.after(isByRules ? pace.refusedMs : pace.askAgainMs, `${place.pod.name} asks once more`, () => {
      if (place.asked !== question) return;
      place.asked = undefined;
      this.#drive(place);
    });
  }

  #attached(place: Place, addresses: readonly string[]): void {
    const { counters, invariants } = this.#dependencies;
    const { pod } = place;
    counters.add('attached');
    const before = place.acknowledged;
    invariants.judge(
      'no acknowledged write lost',
      before === undefined || before.join() === addresses.join(),
      () =>
        `${place.pod.name} had ${before?.join(', ')} on ${place.network} and now has ${addresses.join(', ')}`,
    );
    this.#tell(place, addresses);
    this.#dependencies.onChanged();
    if (place.labels !== pod.labels) this.#relabel(place, pod.labels);
    this.#drive(place);
  }

  #detached(place: Place): void {
    const { counters, invariants } = this.#dependencies;
    const { pod, network } = place;
    counters.add('detached');
    place.mayExist = false;
    const left = [...pod.machine.kernel.interfaces(network).values()].filter(
      ({ namespace }) => namespace === pod.namespace,
    );
    invariants.judge(
      'no leftovers',
      left.length === 0,
      () =>
        `${pod.name} was detached from ${network}, and attachment ${left[0]?.attachmentId} is still there`,
    );
    this.#drive(place);
    this.#removeIfDone(pod);
  }

  // --- packets

  /** Every pod of a network asks every other. */
  pingAll(): void {
    for (const pod of this.all)
      for (const place of pod.places.values())
        for (const other of this.on(place.network)) this.#request(place, other);
  }

  /** When the last answer came to `from`'s requests to `to`. */
  answeredAt(network: string, from: string, to: string): number {
    return this.#answeredAt.get(`${network} ${from} ${to}`) ?? Number.NEGATIVE_INFINITY;
  }

  #ping(pod: Pod): void {
    const { random } = this.#dependencies;
    for (const place of pod.places.values()) {
      const others = this.on(place.network).filter((one) => one.pod !== pod);
      if (others.length > 0) this.#request(place, random.pick(others));
    }
  }

  #request(from: Place, to: Place): void {
    if (from.pod === to.pod || from.acknowledged === undefined || to.acknowledged === undefined) return;
    const { random, scheduler, counters, continuity } = this.#dependencies;
    if (from.pod.machine.freezer.isAsleep) return;
    const family = random.between(0, from.acknowledged.length - 1);
    const [fromAddress, toAddress] = [from.acknowledged[family], to.acknowledged[family]];
    if (fromAddress === undefined || toAddress === undefined) return;
    counters.add('echo requests');
    // One address of a pod may be out of reach while another is not: each is its own.
    const asked = `${from.network} ${from.pod.name} ${to.pod.name} ${toAddress}`;
    continuity.requested(from, to, toAddress, () => this.#answeredAt.get(asked) ?? Number.NEGATIVE_INFINITY);
    this.#send(from.pod, {
      kind: 'request',
      network: from.network,
      from: from.pod.name,
      to: to.pod.name,
      fromAddress,
      toAddress,
      at: scheduler.now,
    });
  }

  #send(pod: Pod, echo: Echo): void {
    pod.machine.kernel.fromPod(pod.namespace, echo.network, echoPacket(echo));
  }

  #receive(pod: Pod, network: string, packet: Uint8Array): void {
    const { invariants, counters, scheduler } = this.#dependencies;
    const { echo, source, destination } = readEcho(packet);
    const machines = [echo.from, echo.to, pod.name].flatMap((name) => {
      const machine = this.#pods.get(name)?.machine.key;
      return machine === undefined ? [] : [machine];
    });
    if (!invariants.delivered({ sent: echo, network, pod: pod.name, source, destination, machines })) {
      counters.add('packets to an address that changed hands');
      return;
    }
    this.#dependencies.onDelivered(echo.from, pod.name, network);
    if (echo.kind === 'reply') {
      counters.add('echo replies');
      const asked = `${network} ${pod.name} ${echo.from}`;
      this.#answeredAt.set(asked, scheduler.now);
      this.#answeredAt.set(`${asked} ${echo.fromAddress}`, scheduler.now);
      return;
    }
    const { from, to, fromAddress, toAddress } = echo;
    this.#send(pod, {
      ...echo,
      kind: 'reply',
      from: to,
      to: from,
      fromAddress: toAddress,
      toAddress: fromAddress,
    });
  }
}
