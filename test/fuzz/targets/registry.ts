// The registry as it runs, over TLS: random calls of all roles with hostile bodies. Whatever is asked, it answers with a
// documented code, never fails itself, and what it holds stays consistent.

import { mkdtemp, rm } from 'node:fs/promises';
import { type ClientHttp2Session, connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type create, type DescMessage, type DescMethod, fromJsonString, toBinary } from '@bufbuild/protobuf';
import pino from 'pino';
import { parsePrefix, prefixCovers, prefixesOverlap } from '../../../native-free/ipam/prefix.ts';
import {
  AdminService,
  CreateTokenResponseSchema,
  GetNetworkResponseSchema,
  ListNetworksResponseSchema,
  ListNodesResponseSchema,
} from '../../../src/api/generated/vl3/v1/admin_pb.js';
import { AdmissionService } from '../../../src/api/generated/vl3/v1/admission_pb.js';
import { AgentService } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { DomainService } from '../../../src/api/generated/vl3/v1/ca_pb.js';
import { CredentialService } from '../../../src/api/generated/vl3/v1/credential_pb.js';
import { EnrollmentService } from '../../../src/api/generated/vl3/v1/enrollment_pb.js';
import { FederationService } from '../../../src/api/generated/vl3/v1/federation_pb.js';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { enroll } from '../../../src/identity/enroll.ts';
import type { Identity } from '../../../src/identity/identity.ts';
import { readAdminCredential } from '../../../src/identity/identity-file.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { signRecord } from '../../../src/identity/record-signer.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import { parseJoinToken } from '../../../src/identity/token.ts';
import { type RunningRegistry, startRegistry } from '../../../src/registry/server.ts';
import type { Source } from '../source.ts';
import { Broken, must, type OpenTarget, type Target } from '../target.ts';
import { NODES, someValues } from './messages.ts';

const REFUSALS = [
  'invalid_argument',
  'not_found',
  'already_exists',
  'failed_precondition',
  'permission_denied',
  'unauthenticated',
  'resource_exhausted',
  'unavailable',
  'aborted',
  // The framework's, of calls that are none of this service.
  'unimplemented',
];
const METHODS: readonly DescMethod[] = [
  AdminService,
  AdmissionService,
  AgentService,
  CredentialService,
  DomainService,
  EnrollmentService,
  FederationService,
].flatMap((service) => service.methods);
const MAX_CALLS = 24;
const CALL_MS = 20_000;

interface Answer {
  readonly status: number;
  readonly body: Uint8Array;
}

class RegistryTarget implements OpenTarget {
  readonly #opened = new AsyncDisposableStack();
  readonly #errors: string[] = [];
  readonly #sessions = new Map<string, ClientHttp2Session>();
  readonly #identities = new Map<string, Identity>();
  #registry: RunningRegistry | undefined;
  #request = new Uint8Array(0);
  #directory = '';

  static async open(): Promise<RegistryTarget> {
    const target = new RegistryTarget();
    await target.#start();
    return target;
  }

  async #start(): Promise<void> {
    this.#directory = await mkdtemp(join(tmpdir(), 'vl3t-fuzz-'));
    this.#opened.defer(() => rm(this.#directory, { recursive: true, force: true }));
    const stateDirectory = join(this.#directory, 'registry');
    const logger = pino({ level: 'error' }, { write: (line: string) => this.#errors.push(line) });
    const listen = { host: '127.0.0.1', port: 0 };
    this.#registry = this.#opened.use(
      await startRegistry({ stateDirectory, trustDomain: 'fuzz.example', listen }, { logger }),
    );
    const admin = await readAdminCredential(this.#registry.adminFile);
    this.#connect('admin', admin, admin);
    this.#connect('anonymous', admin, undefined);
    this.#opened.defer(() => {
      for (const session of this.#sessions.values()) session.destroy();
    });
    this.#request = new Uint8Array(await createCertificateRequest(await generateKey()));
    await this.#reset();
  }

  get #admin(): Identity {
    const admin = this.#identities.get('admin');
    must(admin !== undefined, 'there is no admin');
    return admin;
  }

