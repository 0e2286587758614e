// Which partners a signer apart knows, and what it grants to their nodes: what an admin invited them to, and nothing beyond.

import { describe, expect, test } from 'vitest';
import { grantTo, noteAttested, registerNetwork, registerRule } from '../../../native-free/ca/grant-rules.ts';
import {
  countingAuthorities,
  notePartner,
  openInvitation,
  partnerOf,
  registerInvitation,
  registerPins,
  vouchedPartners,
  withdrawPartner,
} from '../../../native-free/ca/partner-rules.ts';
import { MemoryDocuments } from './memory-documents.ts';

const HOME = 'home.example';
const PARTNER = 'partner.example';
const DAY = 86_400_000;
const TERM = 7 * DAY;
const KEY = 'AAAA';

const constraints = { trustDomain: PARTNER, networks: ['red'], names: [], prefixes: ['10.60.128.0/20'] };
const said = (sequence: number, ...authorities: string[]) => ({
  trustDomain: PARTNER,
  authorities,
  sequence,
});

const world = () => {
  const store = new MemoryDocuments();
  registerNetwork(store, { network: 'red', uid: 'u1', pools: ['10.60.0.0/16'] });
  registerNetwork(store, { network: 'green', uid: 'u2', pools: ['10.61.0.0/16'] });
  const grant = (change: { node?: string; network?: string; prefixes?: string[]; now?: number }) => {
    const { node = `n1@${PARTNER}`, network = 'red', prefixes = ['10.60.128.0/24'], now = 0 } = change;
    const networkUid = network === 'red' ? 'u1' : 'u2';
    const request = { network, networkUid, node, prefixes, sequence: 1, notAfter: now + TERM, restMs: DAY };
    return grantTo(store, HOME, request, now);
  };
  const invite = () => registerInvitation(store, { key: KEY, expiresAt: DAY, constraints });
  const admit = () => {
    invite();
    notePartner(store, said(1, 'AAAA'), 'invitation', 0);
  };
  return { store, grant, invite, admit };
};

