import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FederationConstraints } from '../../../native-free/federation/constraints.ts';
import {
  formatInvitation,
  type Invitation,
  invitationProblem,
  parseInvitation,
} from '../../../native-free/federation/invitation.ts';

const NOW = Date.UTC(2026, 0, 1);
const CONSTRAINTS: FederationConstraints = {
  trustDomain: 'partner.example',
  networks: ['red'],
  names: ['partner'],
  prefixes: ['10.60.128.0/17'],
};
const GOOD: Invitation = {
  trustDomain: 'home.example',
  registries: ['registry.home.example:7443', '[2001:db8::7]:7443', '192.0.2.7:7443'],
  endpoint: {
    profile: 'https_spiffe',
    url: 'https://registry.home.example:8443/bundle.json',
    spiffeId: 'spiffe://home.example/registry',
  },
  caFingerprints: [new Uint8Array(32).fill(7)],
  secret: Uint8Array.from({ length: 32 }, (_, i) => i * 8),
  expiresAt: NOW + 86_400_000,
  constraints: CONSTRAINTS,
};
const TEXT = formatInvitation(GOOD);

const refusal = (text: string): string => {
  try {
    parseInvitation(text);
    return 'accepted';
  } catch (error) {
    return error instanceof Error ? error.message : 'no error';
  }
};

describe('an invitation', () => {
  test('comes back as it was, whatever is in it', () => {
    const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/);
    const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 });
    const some = fc.record({
      domain: fc.stringMatching(/^[a-z0-9._-]{1,40}$/),
      isWeb: fc.boolean(),
      path: fc.stringMatching(/^[a-z0-9/]{0,20}$/),
      server: label,
      prints: fc.array(bytes, { minLength: 1, maxLength: 4 }),
      secret: bytes,
      at: fc.integer({ min: 1, max: 253_402_300_799 }),
      networks: fc.uniqueArray(label, { minLength: 1, maxLength: 16 }),
      names: fc.uniqueArray(label, { maxLength: 16 }),
      hosts: fc.array(label, { minLength: 1, maxLength: 16 }),
    });
    fc.assert(
      fc.property(some, ({ domain, isWeb, path, server, prints, secret, at, networks, names, hosts }) => {
        const url = `https://${server}.example/${path}`;
        const spiffeId = `spiffe://${domain}/x/${server}`;
        const invitation: Invitation = {
          trustDomain: domain,
          registries: hosts.map((host) => `${host}.example:7443`),
          endpoint: isWeb ? { profile: 'https_web', url } : { profile: 'https_spiffe', url, spiffeId },
          caFingerprints: prints,
          secret,
          expiresAt: at * 1000,
          constraints: { trustDomain: `partner-${domain}`.slice(0, 255), networks, names, prefixes: [] },
        };
        expect(parseInvitation(formatInvitation(invitation))).toEqual(invitation);
      }),
      { numRuns: 200 },
    );
  });

  test('is one line that can be pasted: under 700 characters as a rule', () => {
    expect(TEXT).toMatch(/^vl3f1\.[A-Za-z0-9_-]+$/);
    expect(TEXT.length).toBeLessThan(700);
  });

  test('is read when a terminal or a mail program has broken it into lines', () => {
    expect(parseInvitation(`  ${TEXT.match(/.{1,60}/g)?.join('\r\n')}\n`)).toEqual(GOOD);
  });

  test('of which the end is missing is called truncated, wherever it was cut', () => {
    for (let length = 'vl3f1.'.length; length < TEXT.length; length++)
      expect(refusal(TEXT.slice(0, length)), String(length)).toMatch(/truncated: paste the whole line/);
  });

  test('with any one character changed, added or missing is refused', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 6, max: TEXT.length - 1 }),
        fc.constantFrom('A', 'b', '_', '-', '9', '', '+', '/', '='),
        fc.boolean(),
        (at, put, isAdded) => {
          const changed = TEXT.slice(0, at) + put + TEXT.slice(isAdded ? at : at + 1);
          fc.pre(changed !== TEXT);
          expect(refusal(changed)).toMatch(/damaged|truncated/);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('says what to do when it is something else', () => {
    expect(refusal('vl3j1.AAAA')).toMatch(
      /not an invitation: paste the whole line that `vl3 federation invite`/,
    );
    expect(refusal('vl3f3.AAAA')).toMatch(/another version of vl3: upgrade vl3/);
    expect(refusal('')).toMatch(/not an invitation/);
    expect(refusal('vl3f1.'.padEnd(100_000, 'A'))).toMatch(/damaged/);
  });

  test('never shows its secret when it is refused', () => {
    const secret = Buffer.from(GOOD.secret).toString('base64url');
    expect(Buffer.from(TEXT.slice(6), 'base64url').toString('latin1')).toContain(secret);
    expect(refusal(TEXT.slice(0, -1))).not.toContain(secret.slice(0, 12));
    expect(refusal(`${TEXT}A`)).not.toContain(secret.slice(0, 12));
  });
});