  #connect(name: string, { trustBundle }: Identity, credential: Identity | undefined): void {
    this.#sessions.get(name)?.destroy();
    const session = connect(
      `https://127.0.0.1:${this.#registry?.port}`,
      clientTlsOptions(trustBundle, credential),
    );
    session.on('error', () => undefined);
    session.unref();
    this.#sessions.set(name, session);
    if (credential !== undefined) this.#identities.set(name, credential);
  }

  /** No networks, and all nodes enrolled. */
  async #reset(): Promise<void> {
    // A node that says it saw a higher revision makes the registry recover, and issue nothing.
    await this.#call('admin', 'AdminService/SettleRegistry', json({}), 'application/json');
    const { networks } = await this.#ask(ListNetworksResponseSchema, 'AdminService/ListNetworks', {});
    for (const { name } of networks) {
      for (const node of NODES)
        await this.#call(node, 'AgentService/LeaveNetwork', json({ network: name }), 'application/json');
      const { leases } = await this.#ask(GetNetworkResponseSchema, 'AdminService/GetNetwork', { name });
      // Who is deleted leaves too.
      for (const { node } of leases)
        await this.#call('admin', 'AdminService/DeleteNode', json({ name: node }), 'application/json');
      await this.#call('admin', 'AdminService/DeleteNetwork', json({ name }), 'application/json');
    }
    const { nodes } = await this.#ask(ListNodesResponseSchema, 'AdminService/ListNodes', {});
    for (const name of NODES) {
      if (this.#sessions.has(name) && nodes.some((node) => node.name === name)) continue;
      const { joinToken } = await this.#ask(CreateTokenResponseSchema, 'AdminService/CreateToken', {});
      const directory = await mkdtemp(join(this.#directory, 'node-'));
      const identity = await enroll({ token: parseJoinToken(joinToken), node: name, directory });
      this.#connect(name, identity, identity);
    }
  }

  async run(source: Source): Promise<void> {
    this.#errors.length = 0;
    // Most histories begin with something to be on.
    if (source.chance(220))
      await this.#ask(undefined, 'AdminService/CreateNetwork', {
        network: { name: 'red', poolV4: '10.60.0.0/16', poolV6: 'fd00:60::/48' },
      });
    try {
      for (let n = 0; n < MAX_CALLS && !source.isEmpty; n++) await this.#someCall(source);
      await this.#check();
    } finally {
      await this.#reset();
    }
  }

  async #someCall(source: Source): Promise<void> {
    const method = source.pick(METHODS);
    const path = `${method.parent.typeName.replace('vl3.v1.', '')}/${method.name}`;
    const isAdmins = method.parent.typeName === AdminService.typeName;
    const who = source.chance(225)
      ? isAdmins
        ? 'admin'
        : source.pick(NODES)
      : source.pick(['admin', 'anonymous', ...NODES]);
    const text = await this.#someMessage(source, method, who);
    const isStream = method.methodKind !== 'unary';
    let body: Uint8Array = new TextEncoder().encode(text);
    let type = 'json';
    if (source.chance(150)) {
      const binary = tryBinary(method.input, text);
      if (binary !== undefined) {
        body = binary;
        type = 'proto';
      }
    }
    if (source.chance(70)) body = source.mutated(body, 3);
    if (isStream) body = envelope(body);
    if (source.chance(8)) body = source.mutated(body, 2);
    const kind = source.chance(6)
      ? source.pick(['grpc+proto', 'grpc-web+json', 'connect+json', 'json', 'x'])
      : `${isStream ? 'connect+' : ''}${type}`;
    const answer = await this.#call(who, path, body, `application/${kind}`);
    this.#judge(path, answer);
  }

  async #someMessage(source: Source, method: DescMethod, who: string): Promise<string> {
    const identity = this.#identities.get(who);
    if (method.name === 'PutRecord' && identity?.kind === 'node' && source.chance(200))
      return await this.#someRecord(source, identity);
    const value = someValues(source, method.input, 0, this.#request);
    return source.chance(10) ? source.text(80) : JSON.stringify(value);
  }

  async #someRecord(source: Source, identity: Identity): Promise<string> {
    const { networks } = await this.#ask(ListNetworksResponseSchema, 'AdminService/ListNetworks', {});
    const network = networks[0];
    const signed = signRecord(identity, {
      network: network?.name ?? 'red',
      networkUid: network?.uid ?? 'u',
      publicKey: Buffer.alloc(32, source.byte()).toString('base64'),
      prefixes: source.chance(128)
        ? [{ prefix: source.pick(['10.60.1.0/24', '10.60.0.0/24', '10.60.2.0/24']), leasedAt: source.u16() }]
        : [],
      endpoints: [],
      sequence: source.pick([1, 2, 3, 1000, Date.now(), Number.MAX_SAFE_INTEGER]),
    });
    const base64 = (bytes: Uint8Array): string =>
      Buffer.from(source.chance(30) ? source.mutated(bytes, 1) : bytes).toString('base64');
    return JSON.stringify({
      network: network?.name ?? 'red',
      record: {
        record: base64(signed.record),
        signature: base64(signed.signature),
        certificateChain: signed.certificateChain.map(base64),
      },
    });
  }

  /** The registry must not fail, and must say what is wrong with the call. */
  #judge(path: string, { status, body }: Answer): void {
    if (this.#errors.length > 0) throw new Broken(`${path} failed: ${this.#errors.join('\n')}`);
    const text = Buffer.from(body).toString();
    if (status === 200 && !text.includes('"error"')) return;
    if (status === 404 || status === 405 || status === 415) return;
    const start = text.indexOf('{');
    const parsed: unknown = start < 0 ? {} : JSON.parse(text.slice(start));
    const error = status === 200 ? field(parsed, 'error') : parsed;
    const code = String(field(error, 'code'));
    const message = String(field(error, 'message'));
    // Words of a stream's last message may hold the word without being one.
    if (status === 200 && code === 'undefined') return;
    // The framework calls a body that is no protobuf of the kind an internal error.
    if (code === 'internal' && /^parse (binary|JSON)/i.test(message)) return;
    must(REFUSALS.includes(code), () => `${path} answered ${status} ${code}: ${message}`);
    must(message.length > 5, () => `${path} refused with ${code} and no sentence`);
  }

  /** As an admin sees it: no address twice, every lease inside its pool, every value readable. */
  async #check(): Promise<void> {
    const { networks } = await this.#ask(ListNetworksResponseSchema, 'AdminService/ListNetworks', {});
    for (const { name, poolV4, poolV6 } of networks) {
      const { leases } = await this.#ask(GetNetworkResponseSchema, 'AdminService/GetNetwork', { name });
      const prefixes = leases.map(({ prefix }) => parsePrefix(prefix));
      const pools = [poolV4, poolV6].filter((pool) => pool !== '').map(parsePrefix);
      for (const [i, prefix] of prefixes.entries()) {
        must(
          pools.some((pool) => prefixCovers(pool, prefix)),
          'a lease outside its pool',
        );
        must(
          !prefixes.slice(i + 1).some((other) => prefixesOverlap(prefix, other)),
          'a prefix is leased twice',
        );
      }
    }
    for (const method of ['ListNodes', 'ListTokens', 'ListAttachments', 'GetStatus'])
      await this.#ask(undefined, `AdminService/${method}`, {});
  }

  /** A call of the target's own, by the admin, which must be answered. */
  async #ask<Desc extends DescMessage>(
    schema: Desc,
    path: string,
    request: object,
  ): Promise<ReturnType<typeof create<Desc>>>;
  async #ask(schema: undefined, path: string, request: object): Promise<undefined>;
  async #ask<Desc extends DescMessage>(schema: Desc | undefined, path: string, request: object) {
    const { status, body } = await this.#call('admin', path, json(request), 'application/json');
    const text = Buffer.from(body).toString();
    must(status === 200, () => `${path} by the admin: ${status} ${text} ${this.#errors.join('\n')}`);
    return schema === undefined ? undefined : fromJsonString(schema, text, { ignoreUnknownFields: true });
  }

  async #call(who: string, path: string, body: Uint8Array, type: string): Promise<Answer> {
    // A server ends a session of which it has seen many streams given up.
    const identity = this.#identities.get(who);
    if (this.#sessions.get(who)?.closed !== false) this.#connect(who, identity ?? this.#admin, identity);
    const session = this.#sessions.get(who);
    must(session !== undefined, `there is no session of ${who}`);
    const stream = session.request({
      ':method': 'POST',
      ':path': `/vl3.v1.${path}`,
      'content-type': type,
      'connect-protocol-version': '1',
    });
    const chunks: Uint8Array[] = [];
    let status = 0;
    stream.on('response', (headers) => {
      status = Number(headers[':status']);
    });
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const timer = setTimeout(() => {
      stream.close();
      reject(new Broken(`${path} was not answered in ${CALL_MS / 1000} s`));
    }, CALL_MS);
    const done = (): void => {
      clearTimeout(timer);
      resolve({ status, body: Buffer.concat(chunks) });
    };
    stream.on('data', (chunk: Uint8Array) => {
      chunks.push(chunk);
      // A watch goes on for ever: its first message is enough, and its end comes with it if there is one.
      if (path.endsWith('/WatchNetwork')) setTimeout(() => stream.close(), 20);
    });
    stream.on('error', done);
    stream.on('close', done);
    stream.end(body);
    return await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
  }
}

const json = (value: object): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

const field = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null
    ? Object.entries(value).find(([key]) => key === name)?.[1]
    : undefined;

const tryBinary = (schema: DescMessage, text: string): Uint8Array | undefined => {
  try {
    return toBinary(schema, fromJsonString(schema, text));
  } catch {
    return undefined;
  }
};

const envelope = (body: Uint8Array): Uint8Array => {
  const out = new Uint8Array(5 + body.length);
  new DataView(out.buffer).setUint32(1, body.length);
  out.set(body, 5);
  return out;
};

export const registryTarget: Target = {
  name: 'registry',
  about: 'whatever is called by whom, the registry answers with a documented code and stays consistent',
  maxLength: 900,
  open: () => RegistryTarget.open(),
};
