import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CLIENT_AUTH, parseCertificate, SERVER_AUTH } from '../../../src/identity/certificate.ts';
import { verifyChain } from '../../../src/identity/chain.ts';
import { DAY, DOMAIN, type Issued, issue, issueCa, type Shape } from './fixture.ts';

const NODE = `spiffe://${DOMAIN}/node/n1`;

const verdict = (
  chain: readonly Uint8Array[],
  anchors: readonly Issued[],
  now = Date.now(),
  usage = CLIENT_AUTH,
) => verifyChain(chain, { trustDomain: DOMAIN, certificates: anchors.map((one) => one.der) }, now, usage);

/** What is said of a leaf of this shape under a good CA. */
const saidOf = async (shape: Shape, now = Date.now(), usage = CLIENT_AUTH) => {
  const ca = await issueCa();
  const leaf = await issue({ uris: [NODE], issuer: ca, ...shape });
  return verdict([leaf.der], [ca], now, usage);
};

const refusal = (pattern: RegExp) => ({ kind: 'refused', message: expect.stringMatching(pattern) });

describe('a chain', () => {
  test('that is good names its node', async () => {
    expect(await saidOf({})).toMatchObject({
      kind: 'verified',
      id: { kind: 'node', trustDomain: DOMAIN, name: 'n1' },
    });
  });

  test('may carry the CA at its end', async () => {
    const ca = await issueCa();
    const leaf = await issue({ uris: [NODE], issuer: ca });
    expect(verdict([leaf.der, ca.der], [ca]).kind).toBe('verified');
  });

  test('may pass through an intermediate CA', async () => {
    const ca = await issueCa();
    const middle = await issueCa({ issuer: ca });
    const leaf = await issue({ uris: [NODE], issuer: middle });
    expect(verdict([leaf.der, middle.der], [ca]).kind).toBe('verified');
    expect(verdict([leaf.der], [ca])).toEqual(refusal(/not issued by a CA/));
    expect(verdict([middle.der, leaf.der], [ca]).kind).toBe('refused');
  });

  test('under several CAs holds by any of them', async () => {
    const [old, young] = [await issueCa(), await issueCa()];
    const leaf = await issue({ uris: [NODE], issuer: young });
    expect(verdict([leaf.der], [old, young]).kind).toBe('verified');
    expect(verdict([leaf.der], [old])).toEqual(refusal(/not issued by a CA/));
  });

  test('ends when the first of its certificates ends', async () => {
    const soon = Date.now() + 60_000;
    const ca = await issueCa({ notAfter: soon });
    const leaf = await issue({ uris: [NODE], issuer: ca });
    expect(verdict([leaf.der], [ca])).toMatchObject({ notAfter: Math.floor(soon / 1000) * 1000 });
  });
});

describe('refused is a leaf', () => {
  test('that has expired', async () => {
    expect(await saidOf({}, Date.now() + 2 * DAY)).toEqual(refusal(/not issued|expired/));
    expect(await saidOf({ notAfter: Date.now() - 1000 })).toEqual(refusal(/expired/));
  });

  test('that is not valid yet', async () => {
    expect(await saidOf({ notBefore: Date.now() + 60_000 })).toEqual(refusal(/not valid yet/));
  });

  test('of another trust domain', async () => {
    expect(await saidOf({ uris: ['spiffe://other.example/node/n1'] })).toEqual(
      refusal(/another trust domain/),
    );
  });

  test('without a URI, or with two', async () => {
    expect(await saidOf({ uris: [] })).toEqual(refusal(/exactly one URI/));
    expect(await saidOf({ uris: [NODE, `spiffe://${DOMAIN}/node/n2`] })).toEqual(refusal(/exactly one URI/));
    expect(await saidOf({ uris: [NODE, NODE] })).toEqual(refusal(/exactly one URI/));
  });

  test.each([
    `spiffe://${DOMAIN}/node/N1`,
    `spiffe://${DOMAIN}/node/`,
    `spiffe://${DOMAIN}/node/n1/`,
    `spiffe://${DOMAIN}/node/n1/x`,
    `spiffe://${DOMAIN}/node/-n1`,
    `spiffe://${DOMAIN}/node/n1\n`,
    `spiffe://${DOMAIN}/node/n1?a=b`,
    `spiffe://${DOMAIN}:1/node/n1`,
    `spiffe://user@${DOMAIN}/node/n1`,
    `spiffe://${DOMAIN}/node/%6e1`,
    `https://${DOMAIN}/node/n1`,
    `spiffe://${DOMAIN}/root/n1`,
    `spiffe://${DOMAIN}/registry/n1`,
    `spiffe://${DOMAIN}`,
  ])('whose URI is %j', async (uri) => {
    expect(await saidOf({ uris: [uri] })).toEqual(refusal(/no SPIFFE ID/));
  });

  test('whose extended key usage is another, or missing', async () => {
    expect(await saidOf({ extendedUsages: [SERVER_AUTH] })).toEqual(refusal(/extended key usage/));
    expect(await saidOf({ extendedUsages: [CLIENT_AUTH] }, Date.now(), SERVER_AUTH)).toEqual(
      refusal(/extended key usage/),
    );
    expect(await saidOf({ extendedUsages: [] })).toEqual(refusal(/extended key usage/));
    // anyExtendedKeyUsage is not a wildcard here.
    expect(await saidOf({ extendedUsages: ['2.5.29.37.0'] })).toEqual(refusal(/extended key usage/));
  });

  test('whose key usage is not to sign, or is to certify or revoke too', async () => {
    expect(await saidOf({ usages: [] })).toEqual(refusal(/digital signatures/));
    expect(await saidOf({ usages: ['sign', 'certify'] })).toEqual(refusal(/is a CA/));
    expect(await saidOf({ usages: ['sign', 'revoke'] })).toEqual(refusal(/is a CA/));
  });

  test('that is itself a CA', async () => {
    expect(await saidOf({ ca: true, usages: ['sign', 'certify'], extendedUsages: [CLIENT_AUTH] })).toEqual(
      refusal(/is a CA/),
    );
  });

  test('with a critical extension that nobody knows', async () => {
    expect(await saidOf({ strangeCritical: true })).toEqual(refusal(/malformed/));
  });

  test('that another CA of the same name signed', async () => {
    const ca = await issueCa({ subject: 'CN=vl3' });
    const rogue = await issueCa({ subject: 'CN=vl3' });
    const leaf = await issue({ uris: [NODE], issuer: rogue });
    expect(verdict([leaf.der], [ca])).toEqual(refusal(/not issued by a CA/));
    expect(verdict([leaf.der, rogue.der], [ca])).toEqual(refusal(/not issued by a CA/));
  });

  test('that is self-signed', async () => {
    const ca = await issueCa();
    const leaf = await issue({ uris: [NODE] });
    expect(verdict([leaf.der], [ca])).toEqual(refusal(/not issued by a CA/));
  });
});

