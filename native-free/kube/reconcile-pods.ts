// What has to be done so that this node's pods are on the networks they ask for: a function of what was seen. Doing it and
// looking again leads to nothing to do. What was not seen (a namespace, a sandbox, whether a pod is gone) changes nothing.
//
// An attachment is a pod's when it was made for it, by the CNI plugin or from here: one of the same network is taken over
// as it is and not made twice. What somebody attached by hand is left alone.

import type { AttachmentDocument, WishDocument } from '../reconcile/documents.ts';
import { BEING_ATTACHED } from '../reconcile/documents.ts';
import type { Domains, WantedNetwork } from './annotation.ts';
import type { Asking, askingOf } from './asking.ts';
import { formatNetworkStatus, type NetworkStatus, STATUS_KEY } from './network-status.ts';
import type { Pod } from './pod.ts';
import { podLabels, sameLabels } from './pod-labels.ts';

export type Held = AttachmentDocument | WishDocument;

/** A running pod's network namespace: a path to it, and what tells it from others. */
export interface PodNetns {
  readonly path: string;
  readonly id: string;
}

/** A pod as the container runtime runs it. */
export interface RunningPod {
  readonly namespace: string;
  readonly name: string;
  /** Undefined: it is not told where that is, or nothing is there. */
  readonly netns: PodNetns | undefined;
}

export interface Observed {
  /** All of this node. */
  readonly pods: Iterable<Pod>;
  /** By name; one that is not here has not been seen. */
  readonly namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>;
  readonly attachments: readonly Held[];
  /** Running pods, by uid; undefined: the container runtime does not answer. */
  readonly sandboxes: ReadonlyMap<string, RunningPod> | undefined;
  /** Ids of attachments that were there before the runtime was asked: of others it cannot have told. */
  readonly known: ReadonlySet<string>;
  /** Uids of pods that the API server was asked for one by one, and does not have. */
  readonly gone: ReadonlySet<string>;
  /** The same object while they are the same. */
  readonly domains: Domains;
  /** What a pod asks for: Askings.of, or askingOf. */
  readonly asking: typeof askingOf;
  readonly defaultInterfaceName: (network: string) => string;
  /** What an interface is made of, beyond what was written down. */
  readonly shown: (
    attachment: AttachmentDocument,
  ) => { readonly mac: string; readonly mtu: number } | undefined;
}

export type PodRef = Pick<Pod, 'namespace' | 'name' | 'uid' | 'serviceAccount'>;
export type Reason = 'InvalidAnnotation' | 'NotFederated' | 'HostNetwork' | 'NetworkPending';

export type Action =
  | {
      readonly kind: 'attach';
      readonly pod: PodRef;
      readonly network: string;
      readonly netns: PodNetns;
      readonly interfaceName: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly addresses: readonly string[];
    }
  | { readonly kind: 'detach'; readonly id: string; readonly network: string; readonly why: string }
  | {
      readonly kind: 'relabel';
      readonly id: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly serviceAccount?: string;
    }
  /** Ask the API server for this one pod: it is not among those that were listed. */
  | { readonly kind: 'confirm'; readonly pod: PodRef }
  /** Undefined: the pod shows no networks any more. */
  | { readonly kind: 'show'; readonly pod: Pod; readonly text: string | undefined }
  | { readonly kind: 'warn'; readonly pod: Pod; readonly reason: Reason; readonly message: string };

export interface Plan {
  readonly actions: readonly Action[];
  /** Pods that ask for networks. */
  readonly asking: number;
  /** Something is under way: look again soon. */
  readonly isUnsettled: boolean;
}

/** Which pods have to be looked for in the container runtime. */
export const podsToFind = ({
  pods,
  namespaces,
  attachments,
  domains,
  asking,
}: Pick<Observed, 'pods' | 'namespaces' | 'attachments' | 'domains' | 'asking'>): Set<string> => {
  const uids = new Set(attachments.flatMap(({ pod }) => (pod === undefined ? [] : [pod.uid])));
  for (const pod of pods)
    if (!pod.isHostNetwork && !pod.hasEnded && asking(pod, namespaces, domains).kind === 'networks')
      uids.add(pod.uid);
  return uids;
};

