import { describe, expect, test } from 'vitest';
import { type Admitted, judge } from '../../../native-free/kube/admission.ts';

const KEY = 'vl3.io/networks';
const NSM = 'networkservicemesh.io';
const HOME = 'home.example';

const pod = (annotations: Record<string, string>, more: Partial<Admitted> = {}): Admitted => ({
  kind: 'pod',
  annotations,
  labels: {},
  before: undefined,
  isHostNetwork: false,
  isMirror: false,
  ...more,
});

describe('what is refused', () => {
  test.each([
    [
      KEY,
      'red, Blue',
      /^vl3\.io\/networks, character 6: "Blue" is not the name of a network: .*\n {2}red, Blue\n {7}\^$/,
    ],
    [KEY, 'red,', /^vl3\.io\/networks, character 5: the name of a network is missing\n {2}red,\n {6}\^$/],
    [KEY, 'red, red', /character 6: the network "red" is asked for twice/],
    [NSM, 'kernel://red/interface-too-long', /^networkservicemesh\.io, character 29: .*\n.*\n {30}\^$/],
    [NSM, 'red', /character 1: write the network as kernel:\/\/network/],
  ])('%s: %s', (key, text, refusal) => {
    expect(judge(pod({ [key]: text }), HOME)).toEqual({
      refusal: expect.stringMatching(refusal),
      warnings: [],
    });
    expect(judge(pod({ [key]: text }, { kind: 'namespace' }), undefined).refusal).toMatch(refusal);
  });

  test('one network with its domain and without, where the domain is known', () => {
    const twice = pod({ [KEY]: `red, red@${HOME}/red1` });
    expect(judge(twice, HOME).refusal).toMatch(
      /character 6: the network "red" is asked for twice, with its domain/,
    );
    expect(judge(twice, undefined).refusal).toBeUndefined();
  });

  test('an annotation that becomes wrong, or was wrong in another way', () => {
    expect(judge(pod({ [KEY]: 'red,' }, { before: { [KEY]: 'red' } }), HOME).refusal).toBeDefined();
    expect(judge(pod({ [KEY]: 'red,' }, { before: { [KEY]: 'red,,' } }), HOME).refusal).toBeDefined();
    expect(judge(pod({ [KEY]: 'red,' }, { before: { [NSM]: 'red,' } }), HOME).refusal).toBeDefined();
  });
});

describe('what passes', () => {
  test.each<[string, Record<string, string>]>([
    ['nothing', {}],
    ['annotations of others', { 'example.com/networks': 'Blue,,', 'prometheus.io/scrape': 'true' }],
    ['networks', { [KEY]: 'red, green/net1?app=web&address=10.60.0.7' }],
    ["Network Service Mesh's", { [NSM]: 'kernel://red/nsm-1?app=web,kernel://green/nsm-2' }],
    ['no network', { [KEY]: '' }],
    ['what an agent writes', { 'vl3.io/network-status': '[' }],
    ['a network of its own domain', { [KEY]: `red@${HOME}` }],
  ])('%s, without a word', (_, annotations) => {
    for (const kind of ['pod', 'namespace'] as const)
      expect(judge(pod(annotations, { kind }), HOME)).toEqual({ refusal: undefined, warnings: [] });
  });

  test('a wrong annotation that was there before, with a warning: an update of something else must not fail', () => {
    const annotations = { [KEY]: 'red,' };
    expect(judge(pod(annotations, { before: annotations }), HOME)).toEqual({
      refusal: undefined,
      warnings: ['vl3.io/networks, character 5: the name of a network is missing'],
    });
  });

  test('a wrong one of a pod that its node has from a file, with a warning: it runs already', () => {
    const { refusal, warnings } = judge(pod({ [KEY]: 'red,' }, { isMirror: true }), HOME);
    expect(refusal).toBeUndefined();
    expect(warnings).toEqual([expect.stringMatching(/character 5/)]);
  });
});

describe('what is warned about', () => {
  test.each<[string, Admitted, RegExp]>([
    [
      'an annotation that vl3 does not know',
      pod({ 'vl3.io/network': 'red' }),
      /vl3\.io\/network is not known to vl3: networks are asked for by vl3\.io\/networks/,
    ],
    ['a label as an annotation', pod({ 'vl3.io/name': 'db' }), /vl3\.io\/name is not read: make it a label/],
    [
      "Network Service Mesh's beside vl3's, also a wrong one",
      pod({ [KEY]: 'red', [NSM]: 'nonsense' }),
      /networkservicemesh\.io is not read beside vl3\.io\/networks/,
    ],
    ["a pod on its node's network", pod({ [KEY]: 'red' }, { isHostNetwork: true }), /is left out/],
    [
      'a label that cannot be a name',
      pod({ [KEY]: 'red' }, { labels: { 'vl3.io/name': 'my_db' } }),
      /label vl3\.io\/name: "my_db" cannot be a name/,
    ],
    [
      'one in the annotation',
      pod({ [KEY]: 'red?vl3.io/name=my_db' }, { labels: { 'vl3.io/name': 'db' } }),
      /"my_db" cannot be a name/,
    ],
  ])('%s', (_, admitted, warning) => {
    expect(judge(admitted, HOME)).toEqual({ refusal: undefined, warnings: [expect.stringMatching(warning)] });
  });

  test('nothing of another domain, since only nodes know whether it is federated', () => {
    expect(judge(pod({ [KEY]: 'green@partner.example' }), HOME).warnings).toEqual([]);
    expect(judge(pod({ [KEY]: 'green@partner.example' }), undefined).warnings).toEqual([]);
  });

  test('in lines that fit a header, however much there is to say', () => {
    const annotations = Object.fromEntries(
      Array.from({ length: 500 }, (_, i) => [`vl3.io/${'x'.repeat(i)}\n\u0007\u202e`, '']),
    );
    const { warnings } = judge(pod(annotations), HOME);
    expect(warnings.length).toBe(8);
    for (const one of warnings) expect(one).toMatch(/^\P{C}{1,250}$/u);
  });
});
