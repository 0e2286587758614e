// Partners that say as much of themselves as they may, and come and go at once: neither the registry nor what the domain says
// to its own nodes breaks by that.

import { statSync } from 'node:fs';
import { expect, onTestFinished, test, vi } from 'vitest';
import { AUTHORITIES_CONTEXT, encodeStatement } from '../../../native-free/ca/statement.ts';
import { RemoteSigner } from '../../../src/ca/remote-signer.ts';
import { fingerprint } from '../../../src/identity/certificate.ts';
import { GrantSigner } from '../../../src/identity/grant-signer.ts';
import { type Issued, issue, openCa } from '../identity/fixture.ts';
import { recordingLogger, refusal } from '../registry/fixture.ts';
import { ApartDomain } from './fixture.ts';

const LONG = Array.from({ length: 95 }, (_, i) => `OU=${String(i).padStart(60, 'x')}`).join(', ');

/** Of 7 KiB each, and of no domain in particular. */
const largeCas = async (count: number): Promise<Issued[]> => {
  const issuer = await issue({ ca: true });
  return await Promise.all(
    Array.from({ length: count }, (_, i) => issue({ ca: true, issuer, subject: `CN=c${i}, ${LONG}` })),
  );
};

/** A partner's word on its CAs, its own and others. */
const word = async (trustDomain: string, others: readonly Issued[]) => {
  const real = await openCa(trustDomain);
  const [own = new Uint8Array()] = real.trustBundle.certificates;
  const by = await GrantSigner.create(real);
  const authorities = [own, ...others.map(({ der }) => der)].map((der) =>
    Buffer.from(der).toString('base64'),
  );
  const statement = encodeStatement({ trustDomain, authorities, revoked: [], sequence: Date.now() });
  return {
    pin: Buffer.from(fingerprint(own)).toString('hex'),
    signed: by.sign(AUTHORITIES_CONTEXT, statement),
  };
};

test('CAs as large as they may be, of many partners, keep neither a revocation nor a restart from being', async () => {
  const home = await ApartDomain.start();
  const signer = await RemoteSigner.open(
    { file: home.credentialFile, trustDomain: home.trustDomain },
    { logger: recordingLogger().logger, now: Date.now },
  );
  onTestFinished(() => signer[Symbol.asyncDispose]());
  const ca = await home.ca();
  const large = await largeCas(15);
  const put = async (trustDomain: string, others: readonly Issued[]): Promise<string> => {
    const { pin, signed } = await word(trustDomain, others);
    await ca.registerPartner({ trustDomain, caFingerprints: [pin] });
    return await refusal(signer.putPartner(trustDomain, signed));
  };
  expect(await put('giant.example', large)).toMatch(/the CAs of giant.example are \d+ bytes/);
  for (let i = 0; i < 11; i++) expect(await put(`p${i}.example`, large.slice(0, 2))).toBe('accepted');
  await ca.revokeNode({ name: 'n1' });
  const { sequence } = await home.signer.signer.ca.statement();
  const known = home.registry.observed.context.signer;
  await vi.waitFor(async () => expect((await known.statement()).sequence).toBe(sequence), {
    timeout: 20_000,
  });
  // Longer than other secrets may be.
  expect(statSync(home.credentialFile).size).toBeGreaterThan(256 * 1024);
  await home.stopRegistry();
  await home.startRegistry();
});

test('a partner that is withdrawn while it is being taken is not vouched for', async () => {
  const home = await ApartDomain.start();
  const { signer } = home.signer;
  const { pin, signed } = await word('partner.example', []);
  signer.accept('partner.example', [pin]);
  await Promise.all([
    signer.putPartner('partner.example', signed, new Uint8Array()),
    signer.withdrawPartner('partner.example'),
  ]);
  const { record } = await signer.ca.statement();
  expect(Buffer.from(record).toString()).not.toContain('partner.example');
});

test('an invitation that somebody else wrote in the name of a partner puts him in nobody’s place', async () => {
  const home = await ApartDomain.start();
  const { signer } = home.signer;
  const [real, other] = [await word('partner.example', []), await word('partner.example', [])];
  signer.accept('partner.example', [real.pin]);
  await signer.putPartner('partner.example', real.signed, new Uint8Array());
  signer.accept('partner.example', [real.pin]);
  expect(() => signer.accept('partner.example', [other.pin])).toThrow(/known by other CAs/);
  await signer.withdrawPartner('partner.example');
  signer.accept('partner.example', [other.pin]);
});
