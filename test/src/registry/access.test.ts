// Every RPC of the schema x every role, and every RPC of a member x a node that is none, over real TLS.

import type { DescMethodStreaming, DescMethodUnary } from '@bufbuild/protobuf';
import { create, type DescMethod, type DescService } from '@bufbuild/protobuf';
import type { Transport } from '@connectrpc/connect';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fromConnectError } from '../../../src/api/errors.ts';
import { AdminService } from '../../../src/api/generated/vl3/v1/admin_pb.js';
import { AdmissionService } from '../../../src/api/generated/vl3/v1/admission_pb.js';
import { AgentService } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { CaService, DomainService } from '../../../src/api/generated/vl3/v1/ca_pb.js';
import { CredentialService } from '../../../src/api/generated/vl3/v1/credential_pb.js';
import { EnrollmentService } from '../../../src/api/generated/vl3/v1/enrollment_pb.js';
import { FederationService } from '../../../src/api/generated/vl3/v1/federation_pb.js';
import { createAdminCredential } from '../../../src/identity/admin-credential.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import type { TrustBundle } from '../../../src/identity/chain.ts';
import { readAdminCredential } from '../../../src/identity/identity-file.ts';
import { signRecord } from '../../../src/identity/record-signer.ts';
import { type Credential, clientTlsOptions, createServerCredential } from '../../../src/identity/tls.ts';
import { ACCESS } from '../../../src/registry/access.ts';
import type { Role } from '../../../src/registry/caller.ts';
import { connectRegistry } from '../../../src/registry/connection.ts';
import { inProcess } from '../../cmd/vl3/in-process.ts';
import {
  red,
  refusal,
  startDomain,
  type TestDomain,
  type TestNode,
  TRUST_DOMAIN,
  temporaryDirectory,
} from './fixture.ts';

const SERVICES: readonly DescService[] = [
  AdminService,
  AdmissionService,
  FederationService,
  CredentialService,
  AgentService,
  EnrollmentService,
  DomainService,
  CaService,
];
const OF_STRANGERS = [
  'EnrollmentService/Enroll',
  'FederationService/Federate',
  'FederationService/ConfirmFederation',
].map((name) => `vl3.v1.${name}`);
/** What is only looked at. */
const OF_READERS = /^vl3\.v1\.(Admin|Admission|Federation|Credential)Service\/(Get|List|Test|Export)/;
const OF_ADMINS = /^vl3\.v1\.(Admin|Admission|Federation|Credential|Ca)Service\//;
/** What a node of a federated domain has no business with. */
const OF_OWN_NODES = ['RenewSvid', 'ListFederations', 'TestifyRecords'].map(
  (name) => `vl3.v1.AgentService/${name}`,
);
const METHODS = SERVICES.flatMap((service) =>
  service.methods.map((method): [string, DescMethod] => [`${service.typeName}/${method.name}`, method]),
);

/** Calls with an empty request; answers the code of the refusal, or "ok". */
const call = async (transport: Transport, method: DescMethod): Promise<string> => {
  const signal = AbortSignal.timeout(10_000);
  try {
    if (method.methodKind === 'unary') {
      const unary: DescMethodUnary = { ...method, methodKind: 'unary' };
      await transport.unary(unary, signal, undefined, undefined, create(method.input));
    } else {
      const streaming: DescMethodStreaming = { ...method, methodKind: 'server_streaming' };
      const input = (async function* () {
        yield create(method.input);
      })();
      const response = await transport.stream(streaming, signal, undefined, undefined, input);
      for await (const _ of response.message) break;
    }
    return 'ok';
  } catch (error) {
    return fromConnectError(error).code;
  }
};

const transportOf = (domain: TestDomain, bundle: TrustBundle, credential?: Credential): Transport => {
  const connection = connectRegistry({
    registries: domain.registry.registries,
    tls: clientTlsOptions(bundle, credential),
  });
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return connection.transport;
};

test('the table names every method of the schema and nothing else', () => {
  expect(Object.keys(ACCESS).sort()).toEqual(METHODS.map(([name]) => name).sort());
});

