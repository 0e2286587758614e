// A replica's certificate over its life, with others beside it: who connects by what the configuration says is never refused.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { type ConnectionOptions, connect } from 'node:tls';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { Certificates, type Pace } from '../../../src/webhook/certificates.ts';
import { ReviewServer } from '../../../src/webhook/review-server.ts';
import { holderOf, makeServingCertificate, readAnchors } from '../../../src/webhook/serving-certificate.ts';
import type { ConfigurationApi, WebhookConfiguration } from '../../../src/webhook/webhook-configuration.ts';

const HOST = 'vl3-webhook.vl3-system.svc';
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const PACE: Pace = { lifetimeMs: DAY, readyAfterMs: 2000, switchAfterMs: 60_000, lookMs: 5, hastyMs: 5 };
const SOON = { timeout: 20_000, interval: 5 };

/** What an API server keeps: writers that did not see the last version are refused. */
class Configuration implements ConfigurationApi {
  bundle = '';
  version = 1;
  host: string | undefined = HOST;
  writes = 0;
  conflicts = 0;
  isThere = true;
  isReachable = true;

  async read(): Promise<WebhookConfiguration> {
    await this.#delay();
    if (!this.isThere) throw new Vl3Error('not-found', 'there is none');
    const webhooks = [{ name: 'networks.vl3.io', host: this.host, bundle: this.bundle }];
    return { resourceVersion: String(this.version), webhooks };
  }

  async trust(resourceVersion: string, bundles: ReadonlyMap<string, string>): Promise<void> {
    await this.#delay();
    if (resourceVersion !== String(this.version)) {
      this.conflicts += 1;
      throw new Vl3Error('aborted', 'it has been modified');
    }
    this.bundle = bundles.get('networks.vl3.io') ?? this.bundle;
    this.version += 1;
    this.writes += 1;
  }

  async #delay(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 2));
    if (!this.isReachable) throw new Vl3Error('unavailable', 'nobody answers');
  }

  get anchors(): number {
    return readAnchors(this.bundle).length;
  }
}

const clock = { wallMs: Date.UTC(2026, 0, 1), monotonicMs: 0 };
const pass = (ms: number): void => {
  clock.wallMs += ms;
  clock.monotonicMs += ms;
};

class Replica {
  readonly certificates: Certificates;
  readonly server: ReviewServer;
  readonly #stop = new AbortController();
  readonly #kept: Promise<void>;

  static async start(name: string, api: ConfigurationApi): Promise<Replica> {
    const deps = { judge: () => ({ refusal: undefined, warnings: [] }), failed: () => {} };
    return new Replica(name, api, await ReviewServer.open({ host: '127.0.0.1', port: 0 }, deps));
  }

  private constructor(name: string, api: ConfigurationApi, server: ReviewServer) {
    this.server = server;
    this.certificates = new Certificates(
      { name, pace: PACE },
      {
        api,
        clock: { wall: () => clock.wallMs, monotonic: () => clock.monotonicMs },
        logger: pino({ level: 'silent' }),
        show: (one) => server.show(one),
      },
    );
    this.#kept = this.certificates.run(this.#stop.signal);
  }

  /** Ends it without a word. */
  async crash(): Promise<void> {
    this.#stop.abort();
    await this.#kept;
    await this.server[Symbol.asyncDispose]();
  }

  /** The serial number of what it shows, to who trusts this and nothing else, at the test's time. */
  async shown(trusted: string): Promise<string> {
    const leaf = await this.#connect({ rejectUnauthorized: false });
    const now = clock.wallMs;
    if (leaf.validFromDate.getTime() > now || leaf.validToDate.getTime() < now) throw new Error('not valid');
    const anchors = readAnchors(trusted).map(({ pem }) => new X509Certificate(pem));
    const isTrusted = anchors.some((one) => leaf.checkIssued(one) && leaf.verify(one.publicKey));
    if (!isTrusted) throw new Error('not trusted');
    if (leaf.checkHost(HOST) === undefined) throw new Error(`not ${HOST}`);
    return leaf.serialNumber;
  }

  /** Throws when TLS itself, at the machine's time, does not trust it by this. */
  async accepted(trusted: string): Promise<void> {
    await this.#connect({ ca: trusted });
  }

  async #connect(options: ConnectionOptions): Promise<X509Certificate> {
    return await new Promise((resolve, reject) => {
      const at = { host: '127.0.0.1', port: this.server.port, servername: HOST };
      const socket = connect({ ...at, ...options });
      socket.once('error', reject);
      socket.once('secureConnect', () => {
        const certificate = socket.getPeerX509Certificate();
        socket.destroy();
        if (certificate === undefined) reject(new Error('it shows nothing'));
        else resolve(certificate);
      });
    });
  }

  get isReady(): boolean {
    return this.certificates.problems.length === 0;
  }
}

