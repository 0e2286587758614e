import { expect, test } from 'vitest';
import { PeerSlots } from '../../../src/datapath/peer-slots.ts';

test('a peer past the last place is refused, and has one when another goes', () => {
  const slots = new PeerSlots(2);
  const a = slots.take('device', 'a');
  expect(a).toMatchObject({ deviceId: 'device', peerId: 'a' });
  expect(slots.take('device', 'b')).toBeDefined();
  expect(slots.room).toBe(0);
  expect(slots.take('device', 'c')).toBeUndefined();
  slots.giveBack(a?.slot ?? -1, () => true);
  expect(slots.room).toBe(1);
  expect(slots.take('device', 'c')?.peerId).toBe('c');
});

test('all peers may be replaced at once, before the slots of the former may be reused', () => {
  const slots = new PeerSlots(3);
  let isPassed = false;
  const first = ['a', 'b', 'c'].map((id) => slots.take('device', id)?.slot ?? -1);
  for (const slot of first) slots.giveBack(slot, () => isPassed);
  const second = ['d', 'e', 'f'].map((id) => slots.take('device', id)?.slot ?? -1);
  expect(new Set([...first, ...second]).size).toBe(6);
  expect(Math.max(...second)).toBeLessThan(PeerSlots.slotsFor(3));
  for (const slot of second) slots.giveBack(slot, () => isPassed);
  expect(slots.take('device', 'g')).toBeUndefined();
  isPassed = true;
  expect(slots.take('device', 'g')).toBeDefined();
});
