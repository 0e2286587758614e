// What we hold of a partner as time goes by: its bundle changes, lies, fails and comes back.

import { describe, expect, test } from 'vitest';
import {
  type BundleVerdict,
  type HeldBundle,
  judgeBundle,
  UNCONFIRMED_MS,
} from '../../../native-free/federation/bundle-rules.ts';
import { svidTls } from '../../../src/federation/bundle-endpoint.ts';
import { BundleFetcher } from '../../../src/federation/bundle-fetcher.ts';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { DOMAIN, type Issued, issueCa } from '../identity/fixture.ts';
import { recordingLogger } from '../registry/fixture.ts';
import { bundleOf, credentialOf, serve, spiffe } from './bundle-server.ts';

describe('a fetcher', () => {
  /** A partner whose CAs, sequence and server may change, and one who follows it. */
  const follow = async (first: Issued) => {
    const served = { text: encodeSpiffeBundle(bundleOf(first), { sequence: 1n }) };
    const { server, url } = await serve(await credentialOf(first), () => served.text);
    const start = decodeSpiffeBundle(served.text, DOMAIN);
    const initial = judgeBundle(undefined, start, 'admin', Date.now());
    const state: { held: HeldBundle | undefined; now: number } = {
      held: initial.kind === 'replaced' ? initial.held : undefined,
      now: Date.now(),
    };
    const log = recordingLogger();
    const fetcher = new BundleFetcher(
      { trustDomain: DOMAIN, endpoint: spiffe(url), timeoutMs: 5000 },
      {
        held: () => state.held,
        keep: (held) => {
          state.held = held;
        },
        logger: log.logger,
        now: () => state.now,
        random: () => 0.5,
      },
    );
    const publish = (sequence: bigint, ...cas: Issued[]) => {
      served.text = encodeSpiffeBundle(bundleOf(...cas), { sequence });
    };
    const show = async (ca: Issued) => server.setTls(svidTls(await credentialOf(ca)));
    return { state, fetcher, publish, show, log, served };
  };
  const kindOf = (look: BundleVerdict | { kind: 'failed' } | undefined) => look?.kind;

  test("follows a rotation of the partner's CA with overlap, though each server is known by the bundle before", async () => {
    const [old, next] = [await issueCa(), await issueCa()];
    const { fetcher, publish, show, state } = await follow(old);
    expect(kindOf(await fetcher.look())).toBe('confirmed');
    publish(2n, old, next);
    expect(await fetcher.look()).toMatchObject({ kind: 'replaced', overlaps: true });
    await show(next);
    expect(kindOf(await fetcher.look())).toBe('confirmed');
    publish(3n, next);
    expect(await fetcher.look()).toMatchObject({ kind: 'replaced', overlaps: true });
    expect(state.held?.bundle.certificates.map(({ der }) => der)).toEqual([next.der]);
    expect(fetcher.problem).toBeUndefined();
  });

  test('keeps what it holds when the CA is changed without overlap, and when an old bundle is replayed', async () => {
    const [old, next] = [await issueCa(), await issueCa()];
    const { fetcher, publish, show, state } = await follow(old);
    publish(5n, old);
    await fetcher.look();
    await show(next);
    publish(6n, next);
    expect(await fetcher.look()).toMatchObject({ kind: 'failed', error: { code: 'unauthenticated' } });
    await show(old);
    publish(4n, old, next);
    expect(kindOf(await fetcher.look())).toBe('refused');
    expect(fetcher.problem).toMatch(/its sequence 4 is lower than 5/);
    expect(state.held?.bundle.certificates.map(({ der }) => der)).toEqual([old.der]);
  });

  test('says once what fails again and again, and goes on', async () => {
    const ca = await issueCa();
    const { fetcher, served, log } = await follow(ca);
    const good = served.text;
    served.text = 'nonsense';
    for (let i = 0; i < 5; i++) expect(kindOf(await fetcher.look())).toBe('failed');
    expect(log.lines.filter((line) => line.includes('no SPIFFE bundle'))).toHaveLength(1);
    served.text = good;
    expect(kindOf(await fetcher.look())).toBe('confirmed');
    expect(fetcher.problem).toBeUndefined();
  });

  test('once its bundle counts no more, waits for an admin instead of believing a server by it', async () => {
    const ca = await issueCa();
    const { fetcher, state } = await follow(ca);
    state.now += UNCONFIRMED_MS;
    expect(await fetcher.look()).toMatchObject({ kind: 'failed', error: { code: 'failed-precondition' } });
  });

  test('tells it loudly when a partner takes all of its CAs back', async () => {
    const ca = await issueCa();
    const { fetcher, publish, log, state } = await follow(ca);
    publish(2n);
    expect(kindOf(await fetcher.look())).toBe('replaced');
    expect(state.held?.bundle.certificates).toEqual([]);
    expect(log.lines.join()).toMatch(/has taken back all of its CAs/);
  });

  test('asks on and on until it is stopped, with the pauses that the bundle asks for', async () => {
    const ca = await issueCa();
    const served = encodeSpiffeBundle(bundleOf(ca), { sequence: 1n, refreshHint: 3600 });
    const { url } = await serve(await credentialOf(ca), () => served);
    const initial = judgeBundle(undefined, decodeSpiffeBundle(served, DOMAIN), 'admin', Date.now());
    if (initial.kind !== 'replaced') throw new Error('not taken');
    let held = initial.held;
    const stop = new AbortController();
    const pauses: number[] = [];
    let kept = 0;
    const fetcher = new BundleFetcher(
      { trustDomain: DOMAIN, endpoint: spiffe(url) },
      {
        held: () => held,
        keep: (one) => {
          held = one;
          kept++;
        },
        logger: recordingLogger().logger,
        now: Date.now,
        random: () => 0.5,
        sleep: async (milliseconds) => {
          pauses.push(milliseconds);
          if (pauses.length === 3) stop.abort();
        },
      },
    );
    await fetcher.run(stop.signal);
    expect(kept).toBe(3);
    expect(pauses).toEqual([3_420_000, 3_420_000, 3_420_000]);
  });
});
