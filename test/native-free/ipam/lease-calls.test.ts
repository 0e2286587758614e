import { expect, test } from 'vitest';
import { type Begin, LeaseCalls } from '../../../native-free/ipam/lease-calls.ts';

/** Calls that end when they are told to. */
const world = () => {
  const begun = new Map<string, () => void>();
  const call =
    (name: string): Begin =>
    (finish) =>
      void begun.set(name, finish);
  const end = (name: string): void => {
    begun.get(name)?.();
    begun.delete(name);
  };
  return { calls: new LeaseCalls(), call, end, underWay: () => [...begun.keys()] };
};

test('a renewal waits for the calls under way, and what comes meanwhile waits for it', () => {
  const { calls, call, end, underWay } = world();
  calls.run(call('a'));
  calls.run(call('b'));
  calls.renew(call('renewal'));
  calls.run(call('c'));
  expect(underWay()).toEqual(['a', 'b']);
  end('a');
  expect(underWay()).toEqual(['b']);
  end('b');
  expect(underWay()).toEqual(['renewal']);
  calls.run(call('d'));
  end('renewal');
  expect(underWay()).toEqual(['c', 'd']);
});

test('renewals never meet, and no call is forgotten behind two of them', () => {
  const { calls, call, end, underWay } = world();
  calls.renew(call('first'));
  calls.renew(call('second'));
  calls.run(call('a'));
  expect(underWay()).toEqual(['first']);
  end('first');
  expect(underWay()).toEqual(['second']);
  end('second');
  expect(underWay()).toEqual(['a']);
});

test('what ends while it begins holds up nothing', () => {
  const { calls, call, underWay } = world();
  calls.renew((finish) => finish());
  calls.run((finish) => finish());
  calls.renew((finish) => finish());
  calls.run(call('a'));
  expect(underWay()).toEqual(['a']);
});