describe('made of', () => {
  test.each<[string, Partial<Invitation>, RegExp]>([
    ['no registry', { registries: [] }, /"r" is wrong/],
    [
      'an address without a port',
      { registries: ['registry.example'] },
      /write it like registry\.example:7443/,
    ],
    ['an address that is none', { registries: ['1.2.3.400:1'] }, /is not an IP address/],
    ['a port past the last', { registries: ['a.example:65536'] }, /registry address is wrong/],
    ['no fingerprint', { caFingerprints: [] }, /"c" is wrong/],
    ['a short fingerprint', { caFingerprints: [new Uint8Array(31)] }, /"c\.0" is wrong/],
    ['a short secret', { secret: new Uint8Array(16) }, /"s" is wrong/],
    ['a trust domain that is none', { trustDomain: 'Home' }, /"d" is wrong/],
    ['no time', { expiresAt: Number.NaN }, /"e" is wrong/],
    [
      'its own domain',
      { constraints: { ...CONSTRAINTS, trustDomain: 'home.example' } },
      /cannot invite itself/,
    ],
    ['no network', { constraints: { ...CONSTRAINTS, networks: [] } }, /networks/],
    ['host bits', { constraints: { ...CONSTRAINTS, prefixes: ['10.0.0.1/8'] } }, /host bits/],
    [
      'an endpoint that is not https',
      { endpoint: { profile: 'https_web', url: 'http://a.example/' } },
      /is not where a bundle can be/,
    ],
    [
      'an endpoint with a user',
      { endpoint: { profile: 'https_web', url: 'https://me@a.example/' } },
      /is not where a bundle can be/,
    ],
    [
      "another domain's server",
      {
        endpoint: { profile: 'https_spiffe', url: 'https://a.example/', spiffeId: 'spiffe://evil/registry' },
      },
      /is not the SPIFFE ID of a server of home\.example/,
    ],
  ])('%s, none is made', (_, change, why) => {
    expect(() => formatInvitation({ ...GOOD, ...change })).toThrow(why);
  });
});

describe('whoever accepts one', () => {
  test('is the partner that it was made for, in time', () => {
    expect(invitationProblem(GOOD, 'partner.example', NOW)).toBeUndefined();
    expect(invitationProblem(GOOD, 'partner.example', GOOD.expiresAt - 1)).toBeUndefined();
    expect(invitationProblem(GOOD, 'partner.example', GOOD.expiresAt)).toMatch(
      /expired at 2026-01-02T00:00:00\.000Z: ask there for another/,
    );
  });

  test('is told whom it is for when he is another, or the inviter himself', () => {
    expect(invitationProblem(GOOD, 'other.example', NOW)).toMatch(
      /is for partner\.example, not for other\.example/,
    );
    expect(invitationProblem(GOOD, 'home.example', NOW)).toMatch(/of this domain, home\.example, itself/);
  });
});
