// What the informer may see: pods, what the agent holds for them, and what runs.

import { askingOf } from '../../../native-free/kube/asking.ts';
import type { Pod } from '../../../native-free/kube/pod.ts';
import {
  type Action,
  type Held,
  type Observed,
  type RunningPod,
  reconcilePods,
} from '../../../native-free/kube/reconcile-pods.ts';

export const HOME = { home: 'test.example', partners: new Set<string>() };

export const pod = (over: Partial<Pod> & { asks?: string } = {}): Pod => {
  const { asks, ...others } = over;
  const uid = others.uid ?? 'u1';
  return {
    uid,
    objectUid: uid,
    namespace: 'team-a',
    name: `web-${uid}`,
    labels: {},
    annotations: asks === undefined ? {} : { 'vl3.io/networks': asks },
    isHostNetwork: false,
    hasEnded: false,
    isEnding: false,
    ...others,
  };
};

export const attached = (over: Partial<Held> = {}): Held => ({
  id: 'a1',
  network: 'red',
  workload: 'web-u1',
  labels: { 'io.kubernetes.pod.namespace': 'team-a' },
  netns: '/run/netns/u1',
  netnsId: 'n-u1',
  interfaceName: 'red',
  addresses: ['10.60.0.2'],
  fixed: [],
  ready: true,
  attachedAt: 1,
  isLeaving: false,
  pod: { namespace: 'team-a', name: 'web-u1', uid: 'u1' },
  ...over,
});

export const wish = (over: Partial<Held> = {}): Held => {
  const { id, network, workload, labels, netns, netnsId, interfaceName, fixed, pod: of } = attached();
  const facts = { id, network, workload, labels, netns, netnsId, interfaceName, fixed };
  return { ...facts, pod: of, preferred: [], askedAt: 1, reason: 'no registry', ...over };
};

export const running = (uid: string, over: Partial<RunningPod> = {}): [string, RunningPod] => [
  uid,
  { namespace: 'team-a', name: `web-${uid}`, netns: { path: `/run/netns/${uid}`, id: `n-${uid}` }, ...over },
];
export const see = (over: Partial<Observed> = {}): Observed => ({
  pods: [],
  namespaces: new Map([['team-a', {}]]),
  attachments: [],
  sandboxes: new Map([running('u1')]),
  known: new Set(over.attachments?.map(({ id }) => id)),
  gone: new Set(),
  domains: HOME,
  asking: askingOf,
  defaultInterfaceName: (network) => network.slice(0, 15),
  shown: () => ({ mac: '02:00:00:00:00:01', mtu: 1400 }),
  ...over,
});

export const actions = (over: Partial<Observed>): readonly Action[] => reconcilePods(see(over)).actions;
export const kinds = (over: Partial<Observed>): string[] => actions(over).map(({ kind }) => kind);
/** What the pod shows once nothing is to be done. */
export const shownBy = (over: Partial<Observed>): string | undefined =>
  actions(over).flatMap((one) => (one.kind === 'show' ? [one.text] : []))[0];
