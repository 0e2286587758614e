import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Allocator, allocatorStateSchema } from '../../../native-free/ipam/allocator.ts';
import {
  type Address,
  formatAddress,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixSize,
} from '../../../native-free/ipam/prefix.ts';

const withPrefixes = (...prefixes: string[]): Allocator => {
  const allocator = new Allocator();
  for (const prefix of prefixes) allocator.addPrefix(parsePrefix(prefix));
  return allocator;
};

const textOf = (address: Address | undefined): string | undefined =>
  address === undefined ? undefined : formatAddress(address);

/** The slow twin: every address of small prefixes, each fresh, used or freed at some time. */
class Enumerated {
  addresses: { address: Address; owner?: string; freedAt: number; isFresh: boolean }[] = [];
  now = 1;
  add(prefix: Prefix) {
    const last = prefixSize(prefix) - (prefix.family === 4 ? 1n : 0n);
    for (let offset = 2n; offset < last; offset++)
      this.addresses.push({
        address: { family: prefix.family, value: prefix.value + offset },
        freedAt: 0,
        isFresh: true,
      });
  }
  allocate(family: 4 | 6, owner: string, excluded: readonly Prefix[]): string | undefined {
    const free = this.addresses.filter(
      (one) =>
        one.address.family === family &&
        one.owner === undefined &&
        !excluded.some((prefix) => prefixContains(prefix, one.address)),
    );
    const chosen = free.find((one) => one.isFresh) ?? free.sort((a, b) => a.freedAt - b.freedAt)[0];
    if (chosen === undefined) return undefined;
    chosen.owner = owner;
    chosen.isFresh = false;
    return formatAddress(chosen.address);
  }
  free(text: string, owner: string): boolean {
    const one = this.addresses.find(({ address }) => formatAddress(address) === text);
    if (one?.owner !== owner) return false;
    delete one.owner;
    one.freedAt = this.now++;
    return true;
  }
  reserve(text: string, owner: string, excluded: readonly Prefix[]): boolean {
    const one = this.addresses.find(({ address }) => formatAddress(address) === text);
    if (one === undefined) return false;
    if (one.owner !== undefined) return one.owner === owner;
    if (excluded.some((prefix) => prefixContains(prefix, one.address))) return false;
    one.owner = owner;
    one.isFresh = false;
    return true;
  }
}

const owner = fc.constantFrom('a', 'b', 'c');
const operation = fc.oneof(
  fc.record({ kind: fc.constant('allocate' as const), family: fc.constantFrom<4 | 6>(4, 6), owner }),
  fc.record({ kind: fc.constant('free' as const), index: fc.nat(), owner }),
  fc.record({ kind: fc.constant('reserve' as const), index: fc.nat(), owner }),
  fc.record({ kind: fc.constant('exclude' as const), index: fc.nat(3) }),
  fc.record({ kind: fc.constant('restart' as const) }),
);
const EXCLUSIONS = [[], ['10.60.0.0/29'], ['10.60.0.4/32', 'fd00::8/126'], ['10.60.0.0/24', 'fd00::4/127']];

