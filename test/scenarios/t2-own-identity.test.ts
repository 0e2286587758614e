// T2 with SVIDs that somebody else issues, as a SPIRE deployment does: the registry and one node live by a Workload API,
// another node by files. Identities and CAs rotate under traffic; who loses its entry is out when its SVID ends.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';
import { SpiffeAuthority, writeSvidFiles } from '../lab/spiffe-authority.ts';
import { answerOf, WorkloadApiServer } from '../lab/workload-api.ts';

const MINUTE = 60_000;
const scratch = mkdtempSync(join(tmpdir(), 'vl3t-own-'));
const files = join(scratch, 'files');

let authority: SpiffeAuthority;
let ofRegistry: WorkloadApiServer;
let ofNode: WorkloadApiServer;
let domain: Domain;
/** By a Workload API. */
let asking: Node;
/** By files. */
let reading: Node;
let client: Pod;
let web: Pod;

/** Everybody's SVIDs anew; how long they last tells one round from another. */
const issue = async (lastsMs: number): Promise<void> => {
  const of = (path: string) => authority.issue(path, { lastsMs });
  ofRegistry.publish(
    answerOf({
      registry: await of('/registry'),
      admission: await of('/admission'),
      admin: await of('/admin/alice'),
    }),
  );
  ofNode.publish(answerOf({ node: await of('/node/asking') }));
  writeSvidFiles(files, await of('/node/reading'));
};

const serve = async (name: string): Promise<WorkloadApiServer> => {
  const server = new WorkloadApiServer(join(scratch, name));
  await server.start();
  return server;
};

/** Resolves once both nodes, and the registry, live by SVIDs that end so long after now, or later. */
const taken = async (lastsMs: number): Promise<void> => {
  await vi.waitFor(async () => {
    for (const node of [asking, reading]) {
      const { svidNotAfter, problems } = await node.status();
      expect(svidNotAfter).toBeGreaterThan(Date.now() + lastsMs - 2 * MINUTE);
      expect(problems).toEqual([]);
    }
  }, SOON);
};

beforeAll(async () => {
  authority = await SpiffeAuthority.create();
  [ofRegistry, ofNode] = await Promise.all([serve('registry.sock'), serve('node.sock')]);
  await issue(20 * MINUTE);
  const byIdentity = (...args: string[]): string[] =>
    args[0] === 'registry' && args[1] === 'run'
      ? vl3(...args, '--identity', ofRegistry.endpoint)
      : vl3(...args);
  domain = await Domain.start(() => byIdentity);
  // A store that is empty may have been lost: an admin says that this domain is new.
  await domain.admin('registry', 'settle');
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  const registry = ['--registry', domain.registryAddress];
  asking = await domain.addNode('asking', {
    networks: ['red'],
    options: ['--identity', ofNode.endpoint, ...registry],
  });
  reading = await domain.addNode('reading', {
    networks: ['red'],
    options: ['--identity', files, '--trust-domain', 'test.example', ...registry],
  });
  await Promise.all([asking.start(), reading.start()]);
  client = await asking.pod('client', 'red');
  web = await reading.pod('web', 'red');
  await domain.meet('red');
}, 180_000);

afterAll(async () => {
  await domain?.close();
  await Promise.all([ofRegistry?.stop(), ofNode?.stop()]);
  rmSync(scratch, { recursive: true, force: true });
});

test('nodes are enrolled by their SVIDs alone, and say where they have them from', async () => {
  expect(await client.reaches(web.v4('red'))).toBe(true);
  const nodes = await domain.admin('node', 'list');
  expect(nodes).toMatch(/asking/);
  expect(nodes).toMatch(/reading/);
  const { stdout } = await asking.tryVl3('status');
  expect(stdout).toMatch(/identity from the Workload API at unix:\/\/\S+node\.sock, good until 20/);
  // Records last as long as SVIDs, and not as leases do.
  expect(stdout).toMatch(
    /registry may be gone for another 1\d min \d+ s; then other nodes believe this one no more/,
  );
  expect((await reading.tryVl3('status')).stdout).toMatch(
    /identity from the SVID in \S+files, good until 20/,
  );
  expect(await domain.admin('registry', 'status')).toMatch(
    /SVIDs are of another issuer.*\nspiffe:\/\/test\.example\/registry from the Workload API at \S+, good until 20.*\nspiffe:\/\/test\.example\/admission from/,
  );
  const refused = await domain.tryAdmin(['token', 'create']);
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/this domain has no join tokens.*--identity/);
});

