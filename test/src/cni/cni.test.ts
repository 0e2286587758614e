// What the agent answers to CHECK, without an agent. All of it, with one: test/scenarios/k2-cni.

import { expect, test } from 'vitest';
import type { AttachmentDocument } from '../../../native-free/reconcile/documents.ts';
import { Cni } from '../../../src/cni/cni.ts';

const owner = { cniNetwork: 'cluster', containerId: 'c1', ifName: 'eth0' };
const pod = { namespace: 'team-a', name: 'web', uid: 'u1' };
const request = {
  owner,
  netns: '/run/netns/web',
  wanted: { by: 'pod', key: 'vl3.io/networks', text: 'red, green' },
} as const;
const green: AttachmentDocument = {
  ...{ id: 'a1', network: 'green', workload: 'web', labels: {}, netns: request.netns, netnsId: 'n' },
  ...{
    interfaceName: 'green',
    addresses: ['10.70.0.2'],
    fixed: [],
    ready: true,
    attachedAt: 1,
    isLeaving: false,
  },
  cni: owner,
};

const cni = (isLed: boolean, faults: string[] = []): Cni => {
  const router = { interfaceOf: () => undefined, faults: async () => faults };
  return new Cni({
    attachments: { documents: [green], attach: () => Promise.reject(), detach: async () => [] },
    router: () => router as never,
    domains: () => ({ home: 'test.example', partners: new Set() }),
    isLed: () => isLed,
  });
};

test('what a container asks for and is not on is a fault', async () => {
  const missing = ['the container is not on red: make it anew'];
  expect(await cni(false).check(request)).toEqual({ faults: missing });
  expect(await cni(false).check({ ...request, pod })).toEqual({ faults: missing });
  // Nobody edits what is no pod's.
  expect(await cni(true).check(request)).toEqual({ faults: missing });
});

test('a pod that was taken off a network by an edit of its annotation has no fault', async () => {
  expect(await cni(true).check({ ...request, pod })).toEqual({ faults: [] });
  expect(await cni(true, ['green is down']).check({ ...request, pod })).toEqual({
    faults: ['green is down'],
  });
});
