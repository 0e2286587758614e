// What lies on disk between two lives: the agent's state, the registry's store, identities. Damaged, cut off, or
// written by somebody else, it is refused with a sentence and never taken for something else.

import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { DocumentKind } from '../../../native-free/reconcile/document-store.ts';
import * as documents from '../../../native-free/reconcile/documents.ts';
import { SavedNetwork } from '../../../native-free/reconcile/saved-network.ts';
import { AgentState } from '../../../src/agent/state.ts';
import { createAdminCredential } from '../../../src/identity/admin-credential.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { createIdentity, type Identity } from '../../../src/identity/identity.ts';
import {
  loadNodeIdentity,
  readAdminCredential,
  storeNodeIdentity,
  writeIdentity,
} from '../../../src/identity/identity-file.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { SqliteStore } from '../../../src/registry/sqlite-store.ts';
import type { Source } from '../source.ts';
import { accepted, acceptedLater, must, mustEqual, type OpenTarget, type Target } from '../target.ts';

abstract class OnDisk implements OpenTarget {
  readonly directory = mkdtempSync(join(tmpdir(), 'vl3t-fuzz-'));

  abstract run(source: Source): void | Promise<void>;

  /** An empty directory below. */
  fresh(): string {
    const path = join(this.directory, 'life');
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path, { mode: 0o700 });
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Few changes, where a database keeps what decides, or anywhere; or the end is missing. */
const damaged = (source: Source, file: Uint8Array): Uint8Array => {
  const out = file.slice();
  for (let n = source.between(0, 4); n > 0; n--) {
    const at = source.chance(128) ? source.between(0, 99) : source.between(0, out.length - 1);
    out[at] = source.chance(128) ? source.byte() : (out[at] ?? 0) ^ (1 << source.between(0, 7));
  }
  if (!source.chance(60)) return out;
  return out.slice(0, source.chance(128) ? source.between(0, 200) : source.between(0, out.length));
};

const NETWORK = {
  name: 'red',
  uid: 'u',
  poolV4: '10.60.0.0/16',
  poolV6: '',
  excludedPrefixes: ['10.60.0.0/24'],
  mtu: 0,
  nodePrefixLengthV4: 24,
  nodePrefixLengthV6: 0,
  createdAt: 1,
  leases: [{ prefix: '10.60.1.0/24', leasedAt: 1 }],
  privateKey: Buffer.alloc(32, 1).toString('base64'),
  timestampMark: '',
  recordSequence: 1,
  emptySince: 0,
  isLeaving: false,
  allocator: undefined,
};
const GOOD: readonly (readonly [kind: string, name: string, value: unknown])[] = [
  ['node', 'self', { name: 'n1', port: 51820 }],
  ['network', 'red', NETWORK],
  ['record', 'red/n2', { record: 'AAAA', signature: 'AAAA', certificateChain: ['AAAA'] }],
  ['peer', 'red/p', { endpoint: { address: '192.0.2.1', port: 1 } }],
];
const KINDS: readonly DocumentKind<unknown>[] = [
  documents.NODE,
  documents.NETWORK,
  documents.RECORD,
  documents.PEER,
  documents.ATTACHMENT,
];
const STATE_REFUSALS = ['internal', 'failed-precondition', 'resource-exhausted'] as const;

class AgentStateTarget extends OnDisk {
  readonly #good: Uint8Array;

  constructor() {
    super();
    const directory = this.fresh();
    new AgentState(directory)[Symbol.dispose]();
    this.#write(
      directory,
      GOOD.map(([kind, name, value]) => [kind, name, JSON.stringify(value)]),
    );
    this.#good = new Uint8Array(readFileSync(join(directory, 'agent.db')));
  }

