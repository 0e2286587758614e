// The informer: looks at this node's pods, their namespaces and where they run, and leads attachments to what they ask
// for. What is to be done is decided by native-free/kube/reconcile-pods; here it is seen and carried out, each piece by
// itself, and looked at again. An API server or a container runtime that is away changes nothing.

import { renameSync, writeFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { formatNamespaceDefaults } from '../../native-free/cni/namespace-defaults.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { Domains } from '../../native-free/kube/annotation.ts';
import { Askings } from '../../native-free/kube/asking.ts';
import { STATUS_KEY } from '../../native-free/kube/network-status.ts';
import { type Namespace, type Pod, readNamespace, readPod } from '../../native-free/kube/pod.ts';
import {
  type Action,
  type Observed,
  type PodRef,
  podsToFind,
  type RunningPod,
  reconcilePods,
} from '../../native-free/kube/reconcile-pods.ts';
import type { Attachments } from '../agent/attachments.ts';
import { pause } from '../agent/backoff.ts';
import { Failures } from '../agent/failures.ts';
import { Attempts } from './attempts.ts';
import { EditLimits } from './edit-limits.ts';
import { type KubernetesApi, RESOURCES, type Resource } from './kubernetes-api.ts';
import { PodEvents } from './pod-events.ts';
import { Reflector } from './reflector.ts';
import { Strays } from './strays.ts';

export interface InformerOptions {
  /** Where the CNI plugin reads what namespaces ask for. */
  readonly defaultsFile: string;
}

export interface InformerDeps {
  readonly api: KubernetesApi;
  /** Disposed of at the end of the run. */
  readonly runtime: Disposable & {
    find(pods: ReadonlySet<string>): Promise<ReadonlyMap<string, RunningPod>>;
    /** Of single pods, in a sentence; empty: none. */
    readonly problem: string;
  };
  readonly attachments: Pick<Attachments, 'documents' | 'want' | 'detach' | 'relabel'>;
  /** The same object while they are the same. */
  readonly domains: () => Domains;
  readonly defaultInterfaceName: Observed['defaultInterfaceName'];
  readonly shown: Observed['shown'];
  readonly clock: { readonly monotonic: () => number; readonly wall: () => number };
  readonly logger: Logger;
}

export interface InformerStatus {
  /** Whether it sees what the API server has now. */
  readonly inSync: boolean;
  /** Of what it does not. */
  readonly behind: readonly Resource[];
  /** Of this node. */
  readonly pods: number;
  /** Of those, how many ask for networks. */
  readonly asking: number;
  /** What is wrong, in sentences. */
  readonly problems: readonly string[];
}

/** Several changes at once are looked at once. */
const SETTLE_MS = 50;
/** While something is under way, and the longer that takes the more seldom. */
const FIRST_LOOK_MS = 250;
/** Looking takes no more than a share of the time, whoever edits without end; but no look waits longer for that. */
const SHARE = 4;
const LONGEST_REST_MS = 1_000;
/** When nothing is: sandboxes that were made anew are seen by looking only. */
const LAST_LOOK_MS = 5_000;

export class Informer {
  readonly #options: InformerOptions;
  readonly #deps: InformerDeps;
  readonly #pods: Reflector<Pod>;
  readonly #namespaces: Reflector<Namespace>;
  readonly #attempts: Attempts;
  readonly #events: PodEvents;
  readonly #failures: Failures;
  readonly #gone = new Set<string>();
  readonly #strays = new Strays();
  readonly #askings = new Askings();
  readonly #edits = new EditLimits();
  #asking = 0;
  #lookMs = FIRST_LOOK_MS;
  #runtimeProblem = '';
  #fileProblem = '';
  #defaults = '';
  #awake = Promise.withResolvers<void>();

  constructor(options: InformerOptions, deps: InformerDeps) {
    const { api, logger, clock } = deps;
    this.#options = options;
    this.#deps = deps;
    this.#failures = new Failures('Kubernetes: it is tried again', { logger, clock });
    const failed = (error: unknown): void => void this.#failures.say(error);
    this.#events = new PodEvents({ api, clock, failed });
    this.#attempts = new Attempts({ now: clock.monotonic, ended: () => this.#wake(), failed });
    const reflect = { api, clock, failed, changed: () => this.#wake() };
    this.#pods = new Reflector(
      { resource: 'pods', read: readPod, keyOf: ({ objectUid }) => objectUid },
      reflect,
    );
    this.#namespaces = new Reflector(
      { resource: 'namespaces', read: readNamespace, keyOf: ({ name }) => name },
      reflect,
    );
  }

  get status(): InformerStatus {
    const watched = { pods: this.#pods, namespaces: this.#namespaces };
    const behind = RESOURCES.filter((one) => watched[one].problem !== '');
    const away = behind.map((one) => watched[one].problem);
    return {
      inSync: behind.length === 0,
      behind,
      pods: this.#pods.items.size,
      asking: this.#asking,
      problems: [...new Set([...away, this.#runtimeProblem, this.#fileProblem, this.#strayProblem])].filter(
        (one) => one !== '',
      ),
    };
  }

  get #strayProblem(): string {
    const [name] = this.#strays.lasting(this.#deps.clock.monotonic());
    if (name === undefined) return '';
    return `pod ${name} is attached here, and the API server has it on another node: check --node-name`;
  }

  /** Whether everything has been seen once since the start. */
  get hasSeen(): boolean {
    return this.#pods.wasListed && this.#namespaces.wasListed;
  }

  /** Until `signal` aborts. What it asked of attachments they see to the end of. */
  async run(signal: AbortSignal): Promise<void> {
    using runtime = this.#deps.runtime;
    // A runtime that hangs holds up no end.
    signal.addEventListener('abort', () => runtime[Symbol.dispose](), { once: true });
    await Promise.all([this.#pods.run(signal), this.#namespaces.run(signal), this.#look(signal)]);
  }

  async #look(signal: AbortSignal): Promise<void> {
    let restMs = SETTLE_MS;
    while (!signal.aborted) {
      const sleeping = new AbortController();
      await Promise.race([
        this.#awake.promise,
        pause(this.#lookMs, AbortSignal.any([signal, sleeping.signal])),
      ]);
      sleeping.abort();
      await pause(restMs, signal);
      this.#awake = Promise.withResolvers();
      if (signal.aborted || !this.hasSeen) continue;
      const began = this.#deps.clock.monotonic();
      try {
        const isUnsettled = await this.#reconcile(signal);
        this.#lookMs = isUnsettled ? Math.min(this.#lookMs * 1.5, LAST_LOOK_MS) : LAST_LOOK_MS;
      } catch (error) {
        if (signal.aborted) return;
        this.#lookMs = LAST_LOOK_MS;
        this.#failures.say(error);
      }
      const took = this.#deps.clock.monotonic() - began;
      restMs = Math.max(SETTLE_MS, Math.min(took * (SHARE - 1), LONGEST_REST_MS));
    }
  }

  /** Something changed: look soon, and often while it is under way. */
  #wake(): void {
    this.#lookMs = FIRST_LOOK_MS;
    this.#awake.resolve();
  }

  async #reconcile(signal: AbortSignal): Promise<boolean> {
    const { attachments, domains, defaultInterfaceName, shown } = this.#deps;
    const namespaces = new Map(
      [...this.#namespaces.items.values()].map((one) => [one.name, one.annotations]),
    );
    this.#keepDefaults(namespaces);
    const asking: Observed['asking'] = (...args) => this.#askings.of(...args);
    const seen = { namespaces, domains: domains(), gone: this.#gone, asking };
    const before = attachments.documents;
    const known = new Set(before.map(({ id }) => id));
    const uids = podsToFind({ ...seen, pods: this.#pods.items.values(), attachments: before });
    const sandboxes = await this.#find(uids, signal);
    if (signal.aborted) return false;
    // Together, after what took time: an attachment that was made meanwhile belongs to a pod that was seen meanwhile.
    const documents = attachments.documents;
    const plan = reconcilePods({
      ...seen,
      pods: this.#pods.items.values(),
      attachments: documents,
      known,
      sandboxes,
      defaultInterfaceName,
      shown,
    });
    this.#asking = plan.asking;
    const held = new Set(documents.map(({ pod }) => pod?.uid));
    for (const uid of this.#gone) if (!held.has(uid)) this.#gone.delete(uid);
    const listed = new Set([...this.#pods.items.values()].map(({ uid }) => uid));
    this.#strays.forget((uid) => listed.has(uid) || !held.has(uid));
    const isAllBegun = plan.actions.map((action) => this.#begin(action)).every((isBegun) => isBegun);
    return plan.isUnsettled || !isAllBegun || this.#attempts.isBusy;
  }

  async #find(
    uids: ReadonlySet<string>,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, RunningPod> | undefined> {
    if (uids.size === 0) {
      this.#runtimeProblem = '';
      return new Map();
    }
    try {
      const found = await this.#deps.runtime.find(uids);
      this.#runtimeProblem = this.#deps.runtime.problem;
      return found;
    } catch (error) {
      if (signal.aborted) return undefined;
      this.#runtimeProblem = this.#failures.say(error).message;
      return undefined;
    }
  }

  /** False: it is too soon for it, look again. */
  #begin(action: Action): boolean {
    if (action.kind === 'warn') {
      this.#events.warn(action.pod, action.reason, action.message);
      return true;
    }
    const isKnown =
      action.kind === 'confirm' && !this.#strays.isDue(action.pod.uid, this.#deps.clock.monotonic());
    if (isKnown) return true;
    const [key, work] = this.#workOf(action);
    return this.#attempts.start(key, work, () => this.#edits.may(action, this.#deps.clock.monotonic()));
  }

  /** Under a key: not twice at once. */
  #workOf(action: Exclude<Action, { kind: 'warn' }>): [key: string, work: () => Promise<void>] {
    const { attachments } = this.#deps;
    switch (action.kind) {
      case 'attach':
        return [
          `attach ${action.pod.uid} ${action.network} ${action.netns.id}`,
          () => attachments.want(...wantedBy(action)),
        ];
      case 'detach':
        return [`detach ${action.id}`, () => this.#detach(action)];
      case 'relabel':
        return [`relabel ${action.id}`, () => attachments.relabel(action.id, action)];
      case 'confirm':
        return [`confirm ${action.pod.uid}`, () => this.#confirm(action.pod)];
      case 'show':
        return [`show ${action.pod.uid}`, () => this.#show(action.pod, action.text)];
    }
  }

  async #detach({ id, network, why }: Extract<Action, { kind: 'detach' }>): Promise<void> {
    const detached = await this.#deps.attachments.detach({ id });
    if (detached.length > 0) this.#deps.logger.info({ network, attachment: id, why }, 'a pod is taken off');
  }

  async #show(pod: Pod, text: string | undefined): Promise<void> {
    const { namespace, name, objectUid } = pod;
    try {
      await this.#deps.api.annotatePod({ namespace, name, uid: objectUid }, STATUS_KEY, text ?? null);
    } catch (error) {
      // It is gone, or another of its name is there: the watch will say so.
      if (!(error instanceof Vl3Error) || (error.code !== 'not-found' && error.code !== 'aborted'))
        throw error;
    }
    const { [STATUS_KEY]: _, ...others } = pod.annotations;
    const annotations = text === undefined ? others : { ...others, [STATUS_KEY]: text };
    // Before the watch tells it, so that it is not written twice.
    this.#pods.amend(pod, { ...pod, annotations });
  }

  async #confirm({ namespace, name, uid }: PodRef): Promise<void> {
    const { api, clock } = this.#deps;
    try {
      const found = readPod(await api.readPod(namespace, name));
      if (found !== undefined && found.uid !== uid && found.objectUid !== uid) this.#gone.add(uid);
      else this.#strays.found(uid, `${namespace}/${name}`, clock.monotonic());
    } catch (error) {
      if (!(error instanceof Vl3Error) || error.code !== 'not-found') throw error;
      this.#gone.add(uid);
    }
  }

  /** On a tmpfs, and renamed into place: the plugin reads it at any time. */
  #keepDefaults(namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>): void {
    const text = formatNamespaceDefaults(namespaces);
    if (text === this.#defaults) return;
    const path = this.#options.defaultsFile;
    try {
      writeFileSync(`${path}.draft`, text, { mode: 0o600 });
      renameSync(`${path}.draft`, path);
      this.#defaults = text;
      this.#fileProblem = '';
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      this.#fileProblem = `what namespaces ask for cannot be written down for the CNI plugin (${why}): make room for ${path}`;
      this.#failures.say(new Vl3Error('unavailable', this.#fileProblem, { cause }));
    }
  }
}

const wantedBy = ({
  pod,
  network,
  netns,
  interfaceName,
  labels,
  addresses,
}: Extract<Action, { kind: 'attach' }>): Parameters<Attachments['want']> => [
  {
    network,
    netns: netns.path,
    netnsId: netns.id,
    workload: pod.name,
    interfaceName,
    labels: { ...labels },
    addresses: [...addresses],
  },
  { pod: { ...pod } },
];