describe('refused is a chain', () => {
  test('through a node that plays CA', async () => {
    const ca = await issueCa();
    const node = await issue({ uris: [NODE], issuer: ca });
    const forged = await issue({ uris: [`spiffe://${DOMAIN}/node/victim`], issuer: node });
    expect(verdict([forged.der, node.der], [ca])).toEqual(refusal(/broken chain/));
  });

  test('through an issuer that is a CA but may not certify', async () => {
    const ca = await issueCa();
    const middle = await issueCa({ issuer: ca, usages: ['revoke'] });
    const leaf = await issue({ uris: [NODE], issuer: middle });
    expect(verdict([leaf.der, middle.der], [ca])).toEqual(refusal(/broken chain/));
  });

  test('through an expired intermediate', async () => {
    const ca = await issueCa();
    const middle = await issueCa({ issuer: ca, notAfter: Date.now() - 1000 });
    const leaf = await issue({ uris: [NODE], issuer: middle });
    expect(verdict([leaf.der, middle.der], [ca])).toEqual(refusal(/expired/));
  });

  test('under an expired CA', async () => {
    const ca = await issueCa({ notAfter: Date.now() - 1000 });
    const leaf = await issue({ uris: [NODE], issuer: ca });
    expect(verdict([leaf.der], [ca])).toEqual(refusal(/not issued by a CA/));
  });

  test('longer than its CA allows', async () => {
    const ca = await issueCa({ pathLength: 0 });
    const middle = await issueCa({ issuer: ca });
    const leaf = await issue({ uris: [NODE], issuer: middle });
    expect(verdict([leaf.der, middle.der], [ca])).toEqual(refusal(/longer than its CA allows/));
    const direct = await issue({ uris: [NODE], issuer: ca });
    expect(verdict([direct.der], [ca]).kind).toBe('verified');
  });

  test('through an intermediate of another trust domain', async () => {
    const ca = await issueCa();
    const middle = await issueCa({ issuer: ca, uris: [`spiffe://${DOMAIN}.evil`] });
    const leaf = await issue({ uris: [NODE], issuer: middle });
    expect(verdict([leaf.der, middle.der], [ca])).toEqual(refusal(/another trust domain/));
  });

  test('with a stranger between leaf and CA', async () => {
    const ca = await issueCa();
    const leaf = await issue({ uris: [NODE], issuer: ca });
    const stranger = await issueCa();
    expect(verdict([leaf.der, stranger.der], [ca])).toEqual(refusal(/not issued by a CA/));
    expect(verdict([leaf.der, stranger.der, ca.der], [ca])).toEqual(refusal(/not issued by a CA/));
  });

  test('that is empty or too long', async () => {
    const ca = await issueCa();
    const leaf = await issue({ uris: [NODE], issuer: ca });
    expect(verdict([], [ca])).toEqual(refusal(/1 to 4/));
    expect(verdict([leaf.der, ca.der, ca.der, ca.der, ca.der], [ca])).toEqual(refusal(/1 to 4/));
  });

  test('against an empty bundle', async () => {
    const ca = await issueCa();
    const leaf = await issue({ uris: [NODE], issuer: ca });
    expect(verdict([leaf.der], [])).toEqual(refusal(/not issued by a CA/));
  });
});

describe('hostile bytes', () => {
  test('a certificate cut anywhere, or with a byte behind it, is refused', async () => {
    const ca = await issueCa();
    const leaf = await issue({ uris: [NODE], issuer: ca });
    for (let length = 0; length < leaf.der.length; length += 3) {
      expect(verdict([leaf.der.subarray(0, length)], [ca])).toEqual(refusal(/malformed/));
    }
    expect(verdict([Uint8Array.of(...leaf.der, 0)], [ca])).toEqual(refusal(/malformed/));
  });

  test('a certificate with any bit flipped does not verify', async () => {
    const ca = await issueCa();
    const leaf = await issue({ uris: [NODE], issuer: ca });
    fc.assert(
      fc.property(fc.nat(leaf.der.length - 1), fc.nat(7), (at, bit) => {
        const changed = leaf.der.slice();
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        expect(verdict([changed], [ca]).kind).toBe('refused');
      }),
      { numRuns: 500 },
    );
  });

  test('random bytes are refused, never a crash', async () => {
    const ca = await issueCa();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        expect(verdict([bytes], [ca]).kind).toBe('refused');
        expect(() => parseCertificate(bytes)).toThrow(/not an X.509 certificate/);
      }),
    );
    expect(() => parseCertificate(new Uint8Array(10_000))).toThrow(/larger than/);
  });
});
