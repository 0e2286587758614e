// What the informer decides, by examples.

import { describe, expect, test } from 'vitest';
import { Askings, askingOf } from '../../../native-free/kube/asking.ts';
import { STATUS_KEY } from '../../../native-free/kube/network-status.ts';
import { type Held, podsToFind, reconcilePods } from '../../../native-free/kube/reconcile-pods.ts';
import { BEING_ATTACHED } from '../../../native-free/reconcile/documents.ts';
import { actions, attached, HOME, kinds, pod, running, see, shownBy, wish } from './observed.ts';

describe('a pod', () => {
  test('that asks is attached with its labels, those asked for, and its namespace', () => {
    const asking = pod({ asks: 'red/net1?app=web&address=10.60.0.7', labels: { app: 'x', tier: 'front' } });
    expect(actions({ pods: [asking] })).toEqual([
      {
        kind: 'attach',
        pod: { namespace: 'team-a', name: 'web-u1', uid: 'u1' },
        network: 'red',
        netns: { path: '/run/netns/u1', id: 'n-u1' },
        interfaceName: 'net1',
        labels: { app: 'web', tier: 'front', 'io.kubernetes.pod.namespace': 'team-a' },
        addresses: ['10.60.0.7'],
      },
    ]);
  });

  test("goes by its namespace's annotation, and its own beats that, also when it is empty", () => {
    const namespaces = new Map([['team-a', { 'vl3.io/networks': 'green' }]]);
    expect(actions({ pods: [pod()], namespaces })).toMatchObject([{ kind: 'attach', network: 'green' }]);
    expect(actions({ pods: [pod({ asks: 'red' })], namespaces })).toMatchObject([{ network: 'red' }]);
    expect(actions({ pods: [pod({ asks: '' })], namespaces })).toEqual([]);
  });

  test('whose namespace has not been seen is left as it is, unless its own annotation decides', () => {
    const namespaces = new Map();
    expect(actions({ pods: [pod()], namespaces, attachments: [attached()] })).toEqual([]);
    expect(kinds({ pods: [pod({ asks: 'red' })], namespaces })).toEqual(['attach']);
  });

  test('that was attached by the CNI plugin is taken over: labelled, shown, and not attached twice', () => {
    const cni = { cniNetwork: 'cluster', containerId: 'c1', ifName: 'eth0' };
    const labels = { app: 'web' };
    const found = actions({ pods: [pod({ asks: 'red', labels })], attachments: [attached({ cni })] });
    expect(found.map(({ kind }) => kind)).toEqual(['relabel', 'show']);
    expect(found[0]).toMatchObject({ labels: { app: 'web', 'io.kubernetes.pod.namespace': 'team-a' } });
  });

  test('whose service account is not known yet has it noted, once, and where it is made', () => {
    const known = { namespace: 'team-a', name: 'web-u1', uid: 'u1', serviceAccount: 'web' };
    const pods = [pod({ asks: 'red', serviceAccount: 'web' })];
    expect(actions({ pods })).toMatchObject([{ kind: 'attach', pod: known }]);
    expect(actions({ pods, attachments: [attached()] })).toMatchObject([
      { kind: 'relabel', serviceAccount: 'web' },
      { kind: 'show' },
    ]);
    expect(kinds({ pods, attachments: [attached({ pod: known })] })).toEqual(['show']);
  });

  test("that has what the plugin's configuration asked for keeps it while no annotation decides", () => {
    const attachments = [attached({ isConfigured: true })];
    expect(kinds({ pods: [pod()], attachments })).toEqual(['show']);
    expect(kinds({ pods: [pod({ asks: '' })], attachments })).toEqual(['detach']);
    expect(kinds({ pods: [pod({ asks: 'green' })], attachments })).toEqual(['detach', 'attach']);
    expect(kinds({ pods: [pod()], attachments: [attached()] })).toEqual(['detach']);
  });

  test('whose annotation is wrong keeps what it has, and is told the place', () => {
    const found = actions({ pods: [pod({ asks: 'red, Blue' })], attachments: [attached()] });
    expect(found).toMatchObject([
      {
        kind: 'warn',
        reason: 'InvalidAnnotation',
        message: expect.stringMatching(/^vl3\.io\/networks, character 6: "Blue"/),
      },
      { kind: 'show' },
    ]);
    const namespaces = new Map([['team-a', { 'vl3.io/networks': 'Blue' }]]);
    expect(actions({ pods: [pod()], namespaces })).toMatchObject([
      {
        message: expect.stringMatching(/^the annotation of namespace team-a: vl3\.io\/networks, character 1/),
      },
    ]);
  });

  test("that asks for another domain's network is told, shown why, and has its others", () => {
    const asking = pod({ asks: 'red, green@partner.example/g1, red@test.example/r2' });
    expect(actions({ pods: [asking] })).toMatchObject([
      { kind: 'attach', network: 'red' },
      {
        kind: 'warn',
        reason: 'NotFederated',
        message: expect.stringMatching(/character 12: .*not federated/),
      },
      { kind: 'warn', reason: 'InvalidAnnotation', message: expect.stringMatching(/asked for twice/) },
    ]);
    const text = shownBy({ pods: [asking], attachments: [attached()] }) ?? expect.fail('nothing is shown');
    expect(JSON.parse(text)).toMatchObject([
      {
        name: 'green@partner.example',
        interface: 'g1',
        pending: expect.stringMatching(/not federated[^\n]*$/),
      },
      { name: 'red', ips: ['10.60.0.2'], mac: '02:00:00:00:00:01', mtu: 1400, default: false },
      { name: 'red@test.example' },
    ]);
  });

  test("that asks for a partner's network is put on that, beside its own of the same name", () => {
    const domains = { ...HOME, partners: new Set(['partner.example']) };
    const asking = pod({ asks: 'red, red@partner.example/red2' });
    expect(actions({ pods: [asking], domains })).toMatchObject([
      { kind: 'attach', network: 'red', interfaceName: 'red' },
      { kind: 'attach', network: 'red@partner.example', interfaceName: 'red2' },
    ]);
    // The federation has ended, and what waited for it goes.
    const wish = attached({ network: 'red@partner.example', interfaceName: 'red2' });
    expect(actions({ pods: [asking], attachments: [attached(), wish] }).map(({ kind }) => kind)).toContain(
      'detach',
    );
  });

  test('on the network of its host is left out, and told when it asks itself', () => {
    const asking = pod({ asks: 'red', isHostNetwork: true });
    expect(actions({ pods: [asking] })).toMatchObject([{ kind: 'warn', reason: 'HostNetwork' }]);
    expect(podsToFind(see({ pods: [asking] }))).toEqual(new Set());
    const namespaces = new Map([['team-a', { 'vl3.io/networks': 'red' }]]);
    expect(actions({ pods: [pod({ isHostNetwork: true })], namespaces })).toEqual([]);
  });

  test('that has ended is detached and shows nothing any more', () => {
    const ended = pod({ asks: 'red', hasEnded: true });
    expect(kinds({ pods: [ended], attachments: [attached()] })).toEqual(['detach']);
    const shows = { ...ended, annotations: { ...ended.annotations, [STATUS_KEY]: '[]' } };
    expect(actions({ pods: [shows] })).toMatchObject([{ kind: 'show', text: undefined }]);
  });

  test.each<[string, Partial<Held>, string]>([
    ['another interface name', { interfaceName: 'net9' }, 'red'],
    ['another address', {}, 'red?address=10.60.0.9'],
    ['another namespace, as of a sandbox that was made anew', { netnsId: 'n-old' }, 'red'],
  ])('with %s is detached first, and attached anew when that is done', (_, over, asks) => {
    const pods = [pod({ asks })];
    const found = reconcilePods(see({ pods, attachments: [attached(over)] }));
    expect(found).toMatchObject({ actions: [{ kind: 'detach', id: 'a1' }], isUnsettled: true });
    expect(kinds({ pods, attachments: [attached({ ...over, isLeaving: true })] })).toEqual([]);
    expect(kinds({ pods })).toEqual(['attach']);
  });

  test('keeps its address when it does not ask for that one any more', () => {
    const attachments = [attached({ fixed: ['10.60.0.2'] })];
    expect(kinds({ pods: [pod({ asks: 'red' })], attachments })).toEqual(['show']);
    const waiting = [wish({ fixed: ['10.60.0.2'] })];
    expect(kinds({ pods: [pod({ asks: 'red' })], attachments: waiting })).toEqual(['detach']);
  });

  test('that waits shows why, but nothing while it is being attached', () => {
    const pods = [pod({ asks: 'red' })];
    const waiting = actions({ pods, attachments: [wish()] });
    expect(waiting).toMatchObject([
      { kind: 'warn', reason: 'NetworkPending', message: 'red is not attached yet: no registry' },
      { kind: 'show', text: expect.stringContaining('"pending": "no registry"') },
    ]);
    const busy = reconcilePods(see({ pods, attachments: [wish({ reason: BEING_ATTACHED })] }));
    expect(busy).toMatchObject({ actions: [], isUnsettled: true });
    expect(reconcilePods(see({ pods, sandboxes: new Map() }))).toMatchObject({
      actions: [],
      isUnsettled: true,
    });
  });

  test('that is being deleted keeps what it has and gets nothing more', () => {
    const pods = [pod({ asks: 'red, green', isEnding: true })];
    expect(reconcilePods(see({ pods }))).toMatchObject({ actions: [], isUnsettled: false });
    expect(kinds({ pods, attachments: [attached()] })).toEqual(['show']);
    const less = [pod({ asks: '', isEnding: true })];
    expect(kinds({ pods: less, attachments: [attached()] })).toEqual(['detach']);
  });

  test('whose edit gives an interface name to another network gets that once the first is gone', () => {
    const pods = [pod({ asks: 'green/red' })];
    const found = reconcilePods(see({ pods, attachments: [attached()] }));
    expect(found).toMatchObject({ actions: [{ kind: 'detach', id: 'a1' }], isUnsettled: true });
    expect(kinds({ pods, attachments: [attached({ isLeaving: true })] })).toEqual([]);
    expect(actions({ pods })).toMatchObject([{ kind: 'attach', network: 'green', interfaceName: 'red' }]);
  });

  test("by a uid that the runtime knows as another pod's is attached nowhere", () => {
    const pods = [pod({ asks: 'red' })];
    for (const other of [{ namespace: 'kube-system' }, { name: 'web' }])
      expect(actions({ pods, sandboxes: new Map([running('u1', other)]) })).toEqual([]);
    expect(reconcilePods(see({ pods, sandboxes: new Map([running('u1', { netns: undefined })]) }))).toEqual({
      actions: [],
      asking: 1,
      isUnsettled: true,
    });
  });

  test("by a uid that is another pod's takes nothing from that", () => {
    const claims = pod({ namespace: 'team-b', name: 'claims' });
    const namespaces = new Map([
      ['team-a', {}],
      ['team-b', {}],
    ]);
    expect(kinds({ pods: [claims], namespaces, attachments: [attached()] })).toEqual(['confirm']);
    const pods = [claims, pod({ asks: 'red' })];
    expect(kinds({ pods, namespaces, attachments: [attached()] })).toEqual(['show']);
  });

  const cni = { cniNetwork: 'cluster', containerId: 'c2', ifName: 'eth0' };
  const fresh = attached({ id: 'a2', netnsId: 'n-new', cni });

  test('whose sandbox was made anew while the runtime was asked keeps what the plugin made in the new one', () => {
    const pods = [pod({ asks: 'red' })];
    expect(kinds({ pods, attachments: [fresh], known: new Set() })).not.toContain('detach');
    // Once the runtime was asked again, it is wrong to be elsewhere.
    expect(kinds({ pods, attachments: [fresh] })).toEqual(['detach']);
  });

  test('of which an earlier sandbox is left keeps both until the runtime tells which is it', () => {
    const pods = [pod({ asks: 'red' })];
    const attachments = [attached(), fresh];
    const unsettled = { actions: [], isUnsettled: true };
    expect(reconcilePods(see({ pods, attachments, sandboxes: new Map() }))).toMatchObject(unsettled);
    expect(reconcilePods(see({ pods, attachments, sandboxes: undefined }))).toMatchObject(unsettled);
    const netns = { path: '/x', id: 'n-new' };
    const sandboxes = new Map([running('u1', { netns })]);
    expect(actions({ pods, attachments, sandboxes })).toMatchObject([{ kind: 'detach', id: 'a1' }]);
  });

  test('somebody attached by hand keeps that, and shows it', () => {
    const { pod: _, ...byHand } = attached({ labels: { own: 'yes' } });
    expect(kinds({ pods: [pod({ asks: 'red' })], attachments: [byHand] })).toEqual(['show']);
    expect(kinds({ pods: [pod()], attachments: [byHand] })).toEqual([]);
  });
});