let api: Configuration;
let replicas: Replica[];
const start = async (name: string): Promise<Replica> => {
  const replica = await Replica.start(name, api);
  replicas.push(replica);
  return replica;
};
/** Once nobody has anything more to write. */
const settled = async (): Promise<void> => {
  for (let quiet = 0, seen = -1; quiet < 8; quiet += 1) {
    if (api.writes !== seen) quiet = 0;
    seen = api.writes;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
const ready = async (...some: Replica[]): Promise<void> => {
  await vi.waitFor(() => expect(api.anchors).toBeGreaterThanOrEqual(some.length), SOON);
  await settled();
  pass(PACE.readyAfterMs);
  await vi.waitFor(() => expect(some.map(({ isReady }) => isReady)).not.toContain(false), SOON);
};

beforeEach(() => {
  api = new Configuration();
  replicas = [];
  Object.assign(clock, { wallMs: Date.now(), monotonicMs: 0 });
});
afterEach(async () => {
  for (const replica of replicas) await replica.crash();
});

describe('a replica', () => {
  test('is ready once it is trusted, and API servers have had time to see that', async () => {
    const one = await start('one');
    await vi.waitFor(() => expect(api.anchors).toBe(1), SOON);
    await settled();
    expect(one.certificates.problems).toEqual([expect.stringMatching(/only just now/)]);
    pass(PACE.readyAfterMs);
    expect(one.isReady).toBe(true);
    await one.shown(api.bundle);
    await one.accepted(api.bundle);
    await expect(one.accepted('')).rejects.toThrow();
  });

  test('says what is missing while there is no configuration, or none that could be called', async () => {
    api.isThere = false;
    const one = await start('one');
    await vi.waitFor(() => expect(one.certificates.problems).toEqual(['there is none']), SOON);
    api.isThere = true;
    api.host = undefined;
    const sentence = expect.stringMatching(/names no webhook with a service or a URL/);
    await vi.waitFor(() => expect(one.certificates.problems).toEqual([sentence]), SOON);
    api.host = HOST;
    await ready(one);
    await one.shown(api.bundle);
  });

  test('writes nothing more once it is trusted, and puts back what somebody took out', async () => {
    const one = await start('one');
    await ready(one);
    expect(api.writes).toBe(1);
    api.bundle = '';
    api.version += 1;
    await vi.waitFor(() => expect(api.writes).toBe(2), SOON);
    await settled();
    expect(one.isReady).toBe(false);
    await ready(one);
    await one.shown(api.bundle);
  });

  test('makes another when API servers call it otherwise', async () => {
    const one = await start('one');
    await ready(one);
    const first = await one.shown(api.bundle);
    api.host = '127.0.0.1';
    await vi.waitFor(() => expect(one.certificates.renewals).toBe(1), SOON);
    await ready(one);
    await expect(one.shown(api.bundle)).rejects.toThrow(`not ${HOST}`);
    api.host = HOST;
    await vi.waitFor(() => expect(one.certificates.renewals).toBe(2), SOON);
    await ready(one);
    expect(await one.shown(api.bundle)).not.toBe(first);
    expect(api.anchors).toBe(1);
  });

  test('takes its own out when it goes', async () => {
    const [one, two] = [await start('one'), await start('two')];
    await ready(one, two);
    await one.crash();
    await one.certificates.retract();
    expect(api.anchors).toBe(1);
    await two.shown(api.bundle);
  });
});

describe('several replicas', () => {
  test('that go at once leave nothing', async () => {
    const all = await Promise.all(['a', 'b', 'c', 'd'].map(start));
    await ready(...all);
    await Promise.all(all.map((one) => one.crash()));
    await Promise.all(all.map((one) => one.certificates.retract()));
    expect(api.anchors).toBe(0);
  });

  test('that start at once are all trusted, however they meet', async () => {
    const all = await Promise.all(['a', 'b', 'c', 'd', 'e'].map(start));
    await ready(...all);
    expect(api.anchors).toBe(5);
    for (const one of all) await one.accepted(api.bundle);
    // They did get in each other's way.
    expect(api.conflicts).toBeGreaterThan(0);
  });

  test('do not touch what others put there, and one that starts again leaves nothing behind', async () => {
    const alien = await makeServingCertificate({
      holder: 'x',
      hosts: [HOST],
      now: clock.wallMs,
      lifetimeMs: DAY,
    });
    const foreign = Buffer.from(alien.anchor.pem).toString();
    api.bundle = foreign;
    const [one, two] = [await start('one'), await start('two')];
    await ready(one, two);
    await one.crash();
    const again = await start('one');
    await vi.waitFor(() => expect(again.certificates.notAfter).toBeDefined(), SOON);
    await ready(again, two);
    const holders = readAnchors(api.bundle).map(({ holder }) => holder);
    expect(holders.toSorted()).toEqual(['x', holderOf('one'), holderOf('two')].toSorted());
    await again.shown(api.bundle);
    await expect(again.shown(foreign)).rejects.toThrow('not trusted');
  });

  test('of which one died leave its certificate there until it ends', async () => {
    const [one, two] = [await start('one'), await start('two')];
    await ready(one, two);
    await one.crash();
    pass(DAY - HOUR);
    await settled();
    expect(readAnchors(api.bundle).map(({ holder }) => holder)).toContain(holderOf('one'));
    pass(2 * HOUR);
    await vi.waitFor(() => {
      const holders = readAnchors(api.bundle).map(({ holder }) => holder);
      expect(holders).not.toContain(holderOf('one'));
      expect(holders).toContain(holderOf('two'));
    }, SOON);
  });
});

describe('a renewal', () => {
  test('shows the next certificate only once it is trusted for a while, and never one that is not', async () => {
    const one = await start('one');
    await ready(one);
    const [before, serial] = [api.bundle, await one.shown(api.bundle)];
    pass(DAY / 2);
    await vi.waitFor(() => expect(api.anchors).toBe(2), SOON);
    await settled();
    // An API server that has not seen it yet, and one that has.
    expect(await one.shown(before)).toBe(serial);
    expect(await one.shown(api.bundle)).toBe(serial);
    expect(one.isReady).toBe(true);
    const both = api.bundle;
    pass(PACE.switchAfterMs);
    await vi.waitFor(() => expect(one.certificates.renewals).toBe(1), SOON);
    expect(await one.shown(both)).not.toBe(serial);
    expect(one.isReady).toBe(true);
    await vi.waitFor(() => expect(api.anchors).toBe(1), SOON);
    expect(await one.shown(api.bundle)).not.toBe(serial);
  });

  test('fails nobody who connects throughout by what the configuration says', async () => {
    const [one, two] = [await start('one'), await start('two')];
    await ready(one, two);
    const seen = new Set<string>();
    let failed = 0;
    let isOver = false;
    const calling = [one, two].map(async (replica) => {
      while (!isOver) {
        await replica.shown(api.bundle).then(
          (serial) => seen.add(serial),
          () => (failed += 1),
        );
      }
    });
    // Half a day at a time, in steps that let everybody act.
    for (let half = 1; half <= 3; half++) {
      pass(DAY / 2);
      await vi.waitFor(() => {
        pass(PACE.switchAfterMs / 4);
        expect([one, two].map(({ certificates }) => certificates.renewals)).toEqual([half, half]);
      }, SOON);
      await settled();
    }
    isOver = true;
    await Promise.all(calling);
    expect(failed).toBe(0);
    expect(seen.size).toBeGreaterThanOrEqual(4);
    expect(api.anchors).toBe(2);
  });

  test('that could not be told of is not shown, and is made up for', async () => {
    const one = await start('one');
    await ready(one);
    const serial = await one.shown(api.bundle);
    api.isReachable = false;
    pass(DAY / 2 + HOUR);
    await settled();
    expect(await one.shown(api.bundle)).toBe(serial);
    expect(one.isReady).toBe(true);
    api.isReachable = true;
    await vi.waitFor(() => expect(api.anchors).toBe(2), SOON);
    pass(PACE.switchAfterMs);
    await vi.waitFor(() => expect(one.certificates.renewals).toBe(1), SOON);
  });

  test('that comes too late, after a sleep of days, is shown at once', async () => {
    const one = await start('one');
    await ready(one);
    pass(3 * DAY);
    await vi.waitFor(() => expect(one.certificates.renewals).toBe(1), SOON);
    await ready(one);
    expect(api.anchors).toBe(1);
  });

  test('comes when the clock was set back behind its beginning', async () => {
    const one = await start('one');
    await ready(one);
    clock.wallMs -= 5 * DAY;
    await vi.waitFor(() => expect(one.certificates.renewals).toBe(1), SOON);
    await ready(one);
  });
});

test('what is in a bundle beside certificates is no matter', async () => {
  const { anchor } = await makeServingCertificate({
    holder: 'h',
    hosts: [HOST],
    now: Date.now(),
    lifetimeMs: DAY,
  });
  const junk = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  expect(readAnchors(`\n# hello\n${junk}${anchor.pem}trailing`)).toEqual([
    { ...anchor, notAfter: Math.floor(anchor.notAfter / 1000) * 1000 },
  ]);
  expect(readAnchors('')).toEqual([]);
  expect(readAnchors('\u0000-----BEGIN CERTIFICATE-----')).toEqual([]);
});

test('the certificate that API servers trust vouches for one key and can sign for no other', async () => {
  const made = await makeServingCertificate({
    holder: 'h',
    hosts: [HOST, '10.0.0.7'],
    now: Date.now(),
    lifetimeMs: DAY,
  });
  const [ca, leaf] = [new X509Certificate(made.anchor.pem), new X509Certificate(made.certificate)];
  expect(ca.ca).toBe(true);
  expect(leaf.ca).toBe(false);
  expect(leaf.verify(ca.publicKey)).toBe(true);
  expect(leaf.subjectAltName).toBe(`DNS:${HOST}, IP Address:10.0.0.7`);
  // The key at hand is not the CA's.
  expect(ca.checkPrivateKey(createPrivateKey(made.key))).toBe(false);
  expect(leaf.checkPrivateKey(createPrivateKey(made.key))).toBe(true);
});
