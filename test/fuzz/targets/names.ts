// What people and other programs write: names, SPIFFE IDs, addresses, prefixes, and the arguments of commands.

import { isIP } from 'node:net';
import { InvalidArgumentError } from 'commander';
import { collectLabel, parseDuration, parseInteger, readBy } from '../../../cmd/vl3/arguments.ts';
import {
  addressBytes,
  addressFromBytes,
  familyBits,
  formatAddress,
  formatPrefix,
  parseAddress,
  parsePrefix,
  prefixAround,
  prefixContains,
  prefixSize,
} from '../../../native-free/ipam/prefix.ts';
import * as model from '../../../native-free/registry/model.ts';
import {
  formatSpiffeId,
  isName,
  isTrustDomain,
  parseName,
  parseTrustDomain,
  readSpiffeId,
} from '../../../native-free/registry/spiffe-id.ts';
import { host } from '../../../src/config/fields.ts';
import type { Source } from '../source.ts';
import { accepted, must, mustEqual, pure } from '../target.ts';

const BAD = ['invalid-argument'] as const;
const ADDRESSES = [
  '10.1.2.3',
  '0.0.0.0',
  '255.255.255.255',
  '010.1.2.3',
  '1.2.3',
  '::',
  '::1',
  'fd00::1',
  'FD00::1',
  '::ffff:1.2.3.4',
  'fe80::1%eth0',
  '1:2:3:4:5:6:7:8',
  '1::2::3',
  '2001:db8::10000',
];
const PREFIXES = [
  '10.1.0.0/16',
  '10.1.0.1/16',
  '0.0.0.0/0',
  '::/0',
  'fd00:1::/48',
  'fd00::1/128',
  '10.0.0.0/33',
  '10.0.0.0/08',
  '1.2.3.4/32',
];

const fuzzAddress = (source: Source): void => {
  const text = source.textLike(ADDRESSES, 40);
  const address = accepted(BAD, () => parseAddress(text));
  // The platform's reader says the same, but for zones, which name interfaces and not addresses.
  if (!/[%]/.test(text)) mustEqual(address?.family ?? 0, isIP(text), `the family of "${text}"`);
  if (address === undefined) return;
  const canonical = formatAddress(address);
  mustEqual(parseAddress(canonical), address, 'the address there and back');
  mustEqual(addressFromBytes(addressBytes(address)), address, 'the address as bytes and back');
  mustEqual(formatAddress(parseAddress(canonical)), canonical, 'its canonical text');
};

const fuzzPrefix = (source: Source): void => {
  const text = source.textLike(PREFIXES, 45);
  const prefix = accepted(BAD, () => parsePrefix(text));
  if (prefix === undefined) return;
  const bits = familyBits(prefix.family);
  must(prefix.length >= 0 && prefix.length <= bits, 'a length past its family');
  mustEqual(parsePrefix(formatPrefix(prefix)), prefix, 'the prefix there and back');
  mustEqual(prefixAround(prefix, prefix.length), prefix, 'its network address');
  const last = { family: prefix.family, value: prefix.value + prefixSize(prefix) - 1n };
  must(prefixContains(prefix, prefix) && prefixContains(prefix, last), 'its first and last address');
  must(
    !prefixContains(prefix, { ...last, value: last.value + 1n }) || last.value + 1n >= 1n << BigInt(bits),
    'the address after it',
  );
};

const NAMES = [
  'red',
  'n1',
  'a-b',
  '-a',
  'a-',
  'A',
  'xn--e1a',
  'a'.repeat(63),
  'a'.repeat(64),
  '',
  'a.b',
  'a_b',
];

const fuzzNames = (source: Source): void => {
  const text = source.textLike(NAMES, 70);
  const isLabel =
    text.length <= 63 && /^[a-z0-9-]+$/.test(text) && !text.startsWith('-') && !text.endsWith('-');
  mustEqual(isName(text), isLabel, `whether "${text}" is a name`);
  mustEqual(accepted(BAD, () => parseName('node', text)) !== undefined, isLabel, 'parseName');
  mustEqual(
    accepted(BAD, () => model.check(model.name, text, 'name')) !== undefined,
    isLabel,
    'the stored name',
  );
  mustEqual(accepted(BAD, () => parseTrustDomain(text)) !== undefined, isTrustDomain(text), 'a trust domain');
};

const IDS = [
  'spiffe://a.example/node/n1',
  'spiffe://a.example/admin/root',
  'spiffe://a.example/registry',
  'spiffe://a.example',
  'spiffe://a.example/node/n1/x',
  'spiffe://A/node/n1',
  'spiffe://a.example/node/-',
];