test('admins administer, nodes act as nodes, strangers show a secret, and nothing else', () => {
  for (const [name] of METHODS) {
    const roles = ACCESS[name]?.roles;
    if (OF_STRANGERS.includes(name)) expect(roles).toEqual(['anonymous', 'node', 'admin']);
    else if (OF_READERS.test(name)) expect([name, roles]).toEqual([name, ['admin', 'operator']]);
    else if (OF_ADMINS.test(name)) expect([name, roles]).toEqual([name, ['admin']]);
    else if (OF_OWN_NODES.includes(name)) expect([name, roles]).toEqual([name, ['node']]);
    else expect([name, roles]).toEqual([name, ['node', 'foreign-node']]);
  }
});

test('each method lets in exactly the roles of the table', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const node = await domain.enrol('n1');
  const adminIdentity = await readAdminCredential(domain.registry.adminFile);
  const bundle = adminIdentity.trustBundle;
  const strangers = await CertificateAuthority.open({
    directory: `${temporaryDirectory()}/ca`,
    trustDomain: TRUST_DOMAIN,
  });
  const stranger = await createAdminCredential(strangers, 'admin', ['127.0.0.1:1']);
  const own = await CertificateAuthority.open({
    directory: `${domain.stateDirectory}/ca`,
    trustDomain: TRUST_DOMAIN,
  });
  const partner = await startDomain({ trustDomain: 'partner.example' });
  const { invitation } = await (await domain.federation()).invitePartner({
    trustDomain: 'partner.example',
    constraints: { networks: ['red'] },
  });
  await (await partner.federation()).acceptInvitation({ invitation });
  const third = await startDomain({ trustDomain: 'third.example' });
  const abroad = await partner.enrol('n1');
  const partnersAdmin = await readAdminCredential(partner.registry.adminFile);
  const operatorFile = `${temporaryDirectory()}/operator.json`;
  const made = await inProcess([
    ...['operator', 'create', 'alice', '--file', operatorFile],
    ...['--admin', domain.registry.adminFile],
  ]);
  expect([made.code, made.err]).toEqual([0, '']);
  const operator = await readAdminCredential(operatorFile);
  const callers: [string, Role, Transport][] = [
    ['operator', 'operator', transportOf(domain, bundle, operator)],
    ["a partner's node", 'foreign-node', transportOf(domain, bundle, abroad.identity)],
    ["a partner's admin", 'anonymous', transportOf(domain, bundle, partnersAdmin)],
    ["a stranger's node", 'anonymous', transportOf(domain, bundle, (await third.enrol('n1')).identity)],
    ['admin', 'admin', transportOf(domain, bundle, adminIdentity)],
    ['node', 'node', transportOf(domain, bundle, node.identity)],
    ['no certificate', 'anonymous', transportOf(domain, bundle)],
    ["another CA's admin", 'anonymous', transportOf(domain, bundle, stranger)],
    [
      "a registry's certificate",
      'anonymous',
      transportOf(domain, bundle, await createServerCredential(own, ['x'])),
    ],
  ];
  const wrong: string[] = [];
  for (const [name, method] of METHODS) {
    for (const [who, role, transport] of callers) {
      const allowed = ACCESS[name]?.roles.includes(role) ?? false;
      const code = await call(transport, method);
      // An empty token is no good to anybody, whatever his role.
      const isBadToken =
        allowed && name === 'vl3.v1.EnrollmentService/Enroll' && code === 'permission-denied';
      // A network that there is not is outside of every federation.
      const isOutside =
        role === 'foreign-node' && allowed && code === 'permission-denied' && /^vl3\.v1\.Agent/.test(name);
      const denied =
        code === 'unauthenticated' || (code === 'permission-denied' && !isBadToken && !isOutside);
      if (denied === allowed) wrong.push(`${name} as ${who}: ${code}`);
      if (denied && code !== (role === 'anonymous' ? 'unauthenticated' : 'permission-denied')) {
        wrong.push(`${name} as ${who}: ${code}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test('a deleted node is refused at every method', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  const node = await domain.enrol('n1');
  const transport = transportOf(domain, node.identity.trustBundle, node.identity);
  await node.client.heartbeat({});
  await admin.deleteNode({ name: 'n1' });
  for (const method of AgentService.methods) {
    expect([method.name, await call(transport, method)]).toEqual([method.name, 'unauthenticated']);
  }
  expect((await admin.listNodes({})).nodes).toEqual([]);
});

describe("a node touches nothing of another's", () => {
  /** For each method of a member: what a node tries that is not on the network, and one that is. */
  const ATTEMPTS: Record<string, (self: TestNode, victim: TestNode, uid: string) => Promise<unknown>[]> = {
    'vl3.v1.AgentService/LeasePrefix': ({ client }) => [
      client.leasePrefix({ network: 'red', family: 4, requestId: 'r' }),
    ],
    'vl3.v1.AgentService/ReleasePrefix': ({ client }) => [
      client.releasePrefix({ network: 'red', prefix: '10.60.0.0/24' }),
    ],
    'vl3.v1.AgentService/PutRecord': ({ client, identity }, victim, uid) => {
      const content = {
        network: 'red',
        networkUid: uid,
        publicKey: Buffer.alloc(32, 7).toString('base64'),
        endpoints: [],
        sequence: 1,
      };
      const prefixes = [{ prefix: '10.60.0.0/24', leasedAt: 0 }];
      const put = (signed: ReturnType<typeof signRecord>) =>
        client.putRecord({
          network: 'red',
          record: { ...signed, certificateChain: [...signed.certificateChain] },
        });
      const own = signRecord(identity, { ...content, prefixes });
      const theirs = signRecord(victim.identity, { ...content, prefixes: [] });
      const forged = { ...own, signature: own.signature.map((byte) => byte ^ 1) };
      return [put(own), put(theirs), put(forged)];
    },
    'vl3.v1.AgentService/PutAttachments': ({ client }) => [
      client.putAttachments({
        network: 'red',
        attachments: [{ id: 'x', addresses: ['10.60.0.9'], interfaceName: 'red' }],
      }),
    ],
    'vl3.v1.AgentService/TestifyRecords': ({ client }) => [client.testifyRecords({ network: 'red' })],
    'vl3.v1.AgentService/WatchNetwork': ({ client }) => [
      (async () => {
        for await (const _ of client.watchNetwork({ network: 'red' })) break;
      })(),
    ],
  };

  test('every method of a member has its attempts', () => {
    const ofMembers = Object.entries(ACCESS).filter(([, { owns }]) => owns === 'membership');
    expect(ofMembers.map(([name]) => name).sort()).toEqual(Object.keys(ATTEMPTS).sort());
  });

  test('neither when it is not on the network, nor when it is', async () => {
    const domain = await startDomain();
    const admin = await domain.admin();
    await admin.createNetwork({ network: red });
    const victim = await domain.enrol('victim');
    const other = await domain.enrol('other');
    const uid = (await victim.client.joinNetwork({ network: 'red' })).network?.uid ?? '';
    const before = await admin.getNetwork({ name: 'red' });
    const outcomes: string[] = [];
    for (const [name, attempts] of Object.entries(ATTEMPTS)) {
      // All are under way: each must have its handler before the first is answered.
      const refusals = await Promise.all(attempts(other, victim, uid).map(refusal));
      outcomes.push(...refusals.map((sentence) => `${name} ${sentence}`));
    }
    expect(outcomes.filter((outcome) => !outcome.includes('permission-denied'))).toEqual([]);
    expect(await admin.getNetwork({ name: 'red' })).toEqual(before);

    await other.client.joinNetwork({ network: 'red' });
    const joined = await admin.getNetwork({ name: 'red' });
    const asMember = ['ReleasePrefix', 'PutRecord', 'PutAttachments'].map(
      (name) => `vl3.v1.AgentService/${name}`,
    );
    for (const name of asMember) {
      const refusals = await Promise.all((ATTEMPTS[name]?.(other, victim, uid) ?? []).map(refusal));
      for (const sentence of refusals) expect(sentence).toMatch(/^permission-denied/);
    }
    expect(await admin.getNetwork({ name: 'red' })).toEqual(joined);
    expect((await admin.listAttachments({})).attachments).toEqual([]);
  });
});
