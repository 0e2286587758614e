import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { CLIENT_AUTH } from '../../../src/identity/certificate.ts';
import { verifyChain } from '../../../src/identity/chain.ts';
import { IdentitySource, type OfferFeed } from '../../../src/identity/identity-source.ts';
import { generateKey } from '../../../src/identity/key.ts';
import type { OfferedSvid, Svid, Wanted } from '../../../src/identity/svid.ts';
import { SvidFiles } from '../../../src/identity/svid-files.ts';
import { WorkloadApi } from '../../../src/identity/workload-api.ts';
import { SpiffeAuthority, svidFiles, writeSvidFiles } from '../../lab/spiffe-authority.ts';
import { type Answer, answerOf, WorkloadApiServer } from '../../lab/workload-api.ts';

const SOON = { timeout: 20_000, interval: 10 };
const NODE = { kind: 'node' } as const;

const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3t-svid-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

const follow = (feed: OfferFeed, wanted: Wanted = NODE, now: () => number = Date.now) => {
  const logger = pino({ level: 'silent' });
  const source = new IdentitySource(feed, wanted, {
    logger,
    now,
    monotonic: () => performance.now(),
    judgeAgainMs: 20,
  });
  onTestFinished(() => source[Symbol.asyncDispose]());
  return source;
};

const files = (directory: string) => new SvidFiles({ directory, lookMs: 5 });

const leafOf = (svid: { readonly certificateChain: readonly Uint8Array[] } | undefined): string =>
  Buffer.from(svid?.certificateChain[0] ?? []).toString('base64');

const takes = async (source: IdentitySource, svid: OfferedSvid): Promise<void> =>
  await vi.waitFor(() => {
    expect(leafOf(source.svid)).toBe(leafOf(svid));
    expect(source.svid?.trustBundle.certificates).toEqual(svid.authorities);
    expect(source.problem).toBeUndefined();
  }, SOON);

const complains = async (source: IdentitySource, problem: RegExp): Promise<void> =>
  await vi.waitFor(() => expect(source.problem).toMatch(problem), SOON);

