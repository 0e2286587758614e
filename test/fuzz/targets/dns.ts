// The name server's wire format and what it answers: any bytes from a pod, and what another node signed of its names.

import { type Answer, decode, encode } from '@leichtgewicht/dns-packet';
import { parseAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { answer, type Zone } from '../../../native-free/names/answer.ts';
import { NameTable } from '../../../native-free/names/name-table.ts';
import { decodeVerifiedNames, encodeNames } from '../../../native-free/names/signed-names.ts';
import type { VerifyRecord } from '../../../native-free/registry/record.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, pure } from '../target.ts';

const table = new NameTable();
table.set('n1', [
  { name: 'web', addresses: ['10.60.0.5', 'fd00:60::5'].map(parseAddress) },
  { name: 'api.shop', addresses: [parseAddress('10.60.0.6')] },
  { name: 'many', addresses: Array.from({ length: 100 }, (_, i) => parseAddress(`10.60.1.${i}`)) },
]);
const ZONE: Zone = {
  network: 'red',
  pools: ['10.60.0.0/20', 'fd00:60::/48'].map(parsePrefix),
  gateways: [parseAddress('10.60.0.1')],
  names: table,
};

const NAMES = [
  'web.red.vl3',
  'shop.red.vl3',
  'many.red.vl3',
  'nobody.red.vl3',
  'red.vl3',
  'www.example.com',
  '5.0.60.10.in-addr.arpa',
  '60.10.in-addr.arpa',
  '5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.0.0.0.0.d.f.ip6.arpa',
];
const TYPES = ['A', 'AAAA', 'PTR', 'SOA', 'NS', 'ANY', 'MX', 'AXFR'] as const;
const OPT: unknown = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: 4096,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  options: [],
};

const fuzzAnswer = (source: Source): void => {
  const questions = [{ name: source.pick(NAMES), type: source.pick(TYPES) }];
  const additionals = source.between(0, 1) === 1 ? [OPT as Answer] : [];
  const query = source.mutated(encode({ type: 'query', id: source.u16(), questions, additionals }), 4);
  const transport = source.pick(['udp', 'tcp'] as const);
  const response = answer(query, ZONE, transport);
  if (response === undefined) {
    must(query.length < 12 || ((query[2] ?? 0) & 0x80) !== 0, 'a query is left without an answer');
    return;
  }
  must(response.length <= (transport === 'tcp' ? 65_535 : 1232), 'the response is too long');
  mustEqual(response.subarray(0, 2), query.subarray(0, 2), 'the id');
  must(((response[2] ?? 0) & 0x80) !== 0, 'the response is none');
  must(((response[3] ?? 0) & 0x80) === 0, 'it offers recursion');
  // Another reader takes it in, and it answers from the zone or not at all.
  for (const one of decode(response).answers ?? [])
    must(/(red\.vl3|\.arpa)$/i.test('name' in one ? one.name : ''), 'it answers for another zone');
};

const NOW = 1_800_000_000_000;
const SIGNED = encodeNames({
  trustDomain: 'a.example',
  network: 'red',
  networkUid: 'u',
  node: 'n1',
  sequence: 3,
  notBefore: NOW - 1,
  notAfter: NOW + 1,
  names: [
    { name: 'db', addresses: [parseAddress('10.60.1.3')] },
    { name: 'web.shop', addresses: ['10.60.1.2', 'fd00:60::2'].map(parseAddress) },
  ],
});
const byN1: VerifyRecord = () => ({ trustDomain: 'a.example', node: 'n1', notAfter: NOW + 1 });

const fuzzSignedNames = (source: Source): void => {
  const record = source.mutated(SIGNED, 4);
  const signed = { record, signature: new Uint8Array(64), certificateChain: [new Uint8Array(9)] };
  const expected = { network: 'red', networkUid: 'u', home: 'a.example', node: 'n1' };
  const decoded = decodeVerifiedNames(signed, byN1, NOW, expected);
  if (decoded.kind === 'refused') return;
  mustEqual(encodeNames(decoded.names), record, 'its one canonical form');
};

export const dnsTargets = [
  pure('dns', 'any query is answered within limits, from the zone, and readably', 300, fuzzAnswer),
  pure('signed-names', 'names that are accepted have one form', 400, fuzzSignedNames),
];