describe('a pod that is not listed', () => {
  test('as a static one without a mirror, keeps what the CNI plugin made for it until the runtime ends that', () => {
    const cni = { cniNetwork: 'cluster', containerId: 'c1', ifName: 'eth0' };
    const attachments = [attached({ cni })];
    expect(kinds({ attachments })).toEqual(['confirm']);
    expect(kinds({ attachments, gone: new Set(['u1']), sandboxes: new Map() })).toEqual([]);
  });

  test('is asked for, and detached only when it is gone and no sandbox of it runs', () => {
    const attachments = [attached()];
    expect(actions({ attachments })).toEqual([
      { kind: 'confirm', pod: { namespace: 'team-a', name: 'web-u1', uid: 'u1' } },
    ]);
    const gone = new Set(['u1']);
    expect(kinds({ attachments, gone })).toEqual([]);
    expect(kinds({ attachments, gone, sandboxes: undefined })).toEqual([]);
    expect(kinds({ attachments, gone, sandboxes: new Map() })).toEqual(['detach']);
    const nameless = [attached({ pod: { namespace: 'team-a', name: 'web-u1', uid: '' } })];
    expect(kinds({ attachments: nameless, gone, sandboxes: new Map() })).toEqual([]);
  });
});

test('what a pod asks for is understood once, until the pod, its namespace or the domain is another', () => {
  const askings = new Askings();
  const one = pod({ asks: 'red' });
  const none = {};
  const first = askings.of(one, new Map([['team-a', none]]), HOME);
  expect(first).toEqual(askingOf(one, new Map([['team-a', {}]]), HOME));
  expect(askings.of(one, new Map([['team-a', none]]), HOME)).toBe(first);
  expect(askings.of({ ...one, annotations: {} }, new Map([['team-a', none]]), HOME)).toMatchObject({
    kind: 'nothing',
  });
  const plain = pod();
  expect(askings.of(plain, new Map(), HOME)).toEqual({ kind: 'unknown' });
  const green = new Map([['team-a', { 'vl3.io/networks': 'green' }]]);
  expect(askings.of(plain, green, HOME)).toMatchObject({ kind: 'networks', by: 'namespace' });
  const foreign = pod({ asks: 'red@test.example' });
  expect(askings.of(foreign, green, HOME)).toMatchObject({ refused: [] });
  expect(askings.of(foreign, green, { ...HOME, home: 'other.example' })).toMatchObject({ wanted: [] });
});
