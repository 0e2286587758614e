// What a registry tells of itself: metrics, whether it works (health), and whether its store takes a write and its port
// is open (readiness). Names and labels are in the README.

import { statSync } from 'node:fs';
import { clockOf } from '../../native-free/registry/clock-rules.ts';
import { all, below } from '../../native-free/registry/keys.ts';
import { phaseOf } from '../../native-free/registry/lease-phase.ts';
import { RECOVERY_READS, recoveryProgress } from '../../native-free/registry/recovery-rules.ts';
import type { State } from '../../native-free/registry/state.ts';
import type { RegistryContext } from '../registry/context.ts';
import type { ObservedRegistry } from '../registry/server.ts';
import { EventLoop } from './event-loop.ts';
import { addFederations } from './federation-metrics.ts';
import { fresh } from './fresh.ts';
import { Instruments, type Sample } from './instruments.ts';
import type { Observed } from './listener.ts';

const LAG_LIMIT_SECONDS = 5;
/** Its lease is given back at once; should the process die in between, it ends by itself. */
const PROBE_LEASE_MS = 10_000;
const TRANSACTION_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];

export const observeRegistry = (registry: ObservedRegistry): Observed => {
  const eventLoop = new EventLoop();
  const instruments = new Instruments(eventLoop);
  addStore(instruments, registry);
  addDomain(instruments, registry);
  addFederations(instruments, registry.context);
  addSigner(instruments, registry.context);
  return {
    metrics: () => instruments.text(),
    health: async () => {
      const { maxSeconds } = eventLoop.lag;
      return maxSeconds < LAG_LIMIT_SECONDS ? [] : [`the event loop was ${maxSeconds.toFixed(1)} s late`];
    },
    readiness: fresh(() => readinessOf(registry)),
    [Symbol.dispose]: () => eventLoop[Symbol.dispose](),
  };
};

const readinessOf = async ({ context, port }: ObservedRegistry): Promise<string[]> => {
  const problems = port() > 0 ? [] : ['the port is not open'];
  try {
    // A write that is durable once it resolves, and that no watcher sees.
    await context.store.revokeLease(await context.store.grantLease(PROBE_LEASE_MS));
  } catch (error) {
    problems.push(`the store cannot be written: ${error instanceof Error ? error.message : String(error)}`);
  }
  return problems;
};

const addStore = (instruments: Instruments, { context, transactor, storeFile }: ObservedRegistry): void => {
  const { feed, counters } = context;
  instruments.gauge('vl3_registry_revision', "The store's revision that watchers are told.", [], () => [
    [{}, feed.view.revision],
  ]);
  instruments.gauge('vl3_registry_watchers', 'Open watches of networks.', [], () => [
    [{}, counters.watchers],
  ]);
  instruments.counter(
    'vl3_registry_transactions_total',
    'Transactions: done, refused by a rule, or failed in the store.',
    ['result'],
    () => Object.entries(transactor.counts).map(([result, count]): Sample => [{ result }, count]),
  );
  transactor.onDone = instruments.durations(
    'vl3_registry_transaction_duration_seconds',
    'From the first read of a transaction until its write is on disk (fsync).',
    TRANSACTION_BUCKETS,
  );
  instruments.gauge(
    'vl3_registry_store_bytes',
    'Size of the store on disk: the database and its log.',
    ['file'],
    () => [
      [{ file: 'database' }, sizeOf(storeFile)],
      [{ file: 'log' }, sizeOf(`${storeFile}-wal`)],
    ],
  );
};

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

const addDomain = (instruments: Instruments, { context, transactor }: ObservedRegistry): void => {
  const state = fresh(() =>
    transactor.read([
      ...RECOVERY_READS,
      ...[below.networks, below.liveness, below.leases(), below.attachments()].map(all),
    ]),
  );
  const gauge = (name: string, help: string, labels: string[], read: (state: State) => Sample[]): void =>
    instruments.gauge(name, help, labels, async () => read(await state()));
  instruments.counter(
    'vl3_registry_enrolments_refused_total',
    'Enrolments refused since the start, by reason.',
    ['reason'],
    () => [...context.counters.refusedEnrolments].map(([reason, count]): Sample => [{ reason }, count]),
  );
  instruments.counter(
    'vl3_registry_announcements_refused_total',
    'Announcements refused since the start, since their node announced too often.',
    [],
    () => [[{}, context.counters.refusedAnnouncements]],
  );
  instruments.counter(
    'vl3_registry_admissions_refused_total',
    'Attachments that no rule admitted, each time that their node asked, since the start, by network.',
    ['network'],
    () => [...context.counters.refusedAdmissions].map(([network, count]): Sample => [{ network }, count]),
  );
  gauge('vl3_registry_networks', 'Networks.', [], (now) => [[{}, now.networks().length]]);
  gauge('vl3_registry_attachments', 'Attachments that nodes have announced.', [], (now) => [
    [{}, now.attachments().length],
  ]);
  gauge(
    'vl3_registry_nodes',
    'Nodes that are enrolled: alive, or silent for longer than their liveness lasts.',
    ['state'],
    (now) => {
      const nodes = now.nodes().filter(({ value }) => value.deletedAt === undefined);
      const alive = nodes.filter(({ value }) => now.liveness(value.name) !== undefined).length;
      return [
        [{ state: 'alive' }, alive],
        [{ state: 'silent' }, nodes.length - alive],
      ];
    },
  );
  gauge(
    'vl3_registry_leases',
    'Prefixes by network: leased, ended (in quarantine, nobody else gets it), or freed (resting).',
    ['network', 'state'],
    (now) => {
      const counts = new Map(
        now.networks().map(({ value }) => [value.name, { leased: 0, ended: 0, freed: 0 }]),
      );
      for (const { value } of now.leases()) {
        const ofNetwork = counts.get(value.network);
        if (ofNetwork !== undefined) ofNetwork[phaseOf(value, clockOf(now))] += 1;
      }
      return [...counts].flatMap(([network, phases]) =>
        Object.entries(phases).map(([phase, count]): Sample => [{ network, state: phase }, count]),
      );
    },
  );
  gauge(
    'vl3_registry_recovery_awaited_nodes',
    'While it recovers: nodes that have not yet said what they hold; no prefix is issued. Absent otherwise.',
    ['reason'],
    (now) => {
      const progress = recoveryProgress(now);
      return progress === undefined ? [] : [[{ reason: progress.recovery.reason }, progress.awaited.length]];
    },
  );
};

/** No series where the registry is the CA. */
const addSigner = (instruments: Instruments, { signer }: RegistryContext): void => {
  instruments.gauge(
    'vl3_registry_signer_connected',
    'With the CA apart: whether it answered last. Absent otherwise.',
    ['signer'],
    // Without a label it would be 0 where there is none.
    () => (signer.isApart ? [[{ signer: 'apart' }, signer.problem === undefined ? 1 : 0]] : []),
  );
  instruments.gauge(
    'vl3_registry_svid_expiry_timestamp_seconds',
    "With SVIDs of another issuer: when the registry's, and that of the admission identity, end, in Unix time.",
    ['identity'],
    () =>
      (signer.given ?? []).map(({ spiffeId, notAfter }): Sample => [{ identity: spiffeId }, notAfter / 1000]),
  );
};