export const reconcilePods = (observed: Observed): Plan => {
  const { pods, namespaces, attachments, domains, sandboxes } = observed;
  const ofPods = byPod(attachments);
  const actions: Action[] = [];
  const seen = new Set<Held>();
  let asking = 0;
  let isUnsettled = false;
  for (const pod of pods) {
    // A uid can be claimed: who is called otherwise has no part in what the pod of it has.
    const own = [...(ofPods.get(pod.uid) ?? []), ...(ofPods.get(nameOf(pod)) ?? [])].filter(
      (one) => one.pod !== undefined && nameOf(one.pod) === nameOf(pod),
    );
    for (const one of own) seen.add(one);
    const netns = netnsOf(pod, sandboxes);
    const asked = observed.asking(pod, namespaces, domains);
    if (asked.kind === 'unknown') continue;
    const outcome = ofPod(pod, asked, { own, netns, others: byHand(attachments, netns) }, observed);
    actions.push(...outcome.actions);
    asking += asked.kind === 'networks' || asked.kind === 'broken' ? 1 : 0;
    isUnsettled ||= outcome.isUnsettled;
  }
  for (const one of attachments) if (!seen.has(one)) actions.push(...ofNoPod(one, observed));
  return { actions, asking, isUnsettled };
};

interface Present {
  /** Made for the pod. */
  readonly own: readonly Held[];
  readonly netns: PodNetns | undefined;
  /** In its namespace, and made for nobody that is known. */
  readonly others: readonly Held[];
}

const ofPod = (pod: Pod, asked: Asking, present: Present, observed: Observed) => {
  const actions: Action[] = [];
  const warn = (reason: Reason, message: string) => actions.push({ kind: 'warn', pod, reason, message });
  const detach = ({ id, network }: Held, why: string) => actions.push({ kind: 'detach', id, network, why });
  const mayHave = !pod.isHostNetwork && !pod.hasEnded;
  if (asked.kind === 'broken') warn('InvalidAnnotation', asked.message);
  // A namespace means those that can.
  if (asked.kind === 'networks' && asked.by === 'pod' && pod.isHostNetwork && !pod.hasEnded)
    warn('HostNetwork', 'it uses the network of its node (hostNetwork), which is put on no other: left out');

  // An annotation that cannot be read takes nothing away.
  const isLeft = (one: Held): boolean =>
    mayHave &&
    (asked.kind === 'broken' || (asked.kind === 'nothing' && !asked.isSaid && one.isConfigured === true));
  const wanted = asked.kind === 'networks' && mayHave ? asked.wanted : [];
  const refused = asked.kind === 'networks' && mayHave ? asked.refused : [];
  const kept: Held[] = [];
  for (const one of present.own) {
    if (isLeaving(one)) continue;
    const want = wanted.find(({ network }) => network === one.network);
    const isTwice = kept.some(({ network }) => network === one.network);
    const why = isLeft(one) ? undefined : whyNot(pod, one, want, isTwice, present, observed);
    if (why !== undefined) {
      detach(one, why);
      continue;
    }
    kept.push(one);
    if (want === undefined) continue;
    const labels = podLabels(pod.labels, want.labels, pod.namespace);
    // What the CNI plugin made does not know it: no runtime says.
    const { serviceAccount } = pod;
    const isAccountNew = serviceAccount !== undefined && one.pod?.serviceAccount !== serviceAccount;
    if (!sameLabels(labels, one.labels) || isAccountNew)
      actions.push({
        kind: 'relabel',
        id: one.id,
        labels,
        ...(serviceAccount !== undefined && { serviceAccount }),
      });
  }
  kept.push(...present.others.filter(({ network }) => wanted.some((one) => one.network === network)));
  const { netns } = present;
  const isReplaced = actions.some(({ kind }) => kind === 'detach') || present.own.some(isLeaving);
  // A pod that is being deleted gets nothing more: its sandbox may be half taken down.
  const missing = pod.isEnding
    ? []
    : wanted.filter(({ network }) => !kept.some((one) => one.network === network));
  for (const want of missing) {
    const isHeld = present.own.some(
      (one) => one.network === want.network || one.interfaceName === nameFor(want, observed),
    );
    // What is in its place has to go first.
    if (netns === undefined || isHeld) continue;
    actions.push(toAttach(pod, want, netns, observed));
  }
  for (const { reason, message } of refused) warn(reason, message);
  for (const one of kept) {
    if ('ready' in one || one.reason === BEING_ATTACHED) continue;
    warn('NetworkPending', `${one.network} is not attached yet: ${one.reason}`);
  }
  const isTwice = new Set(kept.map(({ network }) => network)).size < kept.length;
  const isUnsettled = isReplaced || isTwice || missing.length > 0 || kept.some(isBeingMade);
  if (!isUnsettled) {
    const text = shownOf(kept, refused, observed);
    if (text !== pod.annotations[STATUS_KEY]) actions.push({ kind: 'show', pod, text });
  }
  return { actions, isUnsettled };
};

