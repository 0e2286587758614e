import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatPrefix } from '../../../native-free/ipam/prefix.ts';
import {
  type DeviceChange,
  type Request,
  RequestError,
  RequestParser,
} from '../../../native-free/uapi/request.ts';
import { formatOutcome, formatView } from '../../../native-free/uapi/response.ts';

const KEY = 'ab'.repeat(32);
const OTHER = '01'.repeat(32);

/** All that the lines bring. */
const parse = (...lines: string[]): (Request | RequestError)[] => {
  const parser = new RequestParser();
  return lines.map((line) => parser.push(line)).filter((one) => one !== undefined);
};
const change = (...lines: string[]): DeviceChange => {
  const [request] = parse('set=1', ...lines, '');
  if (request === undefined || request instanceof RequestError || request.kind === 'get')
    throw new Error(`not understood: ${String(request)}`);
  return request.change;
};
const refused = (...lines: string[]): RequestError => {
  const all = parse(...lines, '');
  const [request] = all;
  expect(all).toHaveLength(1);
  if (!(request instanceof RequestError)) throw new Error('it was understood');
  return request;
};

describe('a request', () => {
  it('of all keys is understood', () => {
    const { peers, ...device } = change(
      `private_key=${KEY}`,
      'listen_port=51820',
      'fwmark=0x1f',
      'replace_peers=true',
      `public_key=${OTHER}`,
      'update_only=true',
      `preshared_key=${KEY}`,
      'endpoint=[2001:DB8::1]:51820',
      'persistent_keepalive_interval=25',
      'replace_allowed_ips=true',
      'allowed_ip=10.1.2.3/8',
      'allowed_ip=fd00::/8',
      'allowed_ip=-10.9.0.0/16',
      'allowed_ip=192.0.2.1',
      'protocol_version=1',
      `public_key=${KEY}`,
      'remove=true',
    );
    expect(device).toEqual({
      privateKey: new Uint8Array(32).fill(0xab),
      listenPort: 51820,
      fwmark: 31,
      replacePeers: true,
    });
    expect(peers).toMatchObject([
      {
        publicKey: new Uint8Array(32).fill(1),
        updateOnly: true,
        remove: false,
        endpoint: { address: '2001:db8::1', port: 51820 },
        persistentKeepalive: 25,
        replaceAllowedIps: true,
      },
      { publicKey: new Uint8Array(32).fill(0xab), remove: true },
    ]);
    expect(
      peers[0]?.allowedIps.map(({ prefix, remove }) => (remove ? '-' : '') + formatPrefix(prefix)),
    ).toEqual(['10.0.0.0/8', 'fd00::/8', '-10.9.0.0/16', '192.0.2.1/32']);
  });

  it('with a key of zeros takes the key away', () => {
    expect(change(`private_key=${'0'.repeat(64)}`).privateKey).toBeNull();
  });

  it('may be followed by others on the same connection, also after one that was refused', () => {
    expect(
      parse('get=1', '', 'set=1', 'nonsense=1', 'listen_port=1', '', 'set=1', 'listen_port=7', ''),
    ).toEqual([
      { kind: 'get' },
      expect.any(RequestError),
      { kind: 'set', change: { replacePeers: false, listenPort: 7, peers: [] } },
    ]);
  });

  it.each([
    ['nothing', []],
    ['another operation', ['put=1']],
    ['set=2', ['set=2']],
    ['no value', ['set=1', 'listen_port']],
    ['an unknown key of the device', ['set=1', 'color=red']],
    ['an unknown key of a peer', ['set=1', `public_key=${KEY}`, 'color=red']],
    ['a peer key before any peer', ['set=1', 'endpoint=1.2.3.4:5']],
    ['a short key', ['set=1', 'private_key=abcd']],
    ['a key that is not hexadecimal', ['set=1', `private_key=${'zz'.repeat(32)}`]],
    ['a port too large', ['set=1', 'listen_port=65536']],
    ['a negative port', ['set=1', 'listen_port=-1']],
    ['a mark too large', ['set=1', 'fwmark=4294967296']],
    ['replace_peers=false', ['set=1', 'replace_peers=false']],
    ['an endpoint without port', ['set=1', `public_key=${KEY}`, 'endpoint=1.2.3.4']],
    ['an endpoint with port 0', ['set=1', `public_key=${KEY}`, 'endpoint=1.2.3.4:0']],
    ['an endpoint that is a name', ['set=1', `public_key=${KEY}`, 'endpoint=example.org:1']],
    ['an IPv6 endpoint without brackets', ['set=1', `public_key=${KEY}`, 'endpoint=fe80::1:1']],
    ['an allowed IP too long', ['set=1', `public_key=${KEY}`, 'allowed_ip=10.0.0.0/33']],
    ['an allowed IP that is none', ['set=1', `public_key=${KEY}`, 'allowed_ip=hello/8']],
    ['another protocol version', ['set=1', `public_key=${KEY}`, 'protocol_version=2']],
    ['a line without end', ['set=1', `private_key=${'a'.repeat(10_000)}`]],
  ])('that holds %s is refused whole', (_, lines) => {
    const error = refused(...lines);
    expect(error.errno).toBeGreaterThan(0);
    expect(error.isGet).toBe(false);
  });

  it('that asks is refused with the other sign', () => {
    expect(refused('get=1', 'listen_port=1').isGet).toBe(true);
    expect(formatOutcome(22, true)).toBe('errno=22\n\n');
    expect(formatOutcome(22)).toBe('errno=-22\n\n');
    expect(formatOutcome(0)).toBe('errno=0\n\n');
  });

  it('of anything at all is answered, once, at its empty line', () => {
    const line = fc.oneof(
      fc.string({ minLength: 1 }),
      fc.constantFrom(
        'set=1',
        'get=1',
        `public_key=${KEY}`,
        'allowed_ip=-::/0',
        'remove=true',
        'listen_port=9',
      ),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const parser = new RequestParser();
        for (const one of lines) expect(parser.push(one)).toBeUndefined();
        expect(parser.push('')).toBeDefined();
      }),
    );
  });
});

describe('a view', () => {
  it('says every key, and what it says can be set again', () => {
    const text = formatView({
      privateKey: new Uint8Array(32).fill(0xab),
      listenPort: 51820,
      fwmark: 66,
      peers: [
        {
          publicKey: new Uint8Array(32).fill(1),
          presharedKey: new Uint8Array(32),
          endpoint: { address: 'fe80::1%3', port: 9 },
          lastHandshakeAt: 1_700_000_000_123,
          txBytes: 5,
          rxBytes: 6,
          persistentKeepalive: 25,
          allowedIps: [{ family: 4, value: 0x0a000000n, length: 8 }],
        },
      ],
    });
    expect(text.split('\n')).toEqual([
      `private_key=${KEY}`,
      'listen_port=51820',
      'fwmark=66',
      `public_key=${OTHER}`,
      `preshared_key=${'0'.repeat(64)}`,
      'protocol_version=1',
      'endpoint=[fe80::1%3]:9',
      'last_handshake_time_sec=1700000000',
      'last_handshake_time_nsec=123000000',
      'tx_bytes=5',
      'rx_bytes=6',
      'persistent_keepalive_interval=25',
      'allowed_ip=10.0.0.0/8',
      'errno=0',
      '',
      '',
    ]);
    const settable = text.split('\n').filter((one) => !/^(last_|tx_|rx_|errno|$)/.test(one));
    expect(change(...settable).peers[0]?.endpoint).toEqual({ address: 'fe80::1%3', port: 9 });
  });
});