describe('an allocator', () => {
  it('hands out what a plain list of all addresses would, restarts included', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        let allocator = withPrefixes('10.60.0.0/28', 'fd00::/125');
        const list = new Enumerated();
        for (const prefix of ['10.60.0.0/28', 'fd00::/125']) list.add(parsePrefix(prefix));
        let excluded: Prefix[] = [];
        for (const step of operations) {
          if (step.kind === 'allocate') {
            expect(textOf(allocator.allocate(step.family, step.owner, excluded))).toBe(
              list.allocate(step.family, step.owner, excluded),
            );
          } else if (step.kind === 'exclude') {
            excluded = (EXCLUSIONS[step.index] ?? []).map(parsePrefix);
          } else if (step.kind === 'restart') {
            const saved: unknown = JSON.parse(JSON.stringify(allocator.toState()));
            allocator = new Allocator(allocatorStateSchema.parse(saved));
          } else {
            const one = list.addresses[step.index % list.addresses.length];
            if (one === undefined) continue;
            const text = formatAddress(one.address);
            if (step.kind === 'free')
              expect(allocator.free(one.address, step.owner)).toBe(list.free(text, step.owner));
            else
              expect(allocator.reserve(one.address, step.owner, excluded)).toBe(
                list.reserve(text, step.owner, excluded),
              );
          }
        }
        for (const { address, owner } of list.addresses) expect(allocator.ownerOf(address)).toBe(owner);
        expect(allocator.size).toBe(list.addresses.filter((one) => one.owner !== undefined).length);
      }),
      { numRuns: 300 },
    );
  });

  it('keeps the first usable address of the first prefix of each family for the gateway', () => {
    const allocator = withPrefixes('10.60.1.0/30', '10.60.9.0/24', 'fd00::1:0/112');
    expect(textOf(allocator.gateway(4))).toBe('10.60.1.1');
    expect(textOf(allocator.gateway(6))).toBe('fd00::1:1');
    expect(textOf(allocator.allocate(4, 'a'))).toBe('10.60.1.2');
    expect(textOf(allocator.allocate(4, 'a'))).toBe('10.60.9.2');
    expect(textOf(allocator.allocate(6, 'a'))).toBe('fd00::1:2');
    expect(new Allocator().gateway(4)).toBeUndefined();
  });

  it('never hands out network, gateway or broadcast address, not even when asked for it', () => {
    const allocator = withPrefixes('10.60.1.0/29');
    for (const text of ['10.60.1.0', '10.60.1.1', '10.60.1.7', '10.60.2.2'])
      expect(allocator.reserve(parseAddress(text), 'a')).toBe(false);
    const all = Array.from({ length: 6 }, () => textOf(allocator.allocate(4, 'a')));
    expect(all).toEqual(['10.60.1.2', '10.60.1.3', '10.60.1.4', '10.60.1.5', '10.60.1.6', undefined]);
  });

  it('hands out an address given back only when no other is free, the oldest first', () => {
    const allocator = withPrefixes('10.60.1.0/29');
    const [first, second] = [allocator.allocate(4, 'a'), allocator.allocate(4, 'a')];
    if (first === undefined || second === undefined) throw new Error('nothing allocated');
    allocator.free(second, 'a');
    allocator.free(first, 'a');
    const next = Array.from({ length: 6 }, () => textOf(allocator.allocate(4, 'b')));
    expect(next).toEqual(['10.60.1.4', '10.60.1.5', '10.60.1.6', '10.60.1.3', '10.60.1.2', undefined]);
  });

  it('lets an address rest before somebody else gets it, unless that is better than none', () => {
    const allocator = new Allocator({ prefixes: [] }, 0, 60);
    allocator.addPrefix(parsePrefix('10.60.1.0/30'));
    const address = allocator.allocate(4, 'a', [], { now: 1000 });
    if (address === undefined) throw new Error('nothing allocated');
    allocator.free(address, 'a', 1010);
    expect(allocator.allocate(4, 'b', [], { now: 1069 })).toBeUndefined();
    expect(allocator.allocate(4, 'b', [], { now: 1011, early: true })).toEqual(address);
    allocator.free(address, 'b', 1100);
    expect(allocator.allocate(4, 'c', [], { now: 1159 })).toBeUndefined();
    expect(allocator.allocate(4, 'c', [], { now: 1160 })).toEqual(address);
  });

  it('reuses the oldest first over all prefixes, also in its next life', () => {
    const allocator = new Allocator({ prefixes: [] }, 0, 60);
    for (const text of ['10.60.1.0/30', '10.60.2.0/30']) allocator.addPrefix(parsePrefix(text));
    const [first, second] = [allocator.allocate(4, 'a'), allocator.allocate(4, 'b')];
    if (first === undefined || second === undefined) throw new Error('nothing allocated');
    allocator.free(second, 'b', 100);
    allocator.free(first, 'a', 200);
    // A reboot: its clock begins anew.
    const next = new Allocator(JSON.parse(JSON.stringify(allocator.toState())), 5, 60);
    expect(next.allocate(4, 'c', [], { now: 5 })).toEqual(second);
    expect(next.allocate(4, 'c', [], { now: 64 })).toBeUndefined();
    expect(next.allocate(4, 'c', [], { now: 65 })).toEqual(first);
  });

  it('reads what an earlier version wrote down, which knew no ages', () => {
    const state = {
      prefix: '10.60.1.0/29',
      fresh: [] as [string, string][],
      used: { '10.60.1.4': 'a', '10.60.1.5': 'b', '10.60.1.6': 'c' },
    };
    const allocator = new Allocator(
      { prefixes: [{ ...state, freed: ['10.60.1.3', '10.60.1.2'] }] },
      1000,
      60,
    );
    expect(allocator.allocate(4, 'd', [], { now: 1059 })).toBeUndefined();
    expect(textOf(allocator.allocate(4, 'd', [], { now: 1060 }))).toBe('10.60.1.3');
    expect(textOf(allocator.allocate(4, 'd', [], { now: 1060 }))).toBe('10.60.1.2');
  });

  it('says why an address that was asked for cannot be had', () => {
    const allocator = withPrefixes('10.60.1.0/29');
    const excluded = [parsePrefix('10.60.1.4/31')];
    const claim = (text: string, owner = 'a') => allocator.claim(parseAddress(text), owner, excluded);
    expect(claim('10.60.1.3')).toBeUndefined();
    expect(claim('10.60.1.3')).toBeUndefined();
    expect(claim('10.60.1.3', 'b')).toBe('held');
    expect(claim('10.60.1.4')).toBe('excluded');
    expect(['10.60.1.0', '10.60.1.1', '10.60.1.7'].map((text) => claim(text))).toEqual(
      Array(3).fill('unusable'),
    );
    expect(claim('10.60.2.3')).toBe('elsewhere');
    expect(allocator.size).toBe(1);
  });

  it('counts what is used and free of each prefix, whatever is excluded', () => {
    const allocator = withPrefixes('10.60.1.0/28', 'fd00::/64');
    const excluded = ['10.60.1.4/30', '10.60.1.6/31', '10.60.1.0/29'].map(parsePrefix);
    expect(allocator.uses(4)).toMatchObject([{ used: 0, free: 13n, emptySince: 0 }]);
    expect(allocator.uses(4, excluded)).toMatchObject([{ free: 7n }]);
    expect(allocator.uses(6, [parsePrefix('fd00::/65')])).toMatchObject([{ free: 1n << 63n }]);
    allocator.allocate(4, 'a');
    expect(allocator.uses(4)).toMatchObject([{ used: 1, free: 12n, emptySince: undefined }]);
  });

  it('says by undefined that it needs another prefix, and goes on when it has one', () => {
    const allocator = withPrefixes('10.60.1.0/30');
    expect(allocator.allocate(4, 'a')).toBeDefined();
    expect(allocator.allocate(4, 'b')).toBeUndefined();
    expect(allocator.allocate(6, 'b')).toBeUndefined();
    allocator.addPrefix(parsePrefix('10.60.7.0/30'));
    expect(textOf(allocator.allocate(4, 'b'))).toBe('10.60.7.2');
  });

  it('hands out addresses again once they are no longer excluded', () => {
    const allocator = withPrefixes('10.60.1.0/29');
    const excluded = [parsePrefix('10.60.1.0/30'), parsePrefix('10.60.1.4/31')];
    expect(textOf(allocator.allocate(4, 'a', excluded))).toBe('10.60.1.6');
    expect(allocator.allocate(4, 'a', excluded)).toBeUndefined();
    expect(textOf(allocator.allocate(4, 'a'))).toBe('10.60.1.2');
  });

  it('frees nothing for whoever does not hold it', () => {
    const allocator = withPrefixes('10.60.1.0/29');
    const address = allocator.allocate(4, 'a');
    if (address === undefined) throw new Error('nothing allocated');
    expect(allocator.free(address, 'b')).toBe(false);
    expect(allocator.free(parseAddress('10.61.0.1'), 'a')).toBe(false);
    expect(allocator.ownerOf(address)).toBe('a');
    expect(allocator.free(address, 'a')).toBe(true);
    expect(allocator.free(address, 'a')).toBe(false);
  });

  it('gives a prefix up only when none of its addresses is handed out', () => {
    const allocator = withPrefixes('10.60.1.0/29');
    const address = allocator.allocate(4, 'a');
    if (address === undefined) throw new Error('nothing allocated');
    expect(allocator.removePrefix(parsePrefix('10.60.1.0/29'))).toBe(false);
    allocator.free(address, 'a');
    expect(allocator.removePrefix(parsePrefix('10.60.1.0/29'))).toBe(true);
    expect(allocator.removePrefix(parsePrefix('10.60.1.0/29'))).toBe(false);
    expect(allocator.allocate(4, 'a')).toBeUndefined();
  });

  it('takes a prefix once, and none that overlaps another', () => {
    const allocator = withPrefixes('10.60.1.0/29', '10.60.1.0/29');
    expect(allocator.toState().prefixes).toHaveLength(1);
    expect(() => allocator.addPrefix(parsePrefix('10.60.0.0/16'))).toThrow(/overlaps 10\.60\.1\.0\/29/);
  });

  it('refuses saved state that contradicts itself', () => {
    const sound = { prefix: '10.60.1.0/29', fresh: [['4', '7']] as [string, string][], freed: ['10.60.1.3'] };
    const state = (changes: object) => ({ prefixes: [{ ...sound, used: { '10.60.1.2': 'a' }, ...changes }] });
    expect(new Allocator(state({})).size).toBe(1);
    for (const changes of [
      { fresh: [['2', '7']] },
      { fresh: [['4', '8']] },
      { fresh: [['5', '5']] },
      {
        fresh: [
          ['5', '7'],
          ['4', '5'],
        ],
      },
      { freed: ['10.60.1.2'] },
      { freed: ['10.60.1.3', '10.60.1.3'] },
      { freed: ['10.60.1.5'] },
      { freed: ['fd00::3'] },
      { used: { '10.60.1.1': 'a' } },
      { used: { '10.60.2.2': 'a' } },
    ]) {
      expect(() => new Allocator(state(changes) as never), JSON.stringify(changes)).toThrow(/contradict/);
    }
    const twice = state({}).prefixes;
    expect(() => new Allocator({ prefixes: [...twice, ...twice] })).toThrow(/contradict/);
  });

  it('costs the same in a /64 as in a /24, also with millions excluded and thousands given back', () => {
    const allocator = withPrefixes('fd00::/64', '10.64.0.0/16');
    const excluded = [parsePrefix('fd00::/72'), parsePrefix('10.64.0.0/17')];
    expect(textOf(allocator.allocate(6, 'a', excluded))).toBe('fd00::100:0:0:0');
    const taken: Address[] = [];
    for (let i = 0; i < 32767; i++) {
      const address = allocator.allocate(4, 'a', excluded);
      if (address !== undefined) taken.push(address);
    }
    expect(allocator.allocate(4, 'a', excluded)).toBeUndefined();
    for (const address of taken) allocator.free(address, 'a');
    for (const address of taken) expect(allocator.allocate(4, 'b', excluded)).toEqual(address);
    // 65 000 allocations: a scan of what is taken would make it minutes, and the test be given up.
    expect(taken).toHaveLength(32767);
  }, 60_000);
});
