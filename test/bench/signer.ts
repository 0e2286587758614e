// What a signer apart costs when nodes join: enrolment, the join of one network and the first grant, with the CA in the
// registry's process and with the CA beside it, alternating. All of it runs in this process, clients included, so that its
// processor time is the sum; and what a peer pays for verifying as many grants.

import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { decodeVerifiedGrant } from '../../native-free/admission/grant.ts';
import { all, below } from '../../native-free/registry/keys.ts';
import { fromBase64 } from '../../src/base64.ts';
import { connectSigner } from '../../src/ca/client.ts';
import { createRegistryCredential, writeRegistryCredential } from '../../src/ca/registry-credential.ts';
import { caDirectory, startSigner } from '../../src/ca/server.ts';
import { createAdminCredential } from '../../src/identity/admin-credential.ts';
import { CertificateAuthority } from '../../src/identity/ca.ts';
import { fingerprint } from '../../src/identity/certificate.ts';
import { enroll } from '../../src/identity/enroll.ts';
import { createGrantVerifier } from '../../src/identity/grant-signer.ts';
import { writeIdentity } from '../../src/identity/identity-file.ts';
import { makePrivateDirectory } from '../../src/identity/private-file.ts';
import { tokenKey } from '../../src/identity/svid-proofs.ts';
import { createTokenSecret, hashSecret, type JoinToken, parseJoinToken } from '../../src/identity/token.ts';
import { connectAdmin, connectAgent } from '../../src/registry/client.ts';
import { type RunningRegistry, startRegistry } from '../../src/registry/server.ts';
import { quantile } from '../lab/spread.ts';
import { unusedPort } from '../lab/unused-port.ts';

const TRUST_DOMAIN = 'bench.example';
const AT_ONCE = 8;

const processorMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

interface World {
  readonly registry: RunningRegistry;
  readonly token: (node: string) => Promise<JoinToken>;
  /** How many grants there have to be in the end. */
  readonly grants: (nodes: number) => number;
}

const inProcess = async (directory: string, opened: AsyncDisposableStack): Promise<World> => {
  const registry = opened.use(
    await startRegistry(
      {
        stateDirectory: join(directory, 'registry'),
        trustDomain: TRUST_DOMAIN,
        listen: { host: '127.0.0.1', port: 0 },
      },
      { logger: pino({ level: 'silent' }) },
    ),
  );
  const { client } = opened.use(await connectAdmin(registry.adminFile));
  await client.createNetwork({ network: { name: 'red', poolV4: '10.0.0.0/8' } });
  return {
    registry,
    token: async (node) => parseJoinToken((await client.createToken({ node })).joinToken),
    grants: () => 0,
  };
};

const apart = async (directory: string, opened: AsyncDisposableStack): Promise<World> => {
  const caState = join(directory, 'ca');
  const stateDirectory = join(directory, 'registry');
  await makePrivateDirectory(caState);
  await makePrivateDirectory(stateDirectory);
  const ca = await CertificateAuthority.open({
    directory: caDirectory(caState),
    trustDomain: TRUST_DOMAIN,
    leases: true,
  });
  const [caPort, port] = [await unusedPort(), await unusedPort()];
  const signers = [`127.0.0.1:${caPort}`];
  const registries = [`127.0.0.1:${port}`];
  const signerFile = join(stateDirectory, 'registry.json');
  await writeRegistryCredential(
    signerFile,
    await createRegistryCredential(ca, { signers, hosts: ['127.0.0.1'] }),
  );
  const adminFile = join(caState, 'admin.json');
  await writeIdentity(adminFile, { ...(await createAdminCredential(ca, 'admin', registries)), signers });
  const logger = pino({ level: 'silent' });
  const listen = { host: '127.0.0.1', port };
  opened.use(
    await startSigner(
      { stateDirectory: caState, trustDomain: TRUST_DOMAIN, listen: { ...listen, port: caPort } },
      { logger },
    ),
  );
  const registry = opened.use(
    await startRegistry({ stateDirectory, trustDomain: TRUST_DOMAIN, listen, signerFile }, { logger }),
  );
  const { client } = opened.use(await connectAdmin(adminFile));
  const signer = await connectSigner(adminFile);
  if (signer === undefined) throw new Error('the credential names no signer');
  opened.use(signer);
  const poolV4 = '10.0.0.0/8';
  const { network } = await client.createNetwork({ network: { name: 'red', poolV4 } });
  await signer.client.registerNetwork({ name: 'red', uid: network?.uid ?? '', pools: [poolV4] });
  const [first = new Uint8Array(0)] = ca.trustBundle.certificates;
  return {
    registry,
    grants: (nodes) => nodes,
    token: async (node) => {
      const secret = createTokenSecret();
      const id = hashSecret(secret);
      const expiresAt = { seconds: BigInt(Math.floor(Date.now() / 1000) + 3600), nanos: 0 };
      await signer.client.registerToken({ id, key: tokenKey(secret), node, expiresAt });
      await client.createToken({ node, secretHash: id });
      const caFingerprint = fingerprint(first);
      return { secret, isProven: true, registries, trustDomain: TRUST_DOMAIN, caFingerprint };
    },
  };
};