/** Why the attachment has to go, also when it is made anew at once; undefined: it stays. */
const whyNot = (
  pod: Pod,
  one: Held,
  want: WantedNetwork | undefined,
  isTwice: boolean,
  { netns }: Present,
  observed: Observed,
): string | undefined => {
  if (pod.hasEnded) return 'the pod has ended';
  if (want === undefined) return 'the pod does not ask for it any more';
  // Which of two is it only its namespace tells; one that came meanwhile may be of a sandbox that is being made.
  if (netns !== undefined && observed.known.has(one.id)) {
    if (netns.id !== one.netnsId) return 'the pod has another network namespace now';
    if (isTwice) return 'the pod has another';
  }
  const name = nameFor(want, observed);
  if (name !== one.interfaceName) return `its interface is to be called ${name}`;
  const has = 'ready' in one ? one.addresses : one.fixed;
  if (want.addresses.some((address) => !has.includes(address))) return 'it is to have another address';
  // What is not attached yet waits for these addresses and no others.
  if (!('ready' in one) && one.fixed.length > want.addresses.length) return 'it may have any address now';
  return undefined;
};

const nameFor = (want: WantedNetwork, { defaultInterfaceName }: Observed): string =>
  want.interfaceName ?? defaultInterfaceName(want.network);

const toAttach = (pod: Pod, want: WantedNetwork, netns: PodNetns, observed: Observed): Action => ({
  kind: 'attach',
  pod: {
    namespace: pod.namespace,
    name: pod.name,
    uid: pod.uid,
    ...(pod.serviceAccount !== undefined && { serviceAccount: pod.serviceAccount }),
  },
  network: want.network,
  netns,
  interfaceName: nameFor(want, observed),
  labels: podLabels(pod.labels, want.labels, pod.namespace),
  addresses: want.addresses,
});

/** A uid can be claimed, as that of a static pod's mirror: the runtime has to know it as the same pod. */
const netnsOf = ({ uid, namespace, name }: Pod, sandboxes: Observed['sandboxes']): PodNetns | undefined => {
  const found = sandboxes?.get(uid);
  return found?.namespace === namespace && found.name === name ? found.netns : undefined;
};

/**
 * Gone only when both say so who would know: the API server has no such pod, and no sandbox of it runs. What the CNI plugin
 * made is the runtime's to end, by DEL, GC or with the namespace: until a sandbox is ready no runtime tells of it, and of a
 * static pod the API server may never.
 */
const ofNoPod = (one: Held, { sandboxes, gone }: Observed): Action[] => {
  const { pod, id, network, cni } = one;
  // Of a pod without a uid nothing can be told: its namespace's end is the end of it.
  if (pod === undefined || pod.uid === '' || isLeaving(one)) return [];
  if (!gone.has(pod.uid)) return [{ kind: 'confirm', pod }];
  if (cni !== undefined || sandboxes === undefined || sandboxes.has(pod.uid)) return [];
  return [{ kind: 'detach', id, network, why: 'the pod is gone' }];
};

const shownOf = (
  kept: readonly Held[],
  refused: Extract<Asking, { kind: 'networks' }>['refused'],
  { shown }: Observed,
): string | undefined => {
  const all: NetworkStatus[] = [
    ...kept.map((one): NetworkStatus => {
      const facts = { name: one.network, interface: one.interfaceName };
      return 'ready' in one
        ? { ...facts, ips: one.addresses, ...only(shown(one)) }
        : { ...facts, ips: [], pending: one.reason };
    }),
    ...refused.map(({ name, interface: of, message }) => ({
      name,
      interface: of,
      ips: [],
      // Without the excerpt below it.
      pending: message.split('\n')[0] ?? '',
    })),
  ];
  return all.length === 0 ? undefined : formatNetworkStatus(all);
};

const only = (made: { mac: string; mtu: number } | undefined) =>
  made === undefined ? {} : { mac: made.mac, mtu: made.mtu };

/** By uid, and of those made without one by name. */
const byPod = (attachments: readonly Held[]): Map<string, Held[]> => {
  const found = new Map<string, Held[]>();
  for (const one of attachments) {
    if (one.pod === undefined) continue;
    const key = one.pod.uid === '' ? nameOf(one.pod) : one.pod.uid;
    const others = found.get(key);
    if (others === undefined) found.set(key, [one]);
    else others.push(one);
  }
  return found;
};

/** A slash is in no uid. */
const nameOf = ({ namespace, name }: { namespace: string; name: string }): string => `${namespace}/${name}`;

const byHand = (attachments: readonly Held[], netns: PodNetns | undefined): Held[] =>
  netns === undefined
    ? []
    : attachments.filter((one) => one.pod === undefined && one.netnsId === netns.id && !isLeaving(one));

const isLeaving = (one: Held): boolean => 'isLeaving' in one && one.isLeaving;

const isBeingMade = (one: Held): boolean => ('ready' in one ? !one.ready : one.reason === BEING_ATTACHED);