const fuzzSpiffeId = (source: Source): void => {
  const text = source.textLike(IDS, 80);
  const id = readSpiffeId(text);
  if (id === undefined) return;
  mustEqual(formatSpiffeId(id), text, 'the ID there and back');
  must(isTrustDomain(id.trustDomain) && (!('name' in id) || isName(id.name)), 'an ID of bad parts');
  const url = new URL(text);
  mustEqual(url.host, id.trustDomain, 'its host as others read it');
};

const parseHost = readBy(host());

const usage = <T>(call: () => T): T | undefined => {
  try {
    return call();
  } catch (error) {
    if (error instanceof InvalidArgumentError) return undefined;
    throw error;
  }
};

const fuzzArguments = (source: Source): void => {
  const text = source.textLike(
    [
      '90s',
      '15m',
      '7d',
      '1h',
      '-1s',
      '203.0.113.7',
      '[2001:db8::7]:7443',
      'registry.example:7443',
      '::1',
      '0',
      '65536',
      'a=b',
      '=',
      '__proto__=x',
      '1e3',
      '0x10',
    ],
    40,
  );
  const seconds = usage(() => parseDuration(text));
  must(seconds === undefined || (Number.isSafeInteger(seconds) && seconds >= 0), 'a duration that is none');
  const place = usage(() => parseHost(text));
  must(place?.port === undefined || (place.port >= 1 && place.port <= 65_535), 'a port that is none');
  const number = usage(() => parseInteger(0, 65_535)(text));
  must(
    number === undefined || (Number.isInteger(number) && number >= 0 && number <= 65_535),
    'a number that is none',
  );
  const labels = usage(() => collectLabel(text, { k: 'v' }));
  if (labels === undefined) return;
  const at = text.indexOf('=');
  mustEqual(Object.hasOwn(labels, text.slice(0, at)), true, 'the label');
  mustEqual(Object.getPrototypeOf(labels) === Object.prototype, true, 'the prototype');
};

const SCHEMAS = {
  network: model.network,
  node: model.node,
  token: model.token,
  member: model.member,
  lease: model.lease,
  storedRecord: model.storedRecord,
  tombstone: model.tombstone,
  attachment: model.attachment,
  sighting: model.sighting,
  liveness: model.liveness,
} as const;

const GOOD: readonly unknown[] = [
  {
    name: 'red',
    uid: 'u',
    poolV4: '10.60.0.0/16',
    nodePrefixLengthV4: 24,
    excluded: ['10.60.0.0/24'],
    mtu: 0,
    createdAt: 1,
  },
  { network: 'red', node: 'n1', prefix: '10.60.1.0/24', leasedAt: 1, requestId: 'r' },
  { network: 'red', node: 'n1', joinedAt: 1 },
  {
    id: 'a',
    network: 'red',
    node: 'n1',
    workload: 'w',
    addresses: ['10.60.1.2'],
    interfaceName: 'red',
    labels: { a: 'b' },
    attachedAt: 1,
  },
  { network: 'red', node: 'n1', removedAt: 1, recordSequence: 0 },
];

/** What is stored is read back as it was, and what is malformed is 'internal' and nothing else. */
const fuzzStoredValue = (source: Source): void => {
  const [kind, schema] = source.pick(Object.entries(SCHEMAS));
  const json = new TextEncoder().encode(JSON.stringify(source.pick(GOOD)));
  const bytes = source.mutated(json, 3);
  const value: unknown = accepted(['internal'], () => model.decodeValue<unknown>(schema, bytes, `/${kind}`));
  if (value === undefined) return;
  const again = model.encodeValue<unknown>(schema, value, kind);
  mustEqual(model.decodeValue<unknown>(schema, again, kind), value, 'the value there and back');
};

export const nameTargets = [
  pure(
    'address',
    'addresses are read as the platform reads them, and have one canonical text',
    60,
    fuzzAddress,
  ),
  pure('prefix', 'prefixes go there and back and hold their own addresses', 60, fuzzPrefix),
  pure('names', 'a name is a DNS label to every reader', 90, fuzzNames),
  pure('spiffe-id', 'a SPIFFE ID has one text', 100, fuzzSpiffeId),
  pure('arguments', 'values of options are what they say or refused', 60, fuzzArguments),
  pure('stored-value', 'what the store gives back is valid or refused', 200, fuzzStoredValue),
];
