// Networks as nodes name them, and nodes as a network's home calls them.

import { describe, expect, test } from 'vitest';
import { foreignKey } from '../../../native-free/registry/foreign-key.ts';
import {
  domainOfKey,
  formatNetworkKey,
  nameOfKey,
  networkKey,
  networkKeyAt,
  readNetworkKey,
} from '../../../native-free/registry/network-key.ts';
import { nodeKey, readNodeKey } from '../../../native-free/registry/node-key.ts';

const HOME = 'home.example';

describe("a network's key", () => {
  test('names the domain when it is another, and reads back', () => {
    for (const parts of [
      { network: 'red', domain: undefined },
      { network: 'red', domain: HOME },
    ]) {
      expect(readNetworkKey(formatNetworkKey(parts))).toEqual(parts);
      expect(domainOfKey(formatNetworkKey(parts))).toBe(parts.domain);
      expect(nameOfKey(formatNetworkKey(parts))).toBe('red');
    }
  });

  test('is one and the same with the own domain and without', () => {
    expect(networkKeyAt(HOME, `red@${HOME}`)).toBe('red');
    expect(networkKeyAt(HOME, 'red')).toBe('red');
    expect(networkKeyAt(HOME, 'red@partner.example')).toBe('red@partner.example');
  });

  test.each([
    '',
    '@home.example',
    'red@',
    'Red',
    'red@Home.example',
    'red@a@b',
    'red/x',
    `r@${'d'.repeat(256)}`,
  ])('"%s" is none', (text) => {
    expect(readNetworkKey(text)).toBeUndefined();
    expect(networkKey.safeParse(text).success).toBe(false);
  });
});

describe("a node's key", () => {
  test("is its name at home, and has its domain elsewhere; neither is taken for the other's", () => {
    const own = { node: 'n1', trustDomain: HOME };
    const other = { node: 'n1', trustDomain: 'partner.example' };
    expect(nodeKey(HOME, own)).toBe('n1');
    expect(nodeKey(HOME, other)).toBe(foreignKey('n1', 'partner.example'));
    expect(readNodeKey(HOME, 'n1')).toEqual(own);
    expect(readNodeKey(HOME, 'n1@partner.example')).toEqual(other);
  });

  test.each(['', 'n1@', '@partner.example', 'n1@home.example', 'n1@a@b', 'N1', 'n1@Partner.example'])(
    '"%s" is none',
    (text) => {
      expect(readNodeKey(HOME, text)).toBeUndefined();
    },
  );
});