test('SVIDs and CAs rotate twice under ping, and nothing is lost', async () => {
  const pings = client.host.start(['ping', '-n', '-i', '0.1', '-W', '5', web.v4('red')]);
  await pings.printed(/icmp_seq=1 /, SOON.timeout);
  // The keys alone, then the next CA is made known, signs, and the first one goes.
  await issue(30 * MINUTE);
  await taken(30 * MINUTE);
  await authority.prepare();
  await issue(40 * MINUTE);
  await taken(40 * MINUTE);
  authority.retire();
  await issue(50 * MINUTE);
  await taken(50 * MINUTE);
  await pings.printed(/icmp_seq=50 /, SOON.timeout);
  await pings.stop('SIGINT');
  const [, sent = '', received] = /(\d+) packets transmitted, (\d+) received/.exec(pings.output()) ?? [];
  // The last one may have been under way.
  expect(Number(received)).toBeGreaterThanOrEqual(Number(sent) - 1);
  expect(await client.reaches(web.v4('red'))).toBe(true);
}, 180_000);

test('an agent starts from what it kept while nobody issues anything', async () => {
  await ofNode.stop();
  await asking.agent.stop('SIGKILL');
  await asking.start();
  await vi.waitFor(async () => expect(await client.reaches(web.v4('red'))).toBe(true), SOON);
  await vi.waitFor(
    async () =>
      expect((await asking.status()).problems.join()).toMatch(
        /the Workload API at unix:\/\/\S+ cannot be used: nobody listens there .*does the SPIFFE agent run\?/,
      ),
    SOON,
  );
  await ofNode.start();
  await taken(50 * MINUTE);
}, 120_000);

test('half a set of files, and one of another domain, change nothing', async () => {
  const other = await SpiffeAuthority.create('other.example');
  const before = (await reading.status()).svidNotAfter;
  writeSvidFiles(files, await other.issue('/node/reading'));
  await vi.waitFor(
    async () =>
      expect((await reading.status()).problems.join()).toMatch(
        /the SVID in \S+ cannot be used: there is spiffe:\/\/other\.example\/node\/reading, but not spiffe:\/\/test\.example\/node\/reading/,
      ),
    SOON,
  );
  expect((await reading.status()).svidNotAfter).toBe(before);
  expect(await client.reaches(web.v4('red'))).toBe(true);
  await issue(60 * MINUTE);
  await taken(60 * MINUTE);
}, 120_000);

test('a node that an admin deleted stays out, though its SVID holds, until it is let in again', async () => {
  await domain.admin('node', 'delete', 'asking');
  await vi.waitFor(
    async () => expect((await asking.status()).problems.join()).toMatch(/was deleted at the registry/),
    SOON,
  );
  await issue(70 * MINUTE);
  await vi.waitFor(async () => expect(await reading.peer('red', asking)).toBeUndefined(), SOON);
  expect((await asking.status()).registry.refusesThisNode).toBe(true);
  await domain.admin('node', 'readmit', 'asking');
  await vi.waitFor(async () => expect((await asking.status()).registry.connected).toBe(true), SOON);
  client = await asking.pod('again', 'red');
  await domain.meet('red');
  await vi.waitFor(async () => expect(await client.reaches(web.v4('red'))).toBe(true), SOON);
}, 120_000);

test('a node whose entry was taken away is out when its SVID ends, and only it', async () => {
  ofNode.publish(answerOf({ node: await authority.issue('/node/asking', { lastsMs: 20_000 }) }));
  await vi.waitFor(
    async () => expect((await asking.status()).svidNotAfter).toBeLessThan(Date.now() + 30_000),
    SOON,
  );
  await vi.waitFor(async () => {
    const peer = await reading.peer('red', asking);
    expect(peer?.problem).toBe('');
    expect(await client.reaches(web.v4('red'))).toBe(true);
  }, SOON);
  ofNode.publish(undefined);
  await ofNode.stop();
  await ofNode.start();
  await vi.waitFor(
    async () => {
      expect(await reading.peer('red', asking)).toBeUndefined();
      expect((await ping(client.host, web.v4('red'))).received).toBe(0);
      const { problems } = await asking.status();
      expect(problems.join()).toMatch(
        /the SVID of this node has expired: it goes on as soon as the Workload API at .*has no identity for this program/,
      );
    },
    { timeout: 90_000, interval: 500 },
  );
  expect((await reading.status()).registry.connected).toBe(true);
  await issue(80 * MINUTE);
  await vi.waitFor(async () => expect(await client.reaches(web.v4('red'))).toBe(true), { timeout: 90_000 });
}, 240_000);
