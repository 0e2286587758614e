import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  clashingClusters,
  clusterNodeName,
  isClusterName,
  isKubernetesNodeName,
} from '../../../native-free/registry/cluster-node.ts';
import { isName } from '../../../native-free/registry/spiffe-id.ts';

test('a node is called after its cluster and itself', () => {
  expect(clusterNodeName('east', 'worker-1')).toBe('east-worker-1');
});

test('a name with dots, or too long a one, is cut and told apart by a hash of all of it', () => {
  expect(clusterNodeName('east', 'ip-10-0-0-1.eu-west-1.compute.internal')).toBe('east-ip-10-0-0-1-6beef572');
  expect(clusterNodeName('east', 'web.rack-1')).not.toBe(clusterNodeName('east', 'web.rack-2'));
  const long = `a-${'b'.repeat(61)}`;
  expect(clusterNodeName('east', long)).toMatch(/^east-a-b{47}-[0-9a-f]{8}$/);
  // The cut leaves no hyphen behind it.
  expect(clusterNodeName('east', `${'a'.repeat(48)}-${'b'.repeat(14)}.c`)).toMatch(
    /^east-a{48}-[0-9a-f]{8}$/,
  );
});

test('what is no name of a cluster or a node is refused', () => {
  for (const [cluster, node] of [
    ['', 'n'],
    ['East', 'n'],
    ['a'.repeat(31), 'n'],
    ['east', ''],
    ['east', 'N'],
    ['east', 'a..b'],
    ['east', '-a'],
    ['east', 'a/../b'],
    ['east', 'a\nb'],
    ['east', 'a'.repeat(254)],
  ] as const)
    expect(() => clusterNodeName(cluster, node), `${cluster} ${node}`).toThrow(/no names of a cluster/);
});

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/);
const nodeName = fc.array(label, { minLength: 1, maxLength: 8 }).map((labels) => labels.join('.'));

test('nodes of different clusters are never called alike, and every name is a DNS label', () => {
  fc.assert(
    fc.property(label, label, nodeName, nodeName, (a, b, m, n) => {
      fc.pre(a !== b && isClusterName(a) && isClusterName(b) && clashingClusters([a, b]) === undefined);
      fc.pre(isKubernetesNodeName(m) && isKubernetesNodeName(n));
      const [one, other] = [clusterNodeName(a, m), clusterNodeName(b, n)];
      expect(isName(one) && isName(other)).toBe(true);
      expect(one).not.toBe(other);
    }),
  );
});

test('clusters of which one name begins another, up to a hyphen, clash; others do not', () => {
  expect(clashingClusters(['east', 'west', 'eastern', 'easter'])).toBeUndefined();
  expect(clashingClusters(['west', 'east-1', 'zz', 'east'])).toEqual(['east', 'east-1']);
  expect(clashingClusters(['a-b-c', 'a', 'a0'])).toEqual(['a', 'a-b-c']);
  expect(clashingClusters(['east', 'east'])).toEqual(['east', 'east']);
  // Against the slow way.
  fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[ab](-?[ab]){0,3}$/), { maxLength: 6 }), (names) => {
      const slow = names.some((one, i) => names.some((two, j) => i !== j && `${two}-`.startsWith(`${one}-`)));
      expect(clashingClusters(names) !== undefined).toBe(slow);
    }),
  );
});