  #write(directory: string, rows: readonly (readonly string[])[]): void {
    const database = new DatabaseSync(join(directory, 'agent.db'));
    const put = database.prepare('INSERT OR REPLACE INTO document (kind, name, value) VALUES (?, ?, ?)');
    for (const row of rows) put.run(...row);
    database.close();
  }

  run(source: Source): void {
    const directory = this.fresh();
    const path = join(directory, 'agent.db');
    const isFileDamaged = source.chance(128);
    writeFileSync(path, isFileDamaged ? damaged(source, this.#good) : this.#good, { mode: 0o600 });
    if (!isFileDamaged) {
      const rows = Array.from({ length: source.between(1, 3) }, () => {
        const [kind, name, value] = source.pick(GOOD);
        return [source.chance(230) ? kind : 'attachment', name, hostileJson(source, value)];
      });
      this.#write(directory, rows);
    }
    const state = accepted(STATE_REFUSALS, () => new AgentState(directory));
    if (state === undefined) return;
    try {
      for (const kind of KINDS) {
        accepted(STATE_REFUSALS, () => state.list(kind));
        accepted(STATE_REFUSALS, () => state.get(kind, 'red'));
      }
      const saved = accepted(STATE_REFUSALS, () => new SavedNetwork('red', state));
      if (saved !== undefined) {
        const codes = [...STATE_REFUSALS, 'invalid-argument'] as const;
        accepted(codes, () => [saved.pools, saved.prefixes, saved.excluded]);
      }
      const stored = accepted(STATE_REFUSALS, () => {
        state.put(documents.NODE, 'self', { name: 'n1', port: 7 });
        return state.get(documents.NODE, 'self');
      });
      must(stored === undefined || stored.port === 7, 'a write that was taken is not there');
    } finally {
      state[Symbol.dispose]();
    }
  }
}

const hostileJson = (source: Source, value: unknown): string => {
  const text = JSON.stringify(value);
  if (source.chance(100)) return Buffer.from(source.mutated(Buffer.from(text), 3)).toString();
  const copy: Record<string, unknown> = JSON.parse(text);
  const key = source.pick([...Object.keys(copy), '__proto__', 'x']);
  copy[key] = source.pick([null, [], {}, '', 'x', source.number(), source.text(30), [null], [{}], { a: 1 }]);
  return JSON.stringify(copy);
};

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const STORE_REFUSALS = ['internal', 'failed-precondition', 'unavailable'] as const;

class StoreTarget extends OnDisk {
  #good = new Uint8Array(0);

  static async open(): Promise<StoreTarget> {
    const target = new StoreTarget();
    const path = join(target.fresh(), 'store.db');
    const store = new SqliteStore({ path, now: () => 0 });
    for (let i = 0; i < 60; i++)
      await store.transact([], [{ kind: 'put', key: `/nodes/n${i}`, value: bytesOf('x'.repeat(i * 9)) }]);
    const lease = await store.grantLease(60_000);
    await store.transact([], [{ kind: 'put', key: '/liveness/n1', value: bytesOf('1'), lease }]);
    await store[Symbol.asyncDispose]();
    target.#good = new Uint8Array(readFileSync(path));
    return target;
  }

  async run(source: Source): Promise<void> {
    const path = join(this.fresh(), 'store.db');
    writeFileSync(path, damaged(source, this.#good), { mode: 0o600 });
    const store = accepted(STORE_REFUSALS, () => new SqliteStore({ path, now: () => 0 }));
    if (store === undefined) return;
    try {
      const all = await acceptedLater(STORE_REFUSALS, () => store.read([{ prefix: '/' }]));
      for (const entry of all?.entries ?? [])
        must(entry.value instanceof Uint8Array && entry.modRevision >= 0, 'an entry that is none');
      const written = await acceptedLater(STORE_REFUSALS, () =>
        store.transact([], [{ kind: 'put', key: '/nodes/new', value: bytesOf('v') }]),
      );
      if (written?.succeeded !== true) return;
      const read = await acceptedLater(STORE_REFUSALS, () => store.read([{ key: '/nodes/new' }]));
      if (read !== undefined)
        mustEqual(
          read.entries.map(({ value }) => value),
          [bytesOf('v')],
          'what was acknowledged',
        );
    } finally {
      await acceptedLater(STORE_REFUSALS, async () => await store[Symbol.asyncDispose]());
    }
  }
}

class IdentityTarget extends OnDisk {
  #node = '';
  #admin = '';
  #other = '';

  static async open(): Promise<IdentityTarget> {
    const target = new IdentityTarget();
    const life = target.fresh();
    const ca = await CertificateAuthority.open({
      directory: join(target.directory, 'ca'),
      trustDomain: 'fuzz.example',
    });
    const node = async (name: string): Promise<string> => {
      const privateKey = await generateKey();
      const certificateChain = await ca.signNodeSvid(await createCertificateRequest(privateKey), name);
      const { trustBundle } = ca;
      const parts = {
        kind: 'node',
        name,
        registries: ['192.0.2.1:7443'],
        trustBundle,
        privateKey,
        certificateChain,
      } as const;
      await storeNodeIdentity(life, createIdentity(parts, Date.now()));
      return readFileSync(join(life, 'identity.json'), 'utf8');
    };
    target.#node = await node('n1');
    target.#other = await node('n2');
    await writeIdentity(
      join(life, 'admin.json'),
      await createAdminCredential(ca, 'root', ['192.0.2.1:7443']),
    );
    target.#admin = readFileSync(join(life, 'admin.json'), 'utf8');
    return target;
  }

  async run(source: Source): Promise<void> {
    const life = this.fresh();
    const isNode = source.chance(150);
    const good = isNode ? this.#node : this.#admin;
    const text = source.chance(100)
      ? Buffer.from(source.mutated(Buffer.from(good), 2))
      : Buffer.from(this.#mixed(source, good));
    const path = join(life, isNode ? 'identity.json' : 'admin.json');
    writeFileSync(path, text);
    chmodSync(path, source.chance(240) ? 0o600 : 0o644);
    const codes = ['failed-precondition', 'not-found', 'permission-denied'] as const;
    const read = (): Promise<Identity | undefined> =>
      isNode ? loadNodeIdentity(life) : readAdminCredential(path);
    const identity = await acceptedLater(codes, read);
    if (identity === undefined) return;
    mustEqual(identity.kind, isNode ? 'node' : 'admin', 'the kind');
    must(['n1', 'n2', 'root'].includes(identity.name), () => `nobody is called ${identity.name}`);
    mustEqual(identity.trustBundle.trustDomain, 'fuzz.example', 'the trust domain');
  }

  /** Fields of two identities in one file, or a field of another kind. */
  #mixed(source: Source, good: string): string {
    const one: Record<string, unknown> = JSON.parse(good);
    const other: Record<string, unknown> = JSON.parse(source.pick([this.#node, this.#other, this.#admin]));
    const key = source.pick(Object.keys(one));
    one[key] = source.chance(150) ? other[key] : source.pick([null, '', [], 0, source.text(40)]);
    return JSON.stringify(one);
  }
}

export const savedStateTargets: readonly Target[] = [
  {
    name: 'agent-state',
    about: "an agent's damaged state is refused with a sentence",
    maxLength: 120,
    open: async () => new AgentStateTarget(),
  },
  {
    name: 'store-file',
    about: "a registry's damaged store is refused with a sentence, and what it acknowledges is there",
    maxLength: 60,
    open: () => StoreTarget.open(),
  },
  {
    name: 'identity-file',
    about: 'an identity file names who it is of and holds his key, or is refused',
    maxLength: 60,
    open: () => IdentityTarget.open(),
  },
];
