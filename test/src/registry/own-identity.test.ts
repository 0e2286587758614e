// A registry without a CA of its own: by SVIDs of SPIRE's profile, from a Workload API or from files.

import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { decodeVerifiedGrant } from '../../../native-free/admission/grant.ts';
import { keys, one } from '../../../native-free/registry/keys.ts';
import { fromBase64 } from '../../../src/base64.ts';
import { createGrantVerifier } from '../../../src/identity/grant-signer.ts';
import { createIdentity, type Identity } from '../../../src/identity/identity.ts';
import type { OfferedSvid } from '../../../src/identity/svid.ts';
import type { OwnDomainOptions } from '../../../src/registry/own-domain.ts';
import { type RegistryOptions, startRegistry } from '../../../src/registry/server.ts';
import { SpiffeAuthority, type SvidShape, writeSvidFiles } from '../../lab/spiffe-authority.ts';
import { answerOf, WorkloadApiServer } from '../../lab/workload-api.ts';
import {
  agentOf,
  recordingLogger,
  red,
  refusal,
  startDomain,
  TestDomain,
  temporaryDirectory,
} from './fixture.ts';

const SOON = { timeout: 20_000, interval: 20 };

/** A SPIFFE agent on the registry's machine, and the domain that lives by it. */
class Scene {
  readonly authority: SpiffeAuthority;
  readonly api: WorkloadApiServer;
  readonly domain: TestDomain;
  readonly #shape: SvidShape;

  private constructor(
    authority: SpiffeAuthority,
    api: WorkloadApiServer,
    options: Partial<RegistryOptions>,
    enrolment: OwnDomainOptions['enrolment'],
    shape: SvidShape,
  ) {
    const place = { kind: 'workload-api', socket: api.socket } as const;
    this.authority = authority;
    this.api = api;
    this.#shape = shape;
    this.domain = new TestDomain({ ...options, ownIdentity: { place, admissionPlace: place, enrolment } });
  }

  static async start(
    enrolment: OwnDomainOptions['enrolment'] = 'open',
    shape: SvidShape = {},
    options: Partial<RegistryOptions> = {},
  ): Promise<Scene> {
    const authority = await SpiffeAuthority.create();
    const api = new WorkloadApiServer(join(temporaryDirectory(), 'api.sock'));
    const scene = new Scene(authority, api, options, enrolment, shape);
    await api.start();
    onTestFinished(() => api.stop());
    await scene.publish();
    await scene.domain.start();
    return scene;
  }

  /** SVIDs anew for all that runs on the registry's machine. */
  async publish(shape = this.#shape): Promise<void> {
    const [registry, admission, admin] = await Promise.all(
      ['/registry', '/admission', '/admin/alice'].map((path) => this.authority.issue(path, shape)),
    );
    if (registry === undefined || admission === undefined || admin === undefined) throw new Error('no SVID');
    this.api.publish(answerOf({ registry, admission, admin }));
  }

  /** A new domain has to be said to be one. */
  async settle(): Promise<void> {
    await (await this.domain.admin()).settleRegistry({});
  }

  async node(name: string, shape?: SvidShape): Promise<Identity> {
    return this.as(name, await this.authority.issue(`/node/${name}`, shape));
  }

  as(name: string, { certificateChain, privateKey, authorities }: OfferedSvid): Identity {
    const trustBundle = { trustDomain: 'test.example', certificates: authorities };
    const { registries } = this.domain.registry;
    return createIdentity(
      { kind: 'node', name, registries, certificateChain, privateKey, trustBundle },
      Date.now(),
    );
  }
}

const joins = async (identity: Identity): Promise<string> => {
  const client = agentOf(identity);
  await client.heartbeat({});
  await client.joinNetwork({ network: 'red' });
  const { lease } = await client.leasePrefix({ network: 'red', family: 4, requestId: 'a' });
  return lease?.prefix ?? '';
};