describe('an identity from files', () => {
  test('is taken once the files are whole, and again when they change', async () => {
    const directory = scratch();
    const authority = await SpiffeAuthority.create();
    const source = follow(files(directory));
    await complains(source, /there is no .*svid\.pem \(yet\)/);
    const first = await authority.issue('/node/n1');
    writeSvidFiles(directory, first);
    const svid = await source.first(AbortSignal.timeout(20_000));
    expect(svid.id).toEqual({ kind: 'node', trustDomain: 'test.example', name: 'n1' });
    await takes(source, first);
    const second = await authority.issue('/node/n1');
    writeSvidFiles(directory, second);
    await takes(source, second);
    await authority.prepare();
    const third = { ...second, authorities: authority.bundle };
    writeSvidFiles(directory, third);
    await takes(source, third);
  });

  test('comes by links as well, as volumes of Kubernetes have them', async () => {
    const directory = scratch();
    const authority = await SpiffeAuthority.create();
    const [first, second] = [await authority.issue('/node/n1'), await authority.issue('/node/n1')];
    writeSvidFiles(join(directory, '..1'), first);
    symlinkSync('..1', join(directory, '..data'));
    for (const name of Object.keys(svidFiles(first)))
      symlinkSync(join('..data', name), join(directory, name));
    const source = follow(files(directory));
    await takes(source, first);
    writeSvidFiles(join(directory, '..2'), second);
    unlinkSync(join(directory, '..data'));
    symlinkSync('..2', join(directory, '..data'));
    await takes(source, second);
  });

  test('in which something is wrong is refused with a sentence, and the last good one goes on', async () => {
    const directory = scratch();
    const authority = await SpiffeAuthority.create();
    const other = await SpiffeAuthority.create('other.example');
    const good = await authority.issue('/node/n1');
    const source = follow(files(directory), { kind: 'node', name: 'n1', trustDomain: 'test.example' });
    writeSvidFiles(directory, good);
    await takes(source, good);
    const write = (name: string, text: string) => writeFileSync(join(directory, name), text);
    const offer = (svid: OfferedSvid) => () => writeSvidFiles(directory, svid);
    const bundle = svidFiles(good)['svid_bundle.pem'];
    const wrongs: [RegExp, () => void][] = [
      [/for another key/, offer({ ...good, privateKey: await generateKey() })],
      [/has expired/, offer(await authority.issue('/node/n1', { lastsMs: -1000 }))],
      [/not valid yet/, offer(await authority.issue('/node/n1', { notBefore: Date.now() + 600_000 }))],
      [
        /there is spiffe:\/\/other\.example\/node\/n1, but not spiffe:\/\/test\.example\/node\/n1/,
        offer(await other.issue('/node/n1')),
      ],
      [/there is .*\/node\/n2, but not .*\/node\/n1/, offer(await authority.issue('/node/n2'))],
      [/there is .*\/ns\/a\/sa\/b, but not/, offer(await authority.issue('/ns/a/sa/b'))],
      [/there is .*\/registry, but not/, offer(await authority.issue('/registry'))],
      [/not issued by a CA/, offer({ ...good, authorities: other.bundle })],
      [/no CA's/, offer({ ...good, authorities: [...good.authorities, ...good.certificateChain] })],
      [/whole certificates/, () => write('svid_bundle.pem', bundle.slice(0, -30))],
      [/whole certificates/, () => write('svid_bundle.pem', `${bundle}${bundle.slice(0, 40)}`)],
      [/whole certificates/, () => write('svid.pem', '')],
      [/no readable private key/, () => write('svid_key.pem', 'x')],
      [/larger than/, () => write('svid.pem', 'x'.repeat(300_000))],
      [/there is no .*svid_key\.pem/, () => unlinkSync(join(directory, 'svid_key.pem'))],
      [/open to other users/, () => chmodSync(join(directory, 'svid_key.pem'), 0o640)],
      [/other users may write to the bundle/, () => chmodSync(join(directory, 'svid_bundle.pem'), 0o664)],
      [/other users may write to the directory/, () => chmodSync(directory, 0o777)],
    ];
    for (const [problem, spoil] of wrongs) {
      spoil();
      await complains(source, problem);
      expect(source.problem).toMatch(/^the SVID in .* cannot be used: /);
      expect(leafOf(source.svid)).toBe(leafOf(good));
      chmodSync(directory, 0o755);
      writeSvidFiles(directory, good);
      await takes(source, good);
    }
  });

  test('that was somebody is nobody else from then on', async () => {
    const directory = scratch();
    const authority = await SpiffeAuthority.create();
    const good = await authority.issue('/node/n1');
    writeSvidFiles(directory, good);
    const source = follow(files(directory));
    await takes(source, good);
    const other = await SpiffeAuthority.create('other.example');
    for (const stranger of [await authority.issue('/node/n2'), await other.issue('/node/n1')]) {
      writeSvidFiles(directory, stranger);
      await complains(source, /but not spiffe:\/\/test\.example\/node\/n1/);
      expect(leafOf(source.svid)).toBe(leafOf(good));
    }
  });

  test('that is not valid yet is taken when its time has come', async () => {
    const directory = scratch();
    const authority = await SpiffeAuthority.create();
    let now = Date.now();
    const young = await authority.issue('/node/n1', { notBefore: now + 60_000 });
    writeSvidFiles(directory, young);
    const source = follow(files(directory), NODE, () => now);
    await complains(source, /not valid yet/);
    now += 120_000;
    await takes(source, young);
  });

  /** Whatever is taken belongs together, and each part of it is one that was written whole. */
  const belongsTogether = (svid: Svid, written: readonly OfferedSvid[]): void => {
    const leaf = leafOf(svid);
    const whole = written.find((one) => leafOf(one) === leaf);
    if (whole === undefined) throw new Error('a certificate was taken that nobody wrote');
    expect(svid.privateKey.equals(whole.privateKey)).toBe(true);
    expect(verifyChain(svid.certificateChain, svid.trustBundle, Date.now(), CLIENT_AUTH).kind).toBe(
      'verified',
    );
    const bundle = Buffer.concat(svid.trustBundle.certificates);
    expect(written.some(({ authorities }) => Buffer.concat(authorities).equals(bundle))).toBe(true);
  };

  test('is never taken half-written, in whatever order and wherever the writing stops', async () => {
    const authority = await SpiffeAuthority.create();
    const old = await authority.issue('/node/n1');
    const renewed = await authority.issue('/node/n1');
    await authority.prepare();
    const rotated = await authority.issue('/node/n1');
    authority.retire();
    const replaced = await authority.issue('/node/n1');
    const written = [old, renewed, rotated, replaced];
    const order = fc.constantFrom(
      ...['012', '021', '102', '120', '201', '210'].map((text) => [...text].map(Number)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            next: fc.constantFrom(...written),
            order,
            stop: fc.integer({ min: 0, max: 3 }),
            cut: fc.double({ min: 0, max: 1, noNaN: true }),
            rest: fc.boolean(),
          }),
          { minLength: 1, maxLength: 4 },
        ),
        async (writes) => {
          const directory = mkdtempSync(join(tmpdir(), 'vl3t-svid-'));
          writeSvidFiles(directory, old);
          const taken: Svid[] = [];
          const source = new IdentitySource(new SvidFiles({ directory, lookMs: 1 }), NODE, {
            logger: pino({ level: 'silent' }),
            now: Date.now,
            monotonic: () => performance.now(),
          });
          try {
            source.onChange(() => source.svid !== undefined && taken.push(source.svid));
            await source.first(AbortSignal.timeout(20_000));
            for (const { next, order, stop, cut, rest } of writes) {
              const all = Object.entries(svidFiles(next));
              for (const [i, at] of order.entries()) {
                const [name, text] = all[at] ?? ['', ''];
                const path = join(directory, name);
                if (i > stop) break;
                writeFileSync(path, text);
                // Between two certificates a file that was cut off looks whole: no reader can tell.
                if (i === stop) truncateSync(path, cutOf(text, cut));
                if (rest) await new Promise((resolve) => setTimeout(resolve, 4));
              }
            }
            await new Promise((resolve) => setTimeout(resolve, 8));
            for (const svid of taken) belongsTogether(svid, written);
            writeSvidFiles(directory, replaced);
            await takes(source, replaced);
          } finally {
            await source[Symbol.asyncDispose]();
            rmSync(directory, { recursive: true, force: true });
          }
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);

  const END = '-----END CERTIFICATE-----\n';
  const cutOf = (text: string, share: number): number => {
    const at = Math.floor(text.length * share);
    const kept = text.slice(0, at);
    return kept.endsWith(END) || kept.endsWith(END.trimEnd()) || kept === '' ? Math.max(0, at - 30) : at;
  };
});

describe('an identity from the Workload API', () => {
  const serve = async (answer: Answer | undefined): Promise<WorkloadApiServer> => {
    const server = new WorkloadApiServer(join(scratch(), 'api.sock'));
    server.publish(answer);
    await server.start();
    onTestFinished(() => server.stop());
    return server;
  };
  const ask = (server: WorkloadApiServer, wanted: Wanted = NODE) =>
    follow(new WorkloadApi({ socket: server.socket }), wanted);

  test('is taken, rotates with its bundle, and outlives the server', async () => {
    const authority = await SpiffeAuthority.create();
    const id = 'spiffe://test.example/node/n1';
    const first = await authority.issue('/node/n1');
    const server = await serve(answerOf({ [id]: first }));
    const source = ask(server);
    await takes(source, first);
    await authority.prepare();
    const announced = { ...first, authorities: authority.bundle };
    server.publish(answerOf({ [id]: announced }));
    await takes(source, announced);
    const second = await authority.issue('/node/n1', { isNested: true });
    server.publish(answerOf({ [id]: second }));
    await takes(source, second);
    expect(server.streams).toBe(1);

    await server.stop();
    await complains(source, /the Workload API at unix:\/\/\S+ cannot be used: (it |nobody listens)/);
    expect(leafOf(source.svid)).toBe(leafOf(second));
    const third = await authority.issue('/node/n1');
    server.publish(answerOf({ [id]: third }));
    await server.start();
    await takes(source, third);
  }, 40_000);

  test('is the one of several that is wanted', async () => {
    const authority = await SpiffeAuthority.create();
    const all = {
      registry: await authority.issue('/registry'),
      admission: await authority.issue('/admission'),
      n1: await authority.issue('/node/n1'),
      n2: await authority.issue('/node/n2'),
    };
    const server = await serve(answerOf(all));
    await takes(ask(server, { kind: 'registry' }), all.registry);
    await takes(ask(server, { kind: 'admission' }), all.admission);
    await takes(ask(server, { kind: 'node', name: 'n2' }), all.n2);
    await complains(ask(server, { kind: 'admin' }), /but not spiffe:\/\/<trust domain>\/admin\/<name>/);
    await complains(ask(server, NODE), /several that would do .*\/node\/n1, .*\/node\/n2.*--name/);
    await complains(
      ask(server, { kind: 'registry', trustDomain: 'x.example' }),
      /but not spiffe:\/\/x\.example\/registry/,
    );
  });

  test('brings the bundles of other trust domains, each by itself', async () => {
    const authority = await SpiffeAuthority.create();
    const partner = await SpiffeAuthority.create('partner.example');
    await partner.prepare();
    const svid = await authority.issue('/node/n1');
    const partners = { 'spiffe://partner.example': new Uint8Array(Buffer.concat(partner.bundle)) };
    const source = ask(await serve(answerOf({ n1: svid }, partners)));
    await takes(source, svid);
    expect(source.federated).toEqual([{ trustDomain: 'partner.example', certificates: partner.bundle }]);
    expect(source.svid?.trustBundle.certificates).toEqual(authority.bundle);
  });

  test('without an entry says what to do, and comes once there is one', async () => {
    const authority = await SpiffeAuthority.create();
    const server = await serve(undefined);
    const source = ask(server);
    await complains(source, /no identity for this program \(no identity issued\): register an entry/);
    const svid = await authority.issue('/node/n1');
    server.publish(answerOf({ n1: svid }));
    await takes(source, svid);
  });

  test('that is a lie or garbage is refused whole, and the last good one goes on', async () => {
    const authority = await SpiffeAuthority.create();
    const other = await SpiffeAuthority.create('other.example');
    const good = await authority.issue('/node/n1');
    const server = await serve(answerOf({ n1: good }));
    const source = ask(server, { kind: 'node', trustDomain: 'test.example' });
    await takes(source, good);
    const [svid] = answerOf({ n1: good }).svids;
    if (svid === undefined) throw new Error('there is no SVID');
    const garbage = new Uint8Array(randomBytes(300));
    const wrongs: [RegExp, Answer][] = [
      [/there is no SVID at all/, { svids: [] }],
      [/but not spiffe:\/\/test\.example\/node/, answerOf({ n1: await other.issue('/node/n1') })],
      [/has expired/, answerOf({ n1: await authority.issue('/node/n1', { lastsMs: -1000 }) })],
      [/for another key/, answerOf({ n1: { ...good, privateKey: await generateKey() } })],
      [/not issued by a CA/, answerOf({ n1: { ...good, authorities: other.bundle } })],
      [/no certificates in DER/, { svids: [{ ...svid, x509Svid: garbage }] }],
      [/no certificates in DER/, { svids: [{ ...svid, bundle: new Uint8Array(0) }] }],
      [/no certificates in DER/, { svids: [{ ...svid, bundle: svid.bundle.subarray(0, -1) }] }],
      [/key that cannot be read/, { svids: [{ ...svid, x509SvidKey: garbage }] }],
      [
        /certificate that cannot be read/,
        { svids: [{ ...svid, bundle: new Uint8Array([...svid.bundle, 0x30, 0]) }] },
      ],
      [/what is no trust domain/, { svids: [svid], federatedBundles: { 'spiffe://a/b': svid.bundle } }],
      [/no certificates in DER/, { svids: [svid], federatedBundles: { 'spiffe://a': garbage } }],
      [/SVIDs and 0 bundles, which is too much/, { svids: Array.from({ length: 65 }, () => svid) }],
    ];
    for (const [problem, answer] of wrongs) {
      server.publish(answer);
      await complains(source, problem);
      expect(leafOf(source.svid)).toBe(leafOf(good));
      server.publish(answerOf({ n1: good }));
      await takes(source, good);
    }
  }, 40_000);

  test('whatever bytes it is, nothing throws', async () => {
    const authority = await SpiffeAuthority.create();
    const good = await authority.issue('/node/n1');
    const [svid] = answerOf({ n1: good }).svids;
    if (svid === undefined) throw new Error('there is no SVID');
    const server = await serve(answerOf({ n1: good }));
    const source = ask(server);
    await takes(source, good);
    for (let i = 0; i < 100; i++) {
      const field = (['x509Svid', 'x509SvidKey', 'bundle'] as const)[i % 3] ?? 'bundle';
      const bytes = Uint8Array.from(svid[field]);
      const at = Math.floor((bytes.length * i) / 100);
      bytes[at] = (bytes[at] ?? 0) ^ (1 + (i % 255));
      server.publish({ svids: [{ ...svid, [field]: bytes }] });
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    server.publish(answerOf({ n1: good }));
    await takes(source, good);
  });

  test('at a path where nobody listens is waited for', async () => {
    const socket = join(scratch(), 'api.sock');
    const source = follow(new WorkloadApi({ socket }));
    await complains(source, /nobody listens there \(ENOENT\): does the SPIFFE agent run/);
    await expect(source.first(AbortSignal.timeout(50))).rejects.toThrow(/nobody listens there/);
  });
});