describe('a node of another domain is granted nothing', () => {
  test('of one that nobody invited, that has not accepted, or that was withdrawn', () => {
    const { store, grant, invite, admit } = world();
    expect(() => grant({})).toThrow(/does not know partner.example: no admin told it/);
    invite();
    expect(() => grant({})).toThrow(/has not accepted an invitation/);
    admit();
    expect(grant({}).prefixes).toEqual(['10.60.128.0/24']);
    withdrawPartner(store, PARTNER);
    expect(() => grant({})).toThrow(/does not know partner.example: no admin told it/);
  });

  test('of one whose invitation this domain accepted, and that it has not invited', () => {
    const { store, grant } = world();
    registerPins(store, PARTNER, ['a'.repeat(64)]);
    notePartner(store, said(1, 'AAAA'), 'pins', 0);
    expect(() => grant({})).toThrow(/has not accepted an invitation/);
  });

  test('on another network, outside of its prefixes, of more than a few, or of what another node has', () => {
    const { grant, admit } = world();
    admit();
    expect(() => grant({ network: 'green' })).toThrow(/network "green" is not among those/);
    expect(() => grant({ prefixes: ['10.60.0.0/24'] })).toThrow(
      /is outside of what partner.example may have/,
    );
    expect(() => grant({ prefixes: ['10.60.0.0/16'] })).toThrow(
      /is outside of what partner.example may have/,
    );
    const many = [0, 1, 2, 3, 4].map((i) => `10.60.${128 + i}.0/24`);
    expect(() => grant({ prefixes: many })).toThrow(/at most 4 IPv4 prefixes/);
    expect(grant({ node: 'n1' }).isWhole).toBe(true);
    expect(() => grant({})).toThrow(/is node "n1"'s until/);
    // A node of the same name of another domain is another one.
    grant({ prefixes: ['10.60.130.0/24'] });
    expect(() => grant({ node: 'n1', prefixes: ['10.60.130.0/24'] })).toThrow(
      /is node "n1@partner.example"'s/,
    );
  });

  test('once it was not confirmed for a week', () => {
    const { store, grant, admit } = world();
    admit();
    grant({ now: TERM - 1 });
    expect(() => grant({ now: TERM })).toThrow(/was not confirmed for a week/);
    expect(countingAuthorities(partnerOf(store, PARTNER), TERM)).toBeUndefined();
  });
});

test('it is granted the addresses that a rule admits by its own word, and never the whole', () => {
  const { store, grant, admit } = world();
  admit();
  const attachment = (app: string, address: string) => ({
    ...{ workload: 'web', namespace: '', serviceAccount: '', labels: { app }, addresses: [address] },
  });
  const say = (attachments: ReturnType<typeof attachment>[], sequence = 1) =>
    noteAttested(store, `n1@${PARTNER}`, {
      ...{ trustDomain: PARTNER, home: HOME, network: 'red', networkUid: 'u1', node: 'n1' },
      ...{ attachments, sequence, notAfter: TERM },
    });
  say([
    attachment('ledger', '10.60.128.5'),
    attachment('other', '10.60.128.6'),
    attachment('ledger', '10.60.9.9'),
  ]);
  expect(grant({})).toMatchObject({ isWhole: false, addresses: [] });
  const rule = { ...{ network: 'red', trustDomain: PARTNER, isDryRun: false, createdAt: 0 } };
  registerRule(store, { ...rule, name: 'ledger', labels: { app: 'ledger' } });
  expect(grant({})).toMatchObject({ isWhole: false, addresses: ['10.60.128.5'] });
  // A rule that looks at nothing but the node admits all of its workloads, one by one.
  registerRule(store, { ...rule, name: 'all' });
  expect(grant({})).toMatchObject({ isWhole: false, addresses: ['10.60.128.5', '10.60.128.6'] });
  expect(() =>
    say(
      Array.from({ length: 257 }, () => attachment('a', '10.60.128.5')),
      2,
    ),
  ).toThrow(/at most 256 attachments/);
});

test('what a domain says of itself replaces only what is older, and who it was is known to the nodes', () => {
  const { store, admit } = world();
  expect(vouchedPartners(store)).toEqual([]);
  admit();
  expect(vouchedPartners(store)).toEqual([{ trustDomain: PARTNER, authorities: ['AAAA'], until: TERM }]);
  notePartner(store, said(5, 'AAAA', 'BBBB'), 'known', 10);
  const second = vouchedPartners(store);
  expect(second[0]?.authorities).toEqual(['AAAA', 'BBBB']);
  expect(() => notePartner(store, said(4, 'AAAA'), 'known', 20)).toThrow(/is older than what is known/);
  expect(() => notePartner(store, said(5, 'CCCC'), 'known', 20)).toThrow(/is older than what is known/);
  // Confirmed now and then, so that not all nodes ask each time.
  notePartner(store, said(5, 'AAAA', 'BBBB'), 'known', DAY);
  expect(vouchedPartners(store)).toEqual(second);
  notePartner(store, said(7, 'AAAA', 'BBBB'), 'known', DAY);
  expect(vouchedPartners(store)).toEqual(second);
  expect(() => notePartner(store, said(6, 'AAAA'), 'known', DAY)).toThrow(/is older than what is known/);
  notePartner(store, said(7, 'AAAA', 'BBBB'), 'known', DAY + 10);
  expect(vouchedPartners(store)[0]?.until).toBe(TERM + DAY + 10);
  withdrawPartner(store, PARTNER);
  expect(vouchedPartners(store)).toEqual([]);
});

test('an invitation works once, until it expires, and changes what was admitted only when it is taken', () => {
  const { store, admit, grant } = world();
  admit();
  expect(() => openInvitation(store, PARTNER, 0)).toThrow(/is not invited, or has taken its invitation/);
  const narrower = { ...constraints, prefixes: ['10.60.129.0/24'] };
  registerInvitation(store, { key: KEY, expiresAt: DAY, constraints: narrower });
  expect(() => openInvitation(store, PARTNER, DAY)).toThrow(/has expired/);
  grant({});
  notePartner(store, said(2, 'AAAA'), 'known', 1);
  expect(openInvitation(store, PARTNER, 0).key).toBe(KEY);
  notePartner(store, said(3, 'AAAA'), 'invitation', 2);
  expect(() => grant({ now: 2 })).toThrow(/is outside of what/);
});

describe('a registry that was taken over, with a CA of the partner that was stolen before it was replaced', () => {
  const pins = ['a'.repeat(64)];

  test('does not go back by pins that it kept to itself', () => {
    const { store, invite } = world();
    registerPins(store, PARTNER, pins);
    invite();
    notePartner(store, said(5, 'BBBB'), 'invitation', 0);
    expect(partnerOf(store, PARTNER).pins).toBeUndefined();
  });

  test('does not go back by what was signed before, with an invitation or pins that are new', () => {
    const { store, admit, invite } = world();
    admit();
    notePartner(store, said(5, 'AAAA', 'BBBB'), 'known', 1);
    notePartner(store, said(6, 'BBBB'), 'known', 2);
    invite();
    expect(() => notePartner(store, said(4, 'AAAA', 'BBBB'), 'invitation', 3)).toThrow(/is older/);
    registerPins(store, PARTNER, pins);
    expect(() => notePartner(store, said(5, 'BBBB', 'AAAA'), 'pins', 3)).toThrow(/is older/);
    expect(vouchedPartners(store)[0]?.authorities).toEqual(['BBBB']);
    // A domain that lost all that it had begins anew.
    notePartner(store, said(1, 'CCCC'), 'pins', 3);
    expect(vouchedPartners(store)[0]?.authorities).toEqual(['CCCC']);
  });
});

test('partners say no more of their CAs than fits into what the domain says to its nodes', () => {
  const { store } = world();
  const accept = (i: number, length: number): void => {
    const trustDomain = `p${i}.example`;
    registerPins(store, trustDomain, ['a'.repeat(64)]);
    notePartner(store, { trustDomain, authorities: ['A'.repeat(length)], sequence: 1 }, 'pins', 0);
  };
  expect(() => accept(0, 24_580)).toThrow(/24576 are the most/);
  for (let i = 0; i < 32; i++) accept(i, 24_576);
  expect(() => accept(32, 4)).toThrow(/keeps 786432 bytes of partners' CAs/);
  withdrawPartner(store, 'p7.example');
  accept(32, 4);
});
