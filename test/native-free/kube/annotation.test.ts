// The annotation grammar: both dialects, every way to be wrong and where it points, and random annotations there and back.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  MAX_ANNOTATION_LENGTH,
  MAX_NETWORKS,
  parseAnnotation,
  refuseForeign,
  type WantedNetwork,
} from '../../../native-free/kube/annotation.ts';
import { AnnotationError } from '../../../native-free/kube/annotation-error.ts';
import type { AnnotationKey } from '../../../native-free/kube/asked.ts';

const VL3 = 'vl3.io/networks';
const NSM = 'networkservicemesh.io';

const wanted = (network: string, more: Partial<WantedNetwork> = {}) => ({
  network,
  domain: undefined,
  interfaceName: undefined,
  labels: {},
  addresses: [],
  at: 0,
  ...more,
});

const errorOf = (key: AnnotationKey, text: string): AnnotationError => {
  try {
    parseAnnotation(key, text);
  } catch (error) {
    if (error instanceof AnnotationError) return error;
    throw error;
  }
  throw new Error(`"${text}" is no error`);
};

describe('vl3.io/networks', () => {
  test.each<[string, unknown[]]>([
    ['', []],
    [' \n\t', []],
    ['red', [wanted('red')]],
    [' red ,\n green\n', [wanted('red', { at: 1 }), wanted('green', { at: 8 })]],
    ['green@partner.example', [wanted('green', { domain: 'partner.example' })]],
    [
      'red@a.example/net1?app=web&k8s.io/tier=&address=10.60.1.7&address=FD00::0:7',
      [
        wanted('red', {
          domain: 'a.example',
          interfaceName: 'net1',
          labels: { app: 'web', 'k8s.io/tier': '' },
          addresses: ['10.60.1.7', 'fd00::7'],
        }),
      ],
    ],
  ])('"%s" is read', (text, networks) => {
    expect(parseAnnotation(VL3, text)).toEqual(networks);
  });

  test.each<[string, number, RegExp]>([
    [',', 0, /the name of a network is missing/],
    ['red,', 4, /the name of a network is missing/],
    ['red,,green', 4, /the name of a network is missing/],
    ['red green', 4, /a comma is missing/],
    ['red, Green', 5, /"Green" is not the name of a network: use lowercase/],
    [`red, ${'x'.repeat(64)}`, 5, /is not the name of a network/],
    ['red@', 4, /the name of a domain is missing/],
    ['red@A.example', 4, /"A\.example" is not the name of a domain/],
    ['red/', 4, /an interface's name is missing/],
    ['red/eth0', 4, /can't be called "eth0"/],
    ['red/a234567890123456', 19, /use 1 to 15 letters/],
    ['lo', 0, /can't be called "lo": choose another name after a slash/],
    ['red?', 4, /a label is missing/],
    ['red?app', 7, /a value is missing: write app=value/],
    ['red?app=web&', 12, /a label is missing/],
    ['red?-a=b', 4, /not the key of a Kubernetes label/],
    ['red?__proto__=b', 4, /not the key of a Kubernetes label/],
    ['red?a=b%20c', 6, /not the value of a label/],
    ['red?a=b&a=c', 8, /the label "a" is given twice/],
    ['red?address=10.0.0', 12, /"10\.0\.0" is not an IP address/],
    ['red?address=10.0.0.1&address=10.0.0.2', 29, /one IPv4 address at most/],
    ['red, red', 5, /asked for twice/],
    ['red/x, green/x', 7, /would be called "x" as that of "red" is/],
    ['red, red@b.example', 5, /would be called "red"/],
    ['kernel://red', 0, /write the network without "kernel:\/\/"/],
    ['red;green', 0, /"red;green" is not the name/],
  ])('"%s" is wrong at %i', (text, at, sentence) => {
    const error = errorOf(VL3, text);
    expect(error.code).toBe('invalid-argument');
    expect(error.message).toMatch(sentence);
    expect(error.at).toBe(at);
    expect(error.message).toContain(`vl3.io/networks, character ${at + 1}: `);
  });

  test('the place is shown by a caret, in a long text and beside wide characters too', () => {
    expect(errorOf(VL3, 'red, Green, blue').message.split('\n').slice(1)).toEqual([
      '  red, Green, blue',
      '       ^',
    ]);
    expect(errorOf(VL3, 'red\n,\u{1f600}').message.split('\n').slice(1)).toEqual([
      '  red ,\u{1f600}',
      '       ^',
    ]);
    const many = Array.from({ length: 30 }, (_, i) => `network-${i}`).join(',');
    const [, shown = '', caret = ''] = errorOf(VL3, `${many},!,${many}`).message.split('\n');
    expect([...shown][caret.length - 1]).toBe('!');
    expect(shown.length).toBeLessThan(80);
  });

  test('what is too much is refused', () => {
    const networks = (count: number) => Array.from({ length: count }, (_, i) => `n${i}`).join(',');
    expect(parseAnnotation(VL3, networks(MAX_NETWORKS))).toHaveLength(MAX_NETWORKS);
    expect(errorOf(VL3, networks(MAX_NETWORKS + 1)).message).toMatch(/at most 32 networks/);
    expect(errorOf(VL3, ' '.repeat(MAX_ANNOTATION_LENGTH + 1)).message).toMatch(/longer than 16384/);
    const labels = (count: number) => Array.from({ length: count }, (_, i) => `l${i}=`).join('&');
    expect(parseAnnotation(VL3, `red?${labels(32)}`)).toHaveLength(1);
    expect(errorOf(VL3, `red?${labels(33)}`).message).toMatch(/at most 32 labels/);
  });
});

describe('networkservicemesh.io', () => {
  test.each<[string, unknown[]]>([
    ['kernel://red', [wanted('red')]],
    ['kernel://red/nsm-1?app=web', [wanted('red', { interfaceName: 'nsm-1', labels: { app: 'web' } })]],
    [
      'kernel://red@a.example/nsm-1,kernel://green/nsm-2?address=office',
      [
        wanted('red', { domain: 'a.example', interfaceName: 'nsm-1' }),
        wanted('green', { interfaceName: 'nsm-2', labels: { address: 'office' }, at: 29 }),
      ],
    ],
  ])('"%s" is read', (text, networks) => {
    expect(parseAnnotation(NSM, text)).toEqual(networks);
  });

  test.each<[string, number, RegExp]>([
    ['red', 0, /write the network as kernel:\/\/network/],
    ['memif://red', 0, /"memif:\/\/" is not served/],
    ['kernel://red,green', 13, /write the network as kernel:/],
    ['kernel://', 9, /the name of a network is missing/],
    ['kernel://red/nsm-1-that-is-long', 28, /use 1 to 15/],
  ])('"%s" is wrong at %i', (text, at, sentence) => {
    expect(errorOf(NSM, text)).toMatchObject({ at, message: expect.stringMatching(sentence) });
  });
});

test("another domain's network is refused unless it is a partner's, the home domain's own is not", () => {
  const text = 'red@home.example, green@partner.example';
  const networks = parseAnnotation(VL3, text);
  const refuse =
    (home: string, ...partners: string[]) =>
    () =>
      refuseForeign(VL3, text, networks, { home, partners: new Set(partners) });
  expect(refuse('home.example')).toThrow(
    /character 25: "partner\.example" is not federated with this domain/,
  );
  expect(refuse('partner.example')).toThrow(/character 5: "home\.example" is not federated/);
  expect(refuse('home.example', 'partner.example')).not.toThrow();
  expect(() =>
    refuseForeign(VL3, 'red', parseAnnotation(VL3, 'red'), { home: 'x', partners: new Set() }),
  ).not.toThrow();
});

const name = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);
const label = fc.stringMatching(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?$/);
const item = fc.record({
  network: name,
  domain: fc.option(fc.stringMatching(/^[a-z0-9.-]{1,20}$/), { nil: undefined }),
  interfaceName: fc.option(fc.stringMatching(/^x[A-Za-z0-9_.-]{0,13}$/), { nil: undefined }),
  labels: fc.dictionary(
    label.filter((key) => key !== 'address'),
    label,
    { maxKeys: 3 },
  ),
  addresses: fc.constantFrom<string[]>([], ['10.1.2.3'], ['fd00::1'], ['fd00::1', '10.1.2.3']),
});
const blank = fc.stringMatching(/^[ \t\n]{0,3}$/);

const write = (one: Omit<WantedNetwork, 'at'>): string => {
  const pairs = [
    ...Object.entries(one.labels).map(([key, value]) => `${key}=${value}`),
    ...one.addresses.map((address) => `address=${address}`),
  ];
  const domain = one.domain === undefined ? '' : `@${one.domain}`;
  const named = one.interfaceName === undefined ? '' : `/${one.interfaceName}`;
  return `${one.network}${domain}${named}${pairs.length === 0 ? '' : `?${pairs.join('&')}`}`;
};

test('any networks that can be asked for are read as they were written', () => {
  const distinct = fc.uniqueArray(item, {
    maxLength: 8,
    selector: (one) => one.interfaceName ?? one.network,
  });
  fc.assert(
    fc.property(distinct, blank, (items, space) => {
      fc.pre(new Set(items.map(({ network, domain }) => `${network}@${domain}`)).size === items.length);
      fc.pre(!items.some(({ network }) => ['lo', 'eth0', 'all', 'default'].includes(network)));
      const text = `${space}${items.map(write).join(`${space},${space}`)}${space}`;
      const parsed = parseAnnotation(VL3, text);
      expect(parsed.map(({ at: _, ...one }) => one)).toEqual(
        items.map((one) => ({ ...one, labels: { ...one.labels } })),
      );
      for (const one of parsed) expect(text.startsWith(one.network, one.at)).toBe(true);
    }),
  );
});

test('any text is read or refused with a place inside it', () => {
  const character = fc.constantFrom(...'red@/?&=, -_.:AZ0\n\t\u{1f600}\u0000');
  fc.assert(
    fc.property(fc.constantFrom(VL3, NSM), fc.array(character, { maxLength: 30 }), (key, characters) => {
      const text = characters.join('');
      try {
        parseAnnotation(key, text);
      } catch (error) {
        if (!(error instanceof AnnotationError)) throw error;
        expect(error.at).toBeGreaterThanOrEqual(0);
        expect(error.at).toBeLessThanOrEqual(text.length);
        expect(error.message.split('\n')).toHaveLength(3);
      }
    }),
    { numRuns: 2000 },
  );
});

test('what people are shown is read', () => {
  const page = resolve(import.meta.dirname, '../../../deploy/examples/kubernetes/README.md');
  const shown = [
    ...readFileSync(page, 'utf8').matchAll(/^(vl3\.io\/networks|networkservicemesh\.io): (.*)$/gm),
  ];
  expect(shown).toHaveLength(6);
  for (const [, key, text = ''] of shown)
    expect(parseAnnotation(key === NSM ? NSM : VL3, text.replace(/^""$/, '')).length).toBe(
      text === '""' ? 0 : text.split(',').length,
    );
});
