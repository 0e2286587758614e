import { type Answer, decode, encode, type Packet } from '@leichtgewicht/dns-packet';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Address, formatAddress, parseAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { answer, NEGATIVE_TTL, TTL, type Zone } from '../../../native-free/names/answer.ts';
import { zoneOf as namesZoneOf } from '../../../native-free/names/name.ts';
import { NameTable } from '../../../native-free/names/name-table.ts';
import type { Transport } from '../../../native-free/names/response.ts';

const RD = 1 << 8;
const AA = 1 << 10;
const TC = 1 << 9;

const zoneOf = (names: Record<string, string[]>, pools = ['10.60.0.0/16', 'fd00:60::/48']): Zone => {
  const table = new NameTable();
  table.set(
    'n1',
    Object.entries(names).map(([name, addresses]) => ({ name, addresses: addresses.map(parseAddress) })),
  );
  return {
    network: 'red',
    pools: pools.map(parsePrefix),
    gateways: ['10.60.0.1', 'fd00:60::1'].map(parseAddress),
    names: table,
  };
};

const ZONE = zoneOf({
  web: ['10.60.0.5', 'fd00:60::5'],
  'api.shop': ['10.60.0.6'],
  many: Array.from({ length: 100 }, (_, i) => `10.60.1.${i}`),
});

type Type = 'A' | 'AAAA' | 'PTR' | 'SOA' | 'NS' | 'MX' | 'ANY' | 'AXFR';

const query = (name: string, type: Type, extra: Partial<Packet> = {}): Uint8Array =>
  encode({ type: 'query', id: 7, flags: RD, questions: [{ name, type }], ...extra } as Packet);

const edns = (udpPayloadSize: number, version = 0): Partial<Packet> => ({
  additionals: [
    { type: 'OPT', name: '.', udpPayloadSize, extendedRcode: 0, ednsVersion: version, flags: 0, options: [] },
  ] as unknown as Answer[],
});

interface Reply {
  readonly rcode: string;
  readonly flags: number;
  readonly answers: string[];
  readonly authorities: string[];
  readonly question: string;
  readonly bytes: number;
  readonly hasOpt: boolean;
}

const show = (one: Answer): string => {
  if (one.type === 'OPT') return 'OPT';
  if (one.type === 'SOA') return `${one.name} ${one.ttl} SOA ${one.data.mname} ${one.data.minimum}`;
  return `${one.name} ${'ttl' in one ? one.ttl : ''} ${one.type} ${String('data' in one ? one.data : '')}`;
};

const ask = (bytes: Uint8Array, transport: Transport = 'udp', zone: Zone = ZONE): Reply => {
  const response = answer(bytes, zone, transport);
  if (response === undefined) throw new Error('there is no answer');
  const packet = decode(response);
  expect(packet.type).toBe('response');
  expect(packet.id).toBe(bytes[0] === undefined ? 0 : (bytes[0] << 8) | (bytes[1] ?? 0));
  return {
    rcode: String((packet as { rcode?: string }).rcode),
    flags: packet.flags ?? 0,
    answers: (packet.answers ?? []).map(show),
    authorities: (packet.authorities ?? []).map(show),
    question: packet.questions?.[0]?.name ?? '',
    bytes: response.length,
    hasOpt: (packet.additionals ?? []).some(({ type }) => type === 'OPT'),
  };
};