const storedGrants = async ({ registry }: World) =>
  (await registry.observed.context.store.read([all(below.grants('red'))])).entries.map(({ value }) =>
    JSON.parse(Buffer.from(value).toString()),
  );

/** Processor time of a join, ms. */
const joins = async (make: typeof apart, nodes: number): Promise<{ join: number; verify: number }> => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3-bench-'));
  try {
    await using opened = new AsyncDisposableStack();
    const world = await make(directory, opened);
    const tokens: [string, JoinToken][] = [];
    for (let i = 0; i < nodes; i++) tokens.push([`n${i}`, await world.token(`n${i}`)]);
    const before = processorMs();
    const next = tokens[Symbol.iterator]();
    const join1 = async (): Promise<void> => {
      for (const [node, token] of next) {
        const identity = await enroll({ token, node, directory: join(directory, node) });
        await using connection = connectAgent(identity);
        await connection.client.joinNetwork({ network: 'red' });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, join1));
    while ((await storedGrants(world)).length < world.grants(nodes))
      await new Promise((resolve) => setTimeout(resolve, 200));
    const spent = (processorMs() - before) / nodes;
    const grants = await storedGrants(world);
    const { signer } = world.registry.observed.context;
    const verify = createGrantVerifier(signer.trustBundle);
    const started = processorMs();
    for (const { grant, signature, certificateChain } of grants) {
      const record = fromBase64(grant);
      const { network, networkUid, node } = JSON.parse(Buffer.from(record).toString());
      const signed = {
        record,
        signature: fromBase64(signature),
        certificateChain: certificateChain.map(fromBase64),
      };
      const expected = { network, networkUid, node, nodeDomain: TRUST_DOMAIN };
      const { kind } = decodeVerifiedGrant(signed, verify, Date.now(), expected);
      if (kind !== 'accepted') throw new Error('a grant does not hold');
    }
    return { join: spent, verify: grants.length === 0 ? 0 : (processorMs() - started) / grants.length };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

export const benchSigner = async (nodes: number, repetitions: number): Promise<void> => {
  const load = () => loadavg()[0]?.toFixed(1);
  console.log(
    `${nodes} nodes join: processor time of all sides, ms a node (median, range of ${repetitions}; load ${load()})\n`,
  );
  const without: number[] = [];
  const withIt: number[] = [];
  const verify: number[] = [];
  for (let i = 0; i < repetitions; i++) {
    without.push((await joins(inProcess, nodes)).join);
    const one = await joins(apart, nodes);
    withIt.push(one.join);
    verify.push(one.verify);
  }
  const row = (name: string, values: readonly number[]): void => {
    const shown = [0.5, 0, 1].map((at) => quantile([...values], at).toFixed(2));
    console.log(`${name.padEnd(56)} ${shown[0]?.padStart(8)}   ${shown[1]} to ${shown[2]}`);
  };
  row("enrol and join, the CA in the registry's process", without);
  row('enrol, join and be granted, the CA apart', withIt);
  row('a peer verifies a grant', verify);
  console.log(`\nload ${load()}`);
};
