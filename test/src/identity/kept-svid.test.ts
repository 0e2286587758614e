// The last SVID of a source, kept for the next start.

import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test, vi } from 'vitest';
import { IdentitySource, type OfferTaker } from '../../../src/identity/identity-source.ts';
import { keepSvids, readKeptSvid } from '../../../src/identity/kept-svid.ts';
import { SpiffeAuthority } from '../../lab/spiffe-authority.ts';

const SOON = { timeout: 20_000, interval: 10 };
const REGISTRY = { kind: 'registry', trustDomain: 'test.example' } as const;

const scene = async () => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3t-kept-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'registry-svid.json');
  const authority = await SpiffeAuthority.create();
  let offers: OfferTaker | undefined;
  const feed = {
    place: 'the feed',
    run: async (taker: OfferTaker): Promise<void> => {
      offers = taker;
    },
  };
  const logger = pino({ level: 'silent' });
  const deps = { logger, now: Date.now, monotonic: () => performance.now() };
  const source = new IdentitySource(feed, REGISTRY, deps);
  onTestFinished(() => source[Symbol.asyncDispose]());
  const offer = async (path: string, lastsMs = 3_600_000) => {
    const svid = await authority.issue(path, { lastsMs });
    offers?.offered({ svids: [svid], federated: [] });
    return svid;
  };
  return { file, authority, source, offer, logger };
};

test('is the last that held, for its owner alone, and is read as it was', async () => {
  const { file, source, offer, logger } = await scene();
  await offer('/registry');
  await keepSvids(source, file, logger);
  const first = await readKeptSvid(file, REGISTRY, Date.now());
  expect(first?.certificateChain).toEqual(source.svid?.certificateChain);
  expect(statSync(file).mode & 0o077).toBe(0);
  const next = await offer('/registry');
  await vi.waitFor(
    async () =>
      expect((await readKeptSvid(file, REGISTRY, Date.now()))?.certificateChain).toEqual(
        next.certificateChain,
      ),
    SOON,
  );
  const kept = await readKeptSvid(file, REGISTRY, Date.now());
  expect(kept?.privateKey.equals(next.privateKey)).toBe(true);
  expect(kept?.trustBundle).toEqual({ trustDomain: 'test.example', certificates: next.authorities });
});

test('does not count once it has ended, for somebody else, or damaged; and where there is none there is none', async () => {
  const { file, source, offer, logger } = await scene();
  expect(await readKeptSvid(file, REGISTRY, Date.now())).toBeUndefined();
  await offer('/registry');
  await keepSvids(source, file, logger);
  await expect(readKeptSvid(file, REGISTRY, Date.now() + 7_200_000)).rejects.toThrow(/has expired/);
  const others = [
    { kind: 'admission', trustDomain: 'test.example' },
    { ...REGISTRY, trustDomain: 'other.example' },
  ] as const;
  for (const wanted of others)
    await expect(readKeptSvid(file, wanted, Date.now())).rejects.toThrow(/but not spiffe:/);
  writeFileSync(file, '{"version":1,"privateKey":"secret"}');
  await expect(readKeptSvid(file, REGISTRY, Date.now())).rejects.toThrow(
    /^the SVID that was kept \S+ is damaged$/,
  );
});

test('goes on until there is another, and not in the place of one that is there', async () => {
  const { source, offer, authority } = await scene();
  const from = (one: Awaited<ReturnType<typeof offer>>) => ({
    id: { kind: 'registry', trustDomain: 'test.example' } as const,
    certificateChain: one.certificateChain,
    privateKey: one.privateKey,
    trustBundle: { trustDomain: 'test.example', certificates: one.authorities },
    notBefore: 0,
    notAfter: Date.now() + 1000,
  });
  const kept = from(await authority.issue('/registry'));
  source.goOnWith(kept);
  expect(source.svid).toBe(kept);
  // It was somebody, and is nobody else from then on.
  await offer('/admission');
  expect(source.svid).toBe(kept);
  const next = await offer('/registry');
  expect(source.svid?.certificateChain).toEqual(next.certificateChain);
  source.goOnWith(kept);
  expect(source.svid?.certificateChain).toEqual(next.certificateChain);
});