describe('a name', () => {
  test('of a workload has its addresses, with authority and for seconds', () => {
    const reply = ask(query('web.red.vl3', 'A'));
    expect(reply).toMatchObject({ rcode: 'NOERROR', answers: [`web.red.vl3 ${TTL} A 10.60.0.5`] });
    expect(reply.flags & AA).toBe(AA);
    expect(reply.flags & RD).toBe(RD);
    expect(ask(query('web.red.vl3', 'AAAA')).answers).toEqual([`web.red.vl3 ${TTL} AAAA fd00:60::5`]);
    expect(ask(query('web.red.vl3', 'ANY')).answers).toHaveLength(2);
    expect(ask(query('api.shop.red.vl3', 'A')).answers).toHaveLength(1);
  });

  test('is found in any case, and its question comes back as it was asked', () => {
    const reply = ask(query('WeB.rEd.VL3', 'A'));
    expect(reply).toMatchObject({ question: 'WeB.rEd.VL3', answers: [`WeB.rEd.VL3 ${TTL} A 10.60.0.5`] });
  });

  test('that nobody has is denied with the zone’s SOA', () => {
    expect(ask(query('nobody.red.vl3', 'A'))).toMatchObject({
      rcode: 'NXDOMAIN',
      answers: [],
      authorities: [`red.vl3 ${NEGATIVE_TTL} SOA red.vl3 ${NEGATIVE_TTL}`],
    });
  });

  test('has no records of other types, and a part of a name none at all, without being denied', () => {
    for (const [name, type] of [
      ['web.red.vl3', 'MX'],
      ['api.shop.red.vl3', 'AAAA'],
      ['shop.red.vl3', 'A'],
      ['red.vl3', 'MX'],
    ] as const)
      expect(ask(query(name, type))).toMatchObject({
        rcode: 'NOERROR',
        answers: [],
        authorities: [expect.stringContaining('SOA')],
      });
  });

  test('of the zone itself has this node’s gateway addresses, SOA and NS', () => {
    expect(ask(query('red.vl3', 'A')).answers).toEqual([`red.vl3 ${TTL} A 10.60.0.1`]);
    expect(ask(query('red.vl3', 'NS')).answers).toEqual([`red.vl3 ${TTL} NS red.vl3`]);
    expect(ask(query('red.vl3', 'SOA')).answers).toHaveLength(1);
  });

  test('of any other zone is refused, without authority', () => {
    for (const name of ['web.green.vl3', 'vl3', 'example.com', '', 'red', 'webred.vl3', 'xred.vl3']) {
      const reply = ask(query(name, 'A'));
      expect(reply).toMatchObject({ rcode: 'REFUSED', answers: [], authorities: [] });
      expect(reply.flags & AA).toBe(0);
    }
    expect(ask(query('red.vl3', 'AXFR'))).toMatchObject({ rcode: 'REFUSED' });
  });

  test('with a dot inside a label is not the name with two labels', () => {
    const bytes = query('api-shop.red.vl3', 'A');
    bytes[16] = '.'.charCodeAt(0);
    const response = answer(bytes, ZONE, 'udp') ?? new Uint8Array();
    expect((response[3] ?? 0) & 0xf).toBe(3);
  });
});

describe('an address', () => {
  test('has its names, v4 and v6', () => {
    expect(ask(query('5.0.60.10.in-addr.arpa', 'PTR')).answers).toEqual([
      `5.0.60.10.in-addr.arpa ${TTL} PTR web.red.vl3`,
    ]);
    const v6 = [...`fd000060${'0'.repeat(23)}5`].reverse().join('.');
    expect(ask(query(`${v6}.ip6.arpa`, 'PTR')).answers[0]).toMatch(/PTR web\.red\.vl3$/);
    expect(ask(query('1.0.60.10.in-addr.arpa', 'PTR')).answers[0]).toMatch(/PTR red\.vl3$/);
  });

  test('of the pool that nobody has is denied, one outside is refused, and so is what only looks like one', () => {
    expect(ask(query('9.9.60.10.in-addr.arpa', 'PTR'))).toMatchObject({
      rcode: 'NXDOMAIN',
      authorities: [expect.stringMatching(/^60\.10\.in-addr\.arpa .* SOA/)],
    });
    expect(ask(query('x.0.60.10.in-addr.arpa', 'PTR')).rcode).toBe('NXDOMAIN');
    expect(ask(query('05.0.60.10.in-addr.arpa', 'PTR')).rcode).toBe('NXDOMAIN');
    expect(ask(query('1.5.0.60.10.in-addr.arpa', 'PTR')).rcode).toBe('NXDOMAIN');
    expect(ask(query('60.10.in-addr.arpa', 'PTR')).rcode).toBe('NOERROR');
    for (const name of [
      '5.0.61.10.in-addr.arpa',
      '10.in-addr.arpa',
      'in-addr.arpa',
      '5.0.60.010.in-addr.arpa',
    ])
      expect(ask(query(name, 'PTR')).rcode, name).toBe('REFUSED');
  });

  test('of a pool that ends inside an octet belongs to the zones that lie wholly in it', () => {
    const zone = zoneOf({ web: ['10.60.17.5'] }, ['10.60.16.0/20']);
    expect(ask(query('5.17.60.10.in-addr.arpa', 'PTR'), 'udp', zone).rcode).toBe('NOERROR');
    expect(ask(query('5.18.60.10.in-addr.arpa', 'PTR'), 'udp', zone).authorities[0]).toMatch(/^18\.60\.10\./);
    expect(ask(query('5.32.60.10.in-addr.arpa', 'PTR'), 'udp', zone).rcode).toBe('REFUSED');
    expect(ask(query('60.10.in-addr.arpa', 'PTR'), 'udp', zone).rcode).toBe('REFUSED');
  });
});