describe('a registry by a Workload API', () => {
  test('takes a node in by its SVID, and a person as admin by hers', async () => {
    const scene = await Scene.start();
    const admin = await scene.domain.admin();
    // Nobody can tell an empty store of a new domain from one that was lost.
    expect(await refusal(admin.createNetwork({ network: red }))).toMatch(
      /^unavailable: .*vl3 registry settle/,
    );
    await scene.settle();
    await admin.createNetwork({ network: red });
    expect(await joins(await scene.node('n1'))).toMatch(/^10\.60\./);
    const { nodes } = await admin.listNodes({});
    expect(nodes.map(({ name, spiffeId }) => [name, spiffeId])).toEqual([
      ['n1', 'spiffe://test.example/node/n1'],
    ]);
    const { signer, identities } = await admin.getStatus({});
    expect(signer).toBe('given');
    expect(identities.map(({ spiffeId, place, problem }) => [spiffeId, place, problem])).toEqual(
      ['registry', 'admission'].map((kind) => [
        `spiffe://test.example/${kind}`,
        `the Workload API at ${scene.api.endpoint}`,
        '',
      ]),
    );
    await scene.api.stop();
    await vi.waitFor(async () => {
      const [first] = (await admin.getStatus({})).identities;
      expect(first?.problem).toMatch(/cannot be used/);
    }, SOON);
    const text = scene.domain.log.lines.join('');
    expect(text).toMatch(/"node enrolled by its SVID"/);
    expect(text).not.toMatch(/PRIVATE KEY/);
  });

  test('gives out neither tokens nor SVIDs, and says what to do', async () => {
    const scene = await Scene.start();
    await scene.settle();
    const admin = await scene.domain.admin();
    expect(await refusal(admin.createToken({ node: 'n1' }))).toMatch(
      /^failed-precondition: this domain has no join tokens.*spiffe:\/\/test\.example\/node\/<name>.*--identity/,
    );
    expect((await admin.listTokens({})).tokens).toEqual([]);
    const client = agentOf(await scene.node('n1'));
    await client.heartbeat({});
    expect(await refusal(client.renewSvid({ certificateRequest: new Uint8Array(100) }))).toMatch(
      /^failed-precondition: this domain gives out no SVIDs/,
    );
  });

  test('keeps a deleted node out, whatever SVID it gets, until an admin lets it in again', async () => {
    const scene = await Scene.start();
    await scene.settle();
    const admin = await scene.domain.admin();
    await agentOf(await scene.node('n1')).heartbeat({});
    await admin.deleteNode({ name: 'n1' });
    for (const identity of [await scene.node('n1'), await scene.node('n1')]) {
      const refused = agentOf(identity).heartbeat({});
      await expect(refused).rejects.toMatchObject({
        why: 'deleted',
        message: expect.stringMatching(/vl3 node readmit n1/),
      });
    }
    await admin.readmitNode({ name: 'n1' });
    await agentOf(await scene.node('n1')).heartbeat({});
  });

  test('that is closed takes in nobody that it does not know', async () => {
    const scene = await Scene.start('closed');
    // While it recovers it believes what nodes hold.
    await agentOf(await scene.node('n1')).heartbeat({});
    await scene.settle();
    await expect(agentOf(await scene.node('n2')).heartbeat({})).rejects.toMatchObject({
      why: 'unknown',
      message: expect.stringMatching(/own-enrolment/),
    });
    await agentOf(await scene.node('n1')).heartbeat({});
  });

  test('lets in nobody by an SVID of another kind, domain or time', async () => {
    const scene = await Scene.start();
    await scene.settle();
    const other = await SpiffeAuthority.create();
    const good = await scene.node('n1');
    const strangers = [
      await scene.authority.issue('/registry'),
      await scene.authority.issue('/admission'),
      await scene.authority.issue('/ns/billing/sa/ledger'),
      await scene.authority.issue('/node/n1', { lastsMs: -1000 }),
      { ...(await other.issue('/node/n1')), authorities: good.trustBundle.certificates },
    ];
    for (const { certificateChain, privateKey } of strangers) {
      const answer = await refusal(agentOf({ ...good, certificateChain, privateKey }).heartbeat({}));
      expect(answer).toMatch(/^unauthenticated: the client certificate |^unavailable: /);
    }
    await agentOf(good).heartbeat({});
  });

  test('rotates its SVID and its bundle under open connections, and through intermediate CAs', async () => {
    const scene = await Scene.start('open', { isNested: true });
    await scene.settle();
    const old = await scene.node('n1', { isNested: true });
    const client = agentOf(old);
    await client.heartbeat({});
    await scene.authority.prepare();
    await scene.publish();
    // Its certificate is by the new CA now, which who has only the old one does not know yet.
    await vi.waitFor(async () => {
      const young = await scene.node('n1', { isNested: true });
      await agentOf(young).heartbeat({});
      expect(await refusal(agentOf(old).heartbeat({}))).toMatch(/^unavailable: .*another CA/);
    }, SOON);
    await client.heartbeat({});
    // And who has both is let in by the old SVID.
    const { certificates } = (await scene.node('n1')).trustBundle;
    const both = { ...old, trustBundle: { ...old.trustBundle, certificates } };
    await agentOf(both).heartbeat({});
    scene.authority.retire();
    await scene.publish();
    await vi.waitFor(async () => {
      expect(await refusal(agentOf(both).heartbeat({}))).toMatch(/^unauthenticated|^unavailable/);
    }, SOON);
    await agentOf(await scene.node('n1')).heartbeat({});
  }, 60_000);

  test('signs grants by the admission identity, for no longer than that lasts, and anew when it is renewed', async () => {
    const scene = await Scene.start('open', { lastsMs: 30 * 60_000 });
    await scene.settle();
    await (await scene.domain.admin()).createNetwork({ network: red });
    const identity = await scene.node('n1');
    await joins(identity);
    await (await scene.domain.admission()).deleteAdmissionRule({ network: 'red', name: 'home' });
    const { context } = scene.domain.registry.observed;
    const verify = createGrantVerifier(identity.trustBundle);
    const held = async () => {
      const state = await context.transactor.read([one(keys.grant('red', 'n1')), one(keys.network('red'))]);
      const stored = state.grant('red', 'n1')?.value;
      if (stored === undefined) throw new Error('nothing is granted yet');
      return decodeVerifiedGrant(
        {
          record: fromBase64(stored.grant),
          signature: fromBase64(stored.signature),
          certificateChain: stored.certificateChain.map(fromBase64),
        },
        verify,
        Date.now(),
        { network: 'red', networkUid: state.network('red')?.value.uid ?? '', node: 'n1' },
      );
    };
    const first = await vi.waitFor(held, SOON);
    if (first.kind !== 'accepted') throw new Error('it does not verify');
    expect(first.grant.notAfter).toBeLessThanOrEqual(Date.now() + 30 * 60_000);
    // As another program of the domain would: its SVID signs no grant.
    const { certificateChain } = await scene.authority.issue('/registry');
    expect(verify(certificateChain, new Uint8Array(1), new Uint8Array(64), Date.now())).toBeUndefined();
    await scene.publish({ lastsMs: 60 * 60_000 });
    await vi.waitFor(async () => {
      const next = await held();
      if (next.kind !== 'accepted') throw new Error('it does not verify');
      expect(next.grant.sequence).toBeGreaterThan(first.grant.sequence);
      expect(next.grant.notAfter).toBeGreaterThan(first.grant.notAfter);
    }, SOON);
  }, 60_000);

  test('goes on after a restart, and knows its words of before', async () => {
    const scene = await Scene.start();
    await scene.settle();
    const client = agentOf(await scene.node('n1'));
    const { storeId, stamp } = await client.heartbeat({});
    await scene.domain.stop();
    await scene.domain.start();
    const again = await agentOf(await scene.node('n1')).heartbeat({ storeId, revision: 0n, stamp });
    expect(again.recovering).toBe(false);
    expect(scene.domain.registry.observed.context.stamps.runThatSaid(storeId, 0n, stamp)).toBeDefined();
  });

  test('starts again from what it kept while nobody issues anything, and goes on from there', async () => {
    const scene = await Scene.start();
    await scene.settle();
    await agentOf(await scene.node('n1')).heartbeat({});
    await scene.domain.stop();
    await scene.api.stop();
    await scene.domain.start();
    // Nobody who asks the issuer is let in as admin meanwhile; nodes go on.
    await agentOf(await scene.node('n1')).heartbeat({});
    const { signer } = scene.domain.registry.observed.context;
    expect(signer.given?.map(({ spiffeId, problem }) => [spiffeId, problem])).toEqual(
      ['registry', 'admission'].map((kind) => [
        `spiffe://test.example/${kind}`,
        expect.stringMatching(/cannot be used: nobody listens there/),
      ]),
    );
    await scene.publish({ lastsMs: 7_200_000 });
    await scene.api.start();
    await vi.waitFor(() => {
      for (const { notAfter, problem } of signer.given ?? []) {
        expect(problem).toBeUndefined();
        expect(notAfter).toBeGreaterThan(Date.now() + 6_000_000);
      }
    }, SOON);
  }, 60_000);

  test('does not start without an SVID of the registry and one of the admission identity, and says which is missing', async () => {
    const authority = await SpiffeAuthority.create();
    const api = new WorkloadApiServer(join(temporaryDirectory(), 'api.sock'));
    await api.start();
    onTestFinished(() => api.stop());
    const place = { kind: 'workload-api', socket: api.socket } as const;
    const start = (signal: AbortSignal) =>
      startRegistry(
        {
          stateDirectory: temporaryDirectory(),
          trustDomain: 'test.example',
          listen: { host: '127.0.0.1', port: 0 },
          ownIdentity: { place, admissionPlace: place, enrolment: 'open' },
        },
        { logger: recordingLogger().logger, signal },
      );
    await expect(start(AbortSignal.timeout(1000))).rejects.toThrow(/has no identity for this program/);
    api.publish(answerOf({ registry: await authority.issue('/registry') }));
    await expect(start(AbortSignal.timeout(1000))).rejects.toThrow(
      /but not spiffe:\/\/test\.example\/admission/,
    );
  });
});

