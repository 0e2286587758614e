// What is read of pods and namespaces, and what is not believed.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_ANNOTATION_LENGTH, parseAnnotation } from '../../../native-free/kube/annotation.ts';
import { readNamespace, readPod } from '../../../native-free/kube/pod.ts';
import { podSchema } from '../../../native-free/reconcile/documents.ts';

const UID = '7b0f3a52-2f6a-4c1e-9d51-3a3c8b4e1f00';
const metadata = { uid: UID, name: 'web-0', namespace: 'team-a' };

test('of a pod only what decides about networks is kept', () => {
  const annotations = { 'vl3.io/networks': 'red', 'vl3.io/network-status': '[]', other: 'x' };
  const object = {
    metadata: { ...metadata, annotations, labels: { app: 'web' }, creationTimestamp: new Date(0) },
    spec: { hostNetwork: true, containers: [] },
    status: { phase: 'Running' },
  };
  expect(readPod(object)).toEqual({
    uid: UID,
    objectUid: UID,
    namespace: 'team-a',
    name: 'web-0',
    labels: { app: 'web' },
    annotations: { 'vl3.io/networks': 'red', 'vl3.io/network-status': '[]' },
    isHostNetwork: true,
    hasEnded: false,
    isEnding: false,
  });
  expect(readPod({ metadata, status: { phase: 'Failed' } })).toMatchObject({ hasEnded: true, labels: {} });
  expect(readPod({ metadata: { ...metadata, labels: null, annotations: null } })).toMatchObject({
    labels: {},
  });
});

test.each(['2026-01-02T03:04:05Z', new Date(0)])(
  'one that is being deleted is known by its date (%s)',
  (date) => {
    expect(readPod({ metadata: { ...metadata, deletionTimestamp: date } })).toMatchObject({ isEnding: true });
    expect(readPod({ metadata: { ...metadata, deletionTimestamp: null } })).toMatchObject({
      isEnding: false,
    });
  },
);

test('an annotation that is too long is not kept whole, and is refused as it would be', () => {
  const text = 'red,'.repeat(60_000);
  const read = readPod({
    metadata: { ...metadata, annotations: { 'vl3.io/networks': text, 'vl3.io/network-status': text } },
  });
  const kept = read?.annotations['vl3.io/networks'] ?? '';
  expect(kept.length).toBe(MAX_ANNOTATION_LENGTH + 1);
  expect(read?.annotations['vl3.io/network-status']).toBe(text);
  const refusal = (one: string) => {
    try {
      return parseAnnotation('vl3.io/networks', one);
    } catch (error) {
      return error instanceof Error ? error.message : '';
    }
  };
  const [line, , caret] = String(refusal(kept)).split('\n');
  expect(line).toMatch(/character 16385: it is longer than 16384 characters/);
  expect([line, caret]).toEqual([String(refusal(text)).split('\n')[0], String(refusal(text)).split('\n')[2]]);
});

describe('a static pod', () => {
  const uid = 'd41d8cd98f00b204e9800998ecf8427e';
  const mirror = (text: string, ownerReferences?: object[]) =>
    readPod({
      metadata: { ...metadata, annotations: { 'kubernetes.io/config.mirror': text }, ownerReferences },
    });
  const ofNode = [{ kind: 'Node', name: 'n' }];

  test("is known by the kubelet's uid for it", () => {
    expect(mirror(uid, ofNode)).toMatchObject({ uid, objectUid: UID });
  });

  test.each([
    ['of no node', uid, undefined],
    ['of something else', uid, [{ kind: 'ReplicaSet' }]],
    ["by another pod's uid", '00000000-2f6a-4c1e-9d51-3a3c8b4e1f00', ofNode],
    ['by nonsense', 'x'.repeat(1000), ofNode],
  ])('is none %s', (_, text, owners) => {
    expect(mirror(text, owners)).toMatchObject({ uid: UID });
  });
});

test('what can be read can be written down, whatever an API server says', () => {
  const text = fc.oneof(fc.string({ maxLength: 300 }), fc.constantFrom('a', 'web-0', UID, 'x'.repeat(254)));
  const strings = fc.oneof(fc.dictionary(text, text, { maxKeys: 3 }), fc.constant(null), fc.constant(7));
  const anyObject = fc.record(
    { uid: text, name: text, namespace: text, labels: strings, annotations: strings },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(anyObject, fc.anything()), (one) => {
      const pod = readPod({ metadata: one });
      if (pod === undefined) return;
      expect(podSchema.safeParse({ namespace: pod.namespace, name: pod.name, uid: pod.uid }).success).toBe(
        true,
      );
      for (const value of Object.values(pod.labels)) expect(value.length).toBeLessThanOrEqual(63);
    }),
  );
  expect(readPod(undefined)).toBeUndefined();
  expect(readPod({ metadata: { ...metadata, uid: 'x'.repeat(65) } })).toBeUndefined();
});

test('of a namespace only what it asks for is kept', () => {
  const annotations = { 'networkservicemesh.io': 'kernel://red', 'vl3.io/network-status': '[]' };
  expect(readNamespace({ metadata: { name: 'team-a', annotations } })).toEqual({
    name: 'team-a',
    annotations: { 'networkservicemesh.io': 'kernel://red' },
  });
  expect(readNamespace({ metadata: {} })).toBeUndefined();
});