describe('a response', () => {
  test('that is too long for UDP says so, and comes whole by TCP', () => {
    const short = ask(query('many.red.vl3', 'A'));
    expect(short).toMatchObject({ answers: [], rcode: 'NOERROR' });
    expect(short.flags & TC).toBe(TC);
    expect(short.bytes).toBeLessThanOrEqual(512);
    const whole = ask(query('many.red.vl3', 'A'), 'tcp');
    expect(whole.answers).toHaveLength(100);
    expect(whole.flags & TC).toBe(0);
  });

  test('is as long as EDNS allows, and never longer than fits any path', () => {
    const zone = zoneOf({ some: Array.from({ length: 40 }, (_, i) => `10.60.1.${i}`) });
    expect(ask(query('some.red.vl3', 'A', edns(1232)), 'udp', zone)).toMatchObject({ hasOpt: true });
    expect(ask(query('some.red.vl3', 'A', edns(1232)), 'udp', zone).answers).toHaveLength(40);
    expect(ask(query('some.red.vl3', 'A', edns(512)), 'udp', zone).flags & TC).toBe(TC);
    const large = ask(query('many.red.vl3', 'A', edns(65_535)));
    expect(large.flags & TC).toBe(TC);
    expect(large.bytes).toBeLessThanOrEqual(1232);
    expect(ask(query('web.red.vl3', 'A', edns(0))).answers).toHaveLength(1);
  });

  test('begins with another address for each asker', () => {
    const first = new Set<string | undefined>();
    for (let id = 0; id < 50; id++) first.add(ask(query('many.red.vl3', 'A', { id }), 'tcp').answers[0]);
    expect(first.size).toBe(50);
  });

  test('to a later version of EDNS, to another operation or to two questions is an error', () => {
    const badvers = answer(query('web.red.vl3', 'A', edns(1232, 1)), ZONE, 'udp') ?? new Uint8Array();
    expect((badvers[3] ?? 0) & 0xf).toBe(0);
    expect(badvers.subarray(-11)).toEqual(Uint8Array.of(0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0));
    const notify = query('web.red.vl3', 'A');
    notify[2] = 4 << 3;
    expect((answer(notify, ZONE, 'udp')?.[3] ?? 0) & 0xf).toBe(4);
    const two = query('web.red.vl3', 'A', {
      questions: [
        { name: 'a.red.vl3', type: 'A' },
        { name: 'b.red.vl3', type: 'A' },
      ],
    });
    expect((answer(two, ZONE, 'udp')?.[3] ?? 0) & 0xf).toBe(1);
  });

  test('to a response there is none', () => {
    const response = query('web.red.vl3', 'A');
    response[2] = (response[2] ?? 0) | 0x80;
    expect(answer(response, ZONE, 'udp')).toBeUndefined();
    expect(answer(new Uint8Array(11), ZONE, 'udp')).toBeUndefined();
  });
});

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?$/);
const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'));
const address: fc.Arbitrary<Address> = fc.oneof(
  fc.nat(0xffff).map((low): Address => ({ family: 4, value: 0x0a3c0000n | BigInt(low) })),
  fc.nat(0xffff).map((low): Address => ({ family: 6, value: (0xfd000060n << 96n) | BigInt(low) })),
);

