// One registry under many watching agents with mutual TLS: how soon all hear of a change, what a watcher weighs, and what
// happens when all come at once: to join, and after a restart. Clients share the machine, so the registry's CPU seconds
// say more than the clock does. NODES (500) and CHANGES (60) may be set.

import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { enroll } from '../../src/identity/enroll.ts';
import { parseJoinToken } from '../../src/identity/token.ts';
import { connectAdmin } from '../../src/registry/client.ts';
import { quantile } from '../lab/spread.ts';
import { FleetNode } from './scale-fleet.ts';
import { RegistryProcess } from './scale-process.ts';

const NETWORK = 'red';
const ENROL_AT_ONCE = 8;
const CHANGE_EVERY_MS = 250;

const round = (value: number, digits = 0): number => Number(value.toFixed(digits));
const spread = (values: readonly number[]) => ({
  p50: round(quantile(values, 0.5)),
  p99: round(quantile(values, 0.99)),
  max: round(Math.max(...values)),
});

class Measurement {
  readonly results: Record<string, unknown> = {};
  readonly #registry: RegistryProcess;

  constructor(registry: RegistryProcess) {
    this.#registry = registry;
  }

  /** Runs a phase and reports its time, the registry's CPU seconds in it, its memory after it, and what it answers. */
  async phase(name: string, run: () => Promise<object>, fromStart = false): Promise<void> {
    const cpuBefore = fromStart ? 0 : this.#registry.cost().cpuSeconds;
    const start = performance.now();
    const found = await run();
    const seconds = round((performance.now() - start) / 1000, 1);
    const { cpuSeconds, rssMegabytes } = this.#registry.cost();
    const cost = {
      registryCpuSeconds: round(cpuSeconds - cpuBefore, 1),
      registryMegabytes: round(rssMegabytes),
    };
    const result = { seconds, ...cost, ...found, load: round(loadavg()[0] ?? 0, 1) };
    this.results[name] = result;
    console.log(`${name}: ${JSON.stringify(result)}`);
  }
}

const enrolFleet = async (
  registry: RegistryProcess,
  directory: string,
  count: number,
  onRetry: (problem: unknown) => void,
): Promise<FleetNode[]> => {
  await using admin = await connectAdmin(registry.adminFile);
  await admin.client.createNetwork({
    network: { name: NETWORK, poolV4: '10.64.0.0/12', poolV6: 'fd00:60::/48' },
  });
  const names = Array.from({ length: count }, (_, i) => `n${i}`);
  const fleet: FleetNode[] = [];
  const worker = async (): Promise<void> => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const { joinToken } = await admin.client.createToken({ node: name });
      const token = parseJoinToken(joinToken);
      const identity = await enroll({ token, node: name, directory: join(directory, 'nodes', name) });
      fleet.push(new FleetNode(identity, NETWORK, { onRetry }));
    }
  };
  await Promise.all(Array.from({ length: ENROL_AT_ONCE }, worker));
  return fleet;
};

const until = async (holds: () => boolean): Promise<void> => {
  const deadline = performance.now() + 300_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error('not within five minutes');
    await sleep(10);
  }
};

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};

const fanOut = async (fleet: readonly FleetNode[], changes: number) => {
  const fromAcknowledged: number[] = [];
  const fromSent: number[] = [];
  const last: number[] = [];
  for (let i = 0; i < changes; i++) {
    const node = fleet[(i * 7) % fleet.length];
    if (node === undefined) break;
    const sent = performance.now();
    const revision = await node.announce();
    const acknowledged = performance.now();
    const seen = await Promise.all(fleet.map((watcher) => watcher.seen(revision)));
    // Some have it before the acknowledgement has come back.
    fromAcknowledged.push(...seen.map((at) => at - acknowledged));
    fromSent.push(...seen.map((at) => at - sent));
    last.push(Math.max(...seen) - sent);
    await sleep(CHANGE_EVERY_MS);
  }
  return {
    changes,
    fromAcknowledged: spread(fromAcknowledged),
    fromSent: spread(fromSent),
    lastWatcherFromSent: spread(last),
  };
};

/**
 * Kills the registry under all of them and starts it again; times run from when its port is open. They resume where they
 * stood, as agents do that kept running, or take the snapshot, as agents do that were restarted too.
 */
const restart = async (registry: RegistryProcess, fleet: readonly FleetNode[], fromSnapshot: boolean) => {
  await registry.stop('SIGKILL');
  for (const node of fleet) {
    node.countAnew();
    if (fromSnapshot) node.position = undefined;
  }
  const down = performance.now();
  await registry.start();
  const up = performance.now();
  const beaten = Promise.all(fleet.map((node) => timed(() => node.beat())));
  const watching = Promise.all(
    fleet.map(async (node) => {
      await until(() => (fromSnapshot ? node.snapshots > 0 : node.steps > 0));
      return performance.now() - up;
    }),
  );
  const [beats, watches] = await Promise.all([beaten, watching]);
  return {
    startMilliseconds: round(up - down),
    watchAgain: spread(watches),
    heartbeatAcknowledged: spread(beats),
    snapshots: fleet.filter(({ snapshots }) => snapshots > 0).length,
  };
};

/** Prints a line a phase, and all of them as JSON on the last line. */
export const benchScale = async (nodes: number, changes: number): Promise<void> => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3t-scale-'));
  await using cleanUp = new AsyncDisposableStack();
  cleanUp.defer(() => rmSync(directory, { recursive: true, force: true }));
  const registry = cleanUp.use(await RegistryProcess.start(directory));
  const measurement = new Measurement(registry);
  const problems = new Map<string, number>();
  const onRetry = (problem: unknown): void => {
    const text = String(problem).replace(/\d+\.\d+\.\d+\.\d+:\d+/g, 'REGISTRY');
    problems.set(text, (problems.get(text) ?? 0) + 1);
  };
  let fleet: FleetNode[] = [];
  await measurement.phase('enrol', async () => {
    fleet = await enrolFleet(registry, directory, nodes, onRetry);
    for (const node of fleet) cleanUp.use(node);
    return { nodes };
  });
  const before = registry.cost().rssMegabytes;
  await measurement.phase('join storm', async () => {
    const joined = await Promise.all(
      fleet.map((node) =>
        timed(async () => {
          await node.beat();
          await node.join();
          node.live();
          await node.announce();
        }),
      ),
    );
    await until(() => fleet.every(({ known }) => known.size === nodes));
    return { joined: spread(joined) };
  });
  await measurement.phase('rest', async () => {
    await sleep(15_000);
    const kilobytes = ((registry.cost().rssMegabytes - before) * 1024) / nodes;
    return { kilobytesPerWatcher: round(kilobytes) };
  });
  await measurement.phase('fan-out', () => fanOut(fleet, changes));
  await measurement.phase('restart, resumed', () => restart(registry, fleet, false), true);
  await sleep(5000);
  await measurement.phase('restart, from snapshots', () => restart(registry, fleet, true), true);
  console.log(`retried: ${JSON.stringify(Object.fromEntries(problems))}`);
  console.log(JSON.stringify(measurement.results));
};
