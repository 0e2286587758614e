import { describe, expect, test } from 'vitest';
import { gatewaysOfRoutes } from '../../../native-free/names/gateways-of-routes.ts';
import { NAME_LABEL, nameOf } from '../../../native-free/names/own-names.ts';
import { QueryLimiter } from '../../../native-free/names/query-limiter.ts';
import { formatResolvConf, parseResolvConf } from '../../../native-free/names/resolv-conf.ts';

const ROUTE = [
  'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
  'red\t0000 3C0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0',
  'red\t00003C0A\t01003C0A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0',
  'green\t0000460A\t01004609\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0',
  '',
].join('\n');
const ZERO = '0'.repeat(32);
const IPV6_ROUTE = [
  `fd000060${'0'.repeat(24)} 30 ${ZERO} 00 fd000060${'0'.repeat(23)}1 00000400 00000001 00000000 00000003      red`,
  `${ZERO} 00 ${ZERO} 00 ${ZERO} ffffffff 00000001 00000000 00200200       lo`,
].join('\n');

describe('the gateways of a namespace', () => {
  test('are read from its routes, each once', () => {
    expect(gatewaysOfRoutes(ROUTE, IPV6_ROUTE)).toEqual(['10.60.0.1', '9.70.0.1', 'fd00:60::1']);
    expect(gatewaysOfRoutes('', '')).toEqual([]);
    expect(gatewaysOfRoutes('what\never it\nis', 'x y z')).toEqual([]);
  });
});

describe('resolv.conf', () => {
  test('is read as libraries read it: the last search list, three servers', () => {
    const text =
      '# hello\nnameserver 10.0.0.2 ; dns\nsearch a.example\n\tdomain b.example c\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver ::1\nnameserver 9.9.9.9\nsearch c.example d.example\noptions ndots:5';
    expect(parseResolvConf(text)).toEqual({
      servers: ['10.0.0.2', 'fe80::1%eth0', '::1'],
      search: ['c.example', 'd.example'],
    });
  });

  test('that is written is read back', () => {
    const conf = { servers: ['127.0.0.53'], search: ['red.vl3', 'corp.example'] };
    expect(parseResolvConf(formatResolvConf(conf))).toEqual(conf);
    expect(parseResolvConf(formatResolvConf({ servers: [], search: [] }))).toEqual({
      servers: [],
      search: [],
    });
  });
});

describe('a workload', () => {
  test('is called what its label says, else as it is', () => {
    expect(nameOf({ workload: 'web', labels: {} })).toBe('web');
    expect(nameOf({ workload: 'web', labels: { [NAME_LABEL]: 'Shop' } })).toBe('shop');
    expect(nameOf({ workload: 'web.shop', labels: {} })).toBe('web.shop');
  });

  test('that cannot be called so has no name', () => {
    for (const workload of ['', 'a_b', '-a', 'a.', 'a..b', '*', 'x'.repeat(64), `${'x.'.repeat(100)}x`])
      expect(nameOf({ workload, labels: {} }), workload).toBeUndefined();
  });
});

describe('asking often', () => {
  test('is for each address its own matter, up to what all together may', () => {
    const rate = (burst: number) => ({ perSecond: 1, burst });
    const limiter = new QueryLimiter({ ofOne: rate(2), ofAll: rate(5) });
    const allowed = (source: string) => [1, 2, 3].map(() => limiter.allow(source, 0));
    expect(allowed('a')).toEqual([true, true, false]);
    expect(allowed('b')).toEqual([true, true, false]);
    expect(allowed('c')).toEqual([true, false, false]);
    expect(limiter.allow('a', 1000)).toBe(true);
  });
});