describe('whatever is asked', () => {
  test('agrees with a table read by hand', () => {
    const entries = fc.array(
      fc.record({
        holder: fc.constantFrom('n1', 'n2'),
        name,
        addresses: fc.array(address, { maxLength: 3 }),
      }),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(
        entries,
        name,
        fc.constantFrom<'A' | 'AAAA'>('A', 'AAAA'),
        fc.nat(9),
        (held, other, type, pick) => {
          const zone = zoneOf({});
          for (const holder of ['n1', 'n2'])
            zone.names.set(
              holder,
              held.filter((one) => one.holder === holder),
            );
          const asked = held[pick]?.name ?? other;
          const all = held.filter((one) => one.name === asked).flatMap((one) => one.addresses);
          const family = type === 'A' ? 4 : 6;
          const expected = new Set(all.filter((one) => one.family === family).map(formatAddress));
          const reply = ask(query(`${asked}.red.vl3`, type), 'tcp', zone);
          expect(new Set(reply.answers.map((line) => line.split(' ')[3]))).toEqual(expected);
          const isThere = held.some(
            (one) => one.addresses.length > 0 && (one.name === asked || one.name.endsWith(`.${asked}`)),
          );
          expect(reply.rcode).toBe(isThere ? 'NOERROR' : 'NXDOMAIN');
        },
      ),
    );
  });

  test('is answered within its limits, or not at all', () => {
    const mutated = fc.tuple(
      fc.constantFrom(
        query('web.red.vl3', 'A', edns(4096)),
        query('5.0.60.10.in-addr.arpa', 'PTR'),
        query('many.red.vl3', 'ANY', edns(700)),
      ),
      fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 }),
    );
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      mutated.map(([good, changes]) => {
        const copy = Uint8Array.from(good);
        for (const [at, byte] of changes) if (at < copy.length) copy[at] = byte;
        return copy;
      }),
    );
    fc.assert(
      fc.property(bytes, fc.constantFrom<Transport>('udp', 'tcp'), (asked, transport) => {
        const response = answer(asked, ZONE, transport);
        if (response === undefined) return;
        expect(response.length).toBeLessThanOrEqual(transport === 'udp' ? 1232 : 65_535);
        expect([...response.subarray(0, 2)]).toEqual([...asked.subarray(0, 2)]);
        expect((response[2] ?? 0) & 0x80).toBe(0x80);
        decode(response);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("another domain's network", () => {
  const foreign = (network: string, others: readonly (readonly string[])[] = []): Zone => ({
    ...ZONE,
    network,
    others,
  });

  test('has its zone below the domain, apart from every own one', () => {
    const zone = foreign('red@home.example');
    expect(ask(query('web.red.home.example.at.vl3', 'A'), 'udp', zone).answers).toHaveLength(1);
    expect(ask(query('5.0.60.10.in-addr.arpa', 'PTR'), 'udp', zone).answers[0]).toMatch(
      /PTR web\.red\.home\.example\.at\.vl3$/,
    );
    for (const name of ['web.red.vl3', 'web.red.home.example.vl3', 'web.example.at.vl3'])
      expect(ask(query(name, 'A'), 'udp', zone).rcode).toBe('REFUSED');
  });

  test('that lies in the zone of another on this node is answered by its own server alone', () => {
    const inner = namesZoneOf('red@eu.home.example');
    const outer = foreign('eu@home.example', [inner]);
    expect(ask(query('web.red.eu.home.example.at.vl3', 'A'), 'udp', outer).rcode).toBe('REFUSED');
    expect(ask(query('web.eu.home.example.at.vl3', 'A'), 'udp', outer).answers).toHaveLength(1);
  });

  test.each([
    `red@${'d'.repeat(70)}`,
    'red@a..b',
    `red@${Array.from({ length: 60 }, () => 'long').join('.')}`,
  ])('whose domain cannot be a name is not answered for: %s', (network) => {
    expect(ask(query('web.red.vl3', 'A'), 'udp', foreign(network)).rcode).toBe('REFUSED');
    expect(ask(query('5.0.60.10.in-addr.arpa', 'PTR'), 'udp', foreign(network)).rcode).toBe('REFUSED');
  });
});