test('a registry by files serves as one by a Workload API does', async () => {
  const authority = await SpiffeAuthority.create();
  const directory = temporaryDirectory();
  const renew = async (): Promise<void> => {
    for (const kind of ['registry', 'admission', 'admin'])
      writeSvidFiles(
        join(directory, kind),
        await authority.issue(kind === 'admin' ? '/admin/alice' : `/${kind}`),
      );
  };
  await renew();
  const placeOf = (kind: string) => ({ kind: 'files', directory: join(directory, kind) }) as const;
  const domain = await startDomain({
    ownIdentity: { place: placeOf('registry'), admissionPlace: placeOf('admission'), enrolment: 'open' },
  });
  const { registries } = domain.registry;
  const reference = { version: 1, kind: 'admin', trustDomain: 'test.example', registries };
  const { writePrivateFile } = await import('../../../src/identity/private-file.ts');
  const text = JSON.stringify({ ...reference, identity: join(directory, 'admin') });
  await writePrivateFile(
    join(domain.stateDirectory, 'admin.json'),
    Buffer.from(text),
    'the admin credential',
  );
  const admin = await domain.admin();
  await admin.settleRegistry({});
  await admin.createNetwork({ network: red });
  const { certificateChain, privateKey, authorities } = await authority.issue('/node/n1');
  const trustBundle = { trustDomain: 'test.example', certificates: authorities };
  const parts = { kind: 'node', name: 'n1', registries, certificateChain, privateKey, trustBundle } as const;
  expect(await joins(createIdentity(parts, Date.now()))).toMatch(/^10\.60\./);
});

test('a store belongs to its CA or to another issuer, and never to both', async () => {
  const scene = await Scene.start();
  await scene.domain.stop();
  const { stateDirectory } = scene.domain;
  const place = { kind: 'workload-api', socket: scene.api.socket } as const;
  const start = (directory: string, ownIdentity?: OwnDomainOptions) =>
    startRegistry(
      {
        stateDirectory: directory,
        trustDomain: 'test.example',
        listen: { host: '127.0.0.1', port: 0 },
        ...(ownIdentity && { ownIdentity }),
      },
      { logger: recordingLogger().logger },
    );
  await expect(start(stateDirectory)).rejects.toThrow(Error);
  const withCa = await startDomain();
  await withCa.stop();
  const own = { place, admissionPlace: place, enrolment: 'open' } as const;
  await expect(start(withCa.stateDirectory, own)).rejects.toThrow(
    /a domain with a CA of its own.*--state-dir/,
  );
});
