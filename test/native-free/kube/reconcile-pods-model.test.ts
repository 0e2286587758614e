// What the informer decides for whatever is seen: a model carries out what it is told.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { STATUS_KEY } from '../../../native-free/kube/network-status.ts';
import {
  type Action,
  type Held,
  type Observed,
  reconcilePods,
} from '../../../native-free/kube/reconcile-pods.ts';
import { attached, pod, running, see, wish } from './observed.ts';

describe('whatever is seen', () => {
  const text = fc.constantFrom(
    undefined,
    '',
    'red',
    'red,green',
    'green/net1?app=web',
    'red?address=10.60.0.9',
    'red@other.example,green',
    'red, red@test.example/x',
    'Broken',
  );
  const anyPod = fc.record({
    asks: text,
    labels: fc.dictionary(fc.constantFrom('app', 'tier', 'x.io/y'), fc.constantFrom('1', '2'), {
      maxKeys: 3,
    }),
    isHostNetwork: fc.boolean(),
    hasEnded: fc.boolean(),
    isEnding: fc.boolean(),
    runs: fc.boolean(),
    isListed: fc.boolean(),
  });
  const anyHeld = fc.record({
    pod: fc.constantFrom('u0', 'u1', 'u2', 'u3', 'strange', undefined),
    network: fc.constantFrom('red', 'green', 'blue'),
    netns: fc.constantFrom('n-u0', 'n-u1', 'n-u2', 'n-old'),
    isWish: fc.boolean(),
    isConfigured: fc.boolean(),
    isLeaving: fc.boolean(),
  });
  const world = fc.record({
    pods: fc.array(anyPod, { maxLength: 4 }),
    held: fc.array(anyHeld, { maxLength: 8 }),
    namespace: text,
  });

  const build = ({ pods, held, namespace }: typeof world extends fc.Arbitrary<infer W> ? W : never) => {
    const all = pods.map(({ asks, runs, isListed, ...others }, index) => ({
      pod: pod({ ...others, uid: `u${index}`, ...(asks === undefined ? {} : { asks }) }),
      runs,
      isListed,
    }));
    const attachments = held.map(({ pod: uid, network, netns, isWish, ...flags }, index): Held => {
      const made = isWish ? wish() : attached({ isLeaving: flags.isLeaving });
      const { pod: _, ...bare } = made;
      return {
        ...bare,
        ...(uid === undefined ? {} : { pod: { namespace: 'team-a', name: `web-${uid}`, uid } }),
        id: `h${index}`,
        network,
        netnsId: netns,
        ...(flags.isConfigured ? { isConfigured: true } : {}),
      };
    });
    return see({
      pods: all.filter(({ isListed }) => isListed).map((one) => one.pod),
      namespaces: new Map([['team-a', namespace === undefined ? {} : { 'vl3.io/networks': namespace }]]),
      sandboxes: new Map(all.filter(({ runs }) => runs).map(({ pod: { uid } }) => running(uid))),
      attachments,
    });
  };

  /** Does what it is told, as the agent would. */
  const carryOut = (seen: Observed, todo: readonly Action[]): Observed => {
    let attachments = seen.attachments.filter((one) => !('isLeaving' in one && one.isLeaving));
    let pods = [...seen.pods];
    const gone = new Set(seen.gone);
    for (const one of todo) {
      if (one.kind === 'detach') attachments = attachments.filter(({ id }) => id !== one.id);
      if (one.kind === 'relabel')
        attachments = attachments.map((held) =>
          held.id === one.id ? { ...held, labels: one.labels } : held,
        );
      if (one.kind === 'confirm') gone.add(one.pod.uid);
      if (one.kind === 'attach')
        attachments = [
          ...attachments,
          attached({
            ...one,
            id: `n${attachments.length}-${one.network}-${one.pod.uid}`,
            netnsId: one.netns.id,
            netns: one.netns.path,
            addresses: one.addresses.length === 0 ? ['10.60.0.2'] : [...one.addresses],
            fixed: [...one.addresses],
            labels: { ...one.labels },
          } as Partial<Held>),
        ];
      if (one.kind === 'show')
        pods = pods.map((other) => {
          if (other.uid !== one.pod.uid) return other;
          const { [STATUS_KEY]: _, ...annotations } = other.annotations;
          return {
            ...other,
            annotations: one.text === undefined ? annotations : { ...annotations, [STATUS_KEY]: one.text },
          };
        });
    }
    return { ...seen, attachments, known: new Set(attachments.map(({ id }) => id)), pods, gone };
  };
  const settle = (seen: Observed): Observed => {
    for (let round = 0; round < 6; round++) seen = carryOut(seen, reconcilePods(seen).actions);
    return seen;
  };

  test('a few rounds are enough: then there is nothing to do but to warn', () => {
    fc.assert(
      fc.property(world, (made) => {
        const left = reconcilePods(settle(build(made))).actions.map(({ kind }) => kind);
        expect(left.filter((kind) => kind !== 'warn')).toEqual([]);
      }),
    );
  });

  test('what nobody made for a pod is never touched, and one network of a pod is attached once', () => {
    fc.assert(
      fc.property(world, (made) => {
        const seen = build(made);
        const after = settle(seen).attachments;
        for (const one of seen.attachments)
          if (one.pod === undefined && !('isLeaving' in one && one.isLeaving))
            expect(after).toContainEqual(one);
        for (const one of seen.pods) {
          const own = after.filter((held) => held.pod?.uid === one.uid).map(({ network }) => network);
          // Of two, only its namespace tells which one is it.
          if (!seen.sandboxes?.has(one.uid)) continue;
          if (!reconcilePods(seen).actions.some((action) => action.kind === 'warn' && action.pod === one))
            expect(new Set(own).size).toBe(own.length);
        }
      }),
    );
  });

  test('without a word of the container runtime nothing of unlisted pods is detached, nor anything attached', () => {
    fc.assert(
      fc.property(world, (made) => {
        const seen = {
          ...build(made),
          sandboxes: undefined,
          gone: new Set(['u0', 'u1', 'u2', 'u3', 'strange']),
        };
        const listed = new Set([...seen.pods].map(({ uid }) => uid));
        for (const one of reconcilePods(seen).actions) {
          expect(one.kind).not.toBe('attach');
          if (one.kind !== 'detach') continue;
          const held = seen.attachments.find(({ id }) => id === one.id);
          expect(listed).toContain(held?.pod?.uid);
        }
      }),
    );
  });
});
