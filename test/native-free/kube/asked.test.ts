// Whose annotation decides about a pod.

import { expect, test } from 'vitest';
import { askedOf, asksForSome } from '../../../native-free/kube/asked.ts';

const VL3 = 'vl3.io/networks';
const NSM = 'networkservicemesh.io';

test("a pod's own annotation beats its namespace's, of whatever dialect", () => {
  expect(askedOf({}, undefined)).toBeUndefined();
  expect(askedOf({ other: 'x' }, { other: 'x' })).toBeUndefined();
  expect(askedOf({}, { [VL3]: 'red' })).toEqual({ by: 'namespace', key: VL3, text: 'red' });
  expect(askedOf({ [NSM]: 'kernel://green' }, { [VL3]: 'red' })).toMatchObject({ by: 'pod', key: NSM });
});

test("a pod's empty annotation asks for nothing, whatever its namespace asks for", () => {
  const asked = askedOf({ [VL3]: ' ' }, { [VL3]: 'red' });
  expect(asked).toEqual({ by: 'pod', key: VL3, text: ' ' });
  expect(asksForSome(asked)).toBe(false);
  expect(asksForSome(undefined)).toBe(false);
  expect(asksForSome(askedOf({ [VL3]: 'red' }, undefined))).toBe(true);
});

test("vl3's own annotation beats Network Service Mesh's beside it, also when it is empty", () => {
  expect(askedOf({ [NSM]: 'kernel://green', [VL3]: 'red' }, undefined)).toMatchObject({ key: VL3 });
  expect(asksForSome(askedOf({ [NSM]: 'kernel://green', [VL3]: '' }, undefined))).toBe(false);
});

test('what is no text, or inherited, is not asked', () => {
  expect(askedOf({ [VL3]: 7 }, { [VL3]: null })).toBeUndefined();
  expect(askedOf(Object.create({ [VL3]: 'red' }), undefined)).toBeUndefined();
});
