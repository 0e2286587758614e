// T5 between two companies, the signer of the inviting one apart: what a registry without a key of the CA can make of a
// partner. Mallory owns the registry's machine, its store and its credential. Nobody's packet is accepted, and what an admin
// ended has ended.

import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { encodeGrant, readGrant } from '../../native-free/admission/grant.ts';
import type { NodeRecord } from '../../native-free/registry/record.ts';
import { LocalClient } from '../../src/agent/local-client.ts';
import { fromBase64, toBase64 } from '../../src/base64.ts';
import { CertificateAuthority } from '../../src/identity/ca.ts';
import { createCertificateRequest } from '../../src/identity/certificate-request.ts';
import { createIdentity } from '../../src/identity/identity.ts';
import { generateKey } from '../../src/identity/key.ts';
import { signRecord } from '../../src/identity/record-signer.ts';
import { encodeSpiffeBundle } from '../../src/identity/spiffe-bundle.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Site } from '../lab/internet.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';
import { wireguardKeys } from '../lab/wireguard-go.ts';
import { ForgedStore } from './forged-store.ts';
import { callAs } from './mallory.ts';

const PARTNER = 'partner.example';
const EDGE = `edge@${PARTNER}`;
const malloryKeys = wireguardKeys();
const NOTHING = { received: 0, arrived: 0, hasSession: false };

let home: Domain;
let partner: Domain;
let h1: Node;
let edge: Node;
let red1: Pod;
let ledger: Pod;
/** Of the ledger on red. */
let address: string;
let mallory: Site;

/** The registry is stopped, its store is changed, and it is started again. */
const lie = async (change: (store: ForgedStore) => Promise<void> | void): Promise<void> => {
  await home.stopRegistry();
  {
    using store = new ForgedStore(join(home.registryState, 'store.db'));
    await change(store);
  }
  await home.startRegistry();
};

const edgeAtH1 = async () => (await h1.status()).networks[0]?.peers.find(({ node }) => node === EDGE);

const call = () => callAs({ lab: home.lab, from: mallory, node: h1, pod: red1, keys: malloryKeys, address });

const both = async (): Promise<void> => {
  await vi.waitFor(async () => expect(await red1.reaches(address)).toBe(true), SOON);
};

beforeAll(async () => {
  home = await Domain.startApart();
  partner = await home.partner(PARTNER);
  await home.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  await home.admin(
    'admission',
    'create',
    'ledger',
    '--network',
    'red',
    '--from',
    PARTNER,
    '--label',
    'app=ledger',
  );
  await home.federate(partner, '--network', 'red', '--prefix', '10.60.128.0/20');
  [h1, edge] = await Promise.all([home.startNode('h1'), partner.startNode('edge')]);
  red1 = await h1.pod('red1', 'red');
  ledger = await edge.pod('ledger');
  mallory = await home.cloud.node('mallory', 66);
  await vi.waitFor(async () => {
    const { stderr } = await edge.tryVl3(
      ...['attach', '--netns', ledger.host.netns, '--network', 'red@test.example', '--name', 'ledger'],
      ...['--label', 'app=ledger', '--wait', '1s'],
    );
    expect(stderr).not.toMatch(/not federated|with whom it is federated/);
  }, SOON);
  address = await vi.waitFor(async () => {
    const [one] = await new LocalClient(edge.socket).attachments();
    expect(one).toMatchObject({ ready: true });
    return one?.addresses[0] ?? '';
  }, SOON);
}, 180_000);

afterAll(() => home?.close());

test("a partner's workload is reached by a grant of its single address, which the signer decided", async () => {
  await both();
  expect(address).toMatch(/^10\.60\.1(2[89]|3\d|4[0-3])\./);
  expect((await edgeAtH1())?.prefixes).toEqual([`${address}/32`]);
  await vi.waitFor(async () => expect((await h1.status()).problems).toEqual([]), SOON);
});

test("a partner's CA of the registry's own making is nobody's, and its node's key not swapped by it", async () => {
  const false_ = await CertificateAuthority.open({
    directory: join(home.lab.scratch, 'false-ca'),
    trustDomain: PARTNER,
  });
  const privateKey = await generateKey();
  const certificateChain = await false_.signNodeSvid(await createCertificateRequest(privateKey), 'edge');
  const { trustBundle } = false_;
  const parts = {
    kind: 'node',
    name: 'edge',
    registries: [],
    privateKey,
    certificateChain,
    trustBundle,
  } as const;
  const identity = createIdentity(parts, Date.now());
  await lie((store) => {
    const at = `/partner-bundles/${PARTNER}`;
    const sequence = BigInt(Date.now() + 1000);
    store.writeAt(at, { ...store.readAt(at), text: encodeSpiffeBundle(false_.trustBundle, { sequence }) });
    const stored = store.readAt(`/records/red/${EDGE}`);
    const {
      trustDomain: _,
      node: __,
      notAfter: ___,
      ...told
    }: NodeRecord & Record<string, unknown> = JSON.parse(Buffer.from(stored.record, 'base64').toString());
    const endpoints = [{ address: mallory.address, port: 51_820, scope: 'public' as const }];
    const signed = signRecord(identity, {
      ...told,
      ...{ publicKey: malloryKeys.publicKey, endpoints, sequence: told.sequence + 1 },
    });
    store.writeAt(`/records/red/${EDGE}`, {
      ...stored,
      record: toBase64(signed.record),
      signature: toBase64(signed.signature),
      certificateChain: signed.certificateChain.map(toBase64),
      sequence: told.sequence + 1,
    });
  });
  await vi.waitFor(
    async () =>
      expect((await h1.status()).problems.join('\n')).toMatch(
        /the record of edge@partner.example was refused/,
      ),
    SOON,
  );
  expect(await call()).toEqual(NOTHING);
  await both();
});

test('more than the signer granted is not had by a grant that says so', async () => {
  const at = `/grants/red/${EDGE}`;
  await lie((store) => {
    const stored = store.readAt(at);
    const read = readGrant(fromBase64(stored.grant));
    if (read === undefined) throw new Error('there is no grant');
    const addresses = [...read.addresses, red1.v4('red')].sort();
    const bytes = encodeGrant({ ...read, addresses, sequence: read.sequence + 1 });
    store.writeAt(at, { ...stored, grant: toBase64(bytes), sequence: read.sequence + 1 });
  });
  await h1.agent.stop('SIGKILL');
  await h1.start();
  await vi.waitFor(
    async () => expect((await h1.status()).problems.join('\n')).toMatch(/edge@partner.example/),
    SOON,
  );
  expect((await edgeAtH1())?.prefixes ?? []).not.toContain(`${red1.v4('red')}/32`);
});

test('a federation that an admin ended is over, though the registry goes on with it', async () => {
  await home.stopRegistry();
  // The signer is told first; the registry cannot be.
  const { code, stderr } = await home.command('federation', 'revoke', PARTNER, '--admin', home.adminFile);
  expect(code).not.toBe(0);
  expect(stderr).toMatch(
    /the signer has ended the federation .* the registry was not told: no registry answers/,
  );
  await home.startRegistry();
  await vi.waitFor(async () => expect(await edgeAtH1()).toBeUndefined(), SOON);
  await vi.waitFor(
    async () => expect((await h1.status()).problems.join('\n')).toMatch(/does not vouch for partner.example/),
    SOON,
  );
  expect((await ping(red1.host, address, { count: 2, wait: 2 })).received).toBe(0);
  expect(
    (await home.adminJson<{ trustDomain: string }[]>('federation', 'list')).map((one) => one.trustDomain),
  ).toEqual([PARTNER]);
});
