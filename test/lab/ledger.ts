// What one run of the lab made on this machine, written down before it is made, and the only code that removes it.
// A run owns exactly what its ledger lists and the processes that carry its name in their environment; a run whose
// owner is dead (process id and start time, so a reused id is not mistaken for it) is removed by the next one.

import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isRunning, processesMarked, sleepSync, startTime } from './processes.ts';

const ROOT = '/run/vl3-lab';
const NETNS = '/run/netns';
const GRACE_MS = 4000;

/** The environment variable that marks a process, and all it starts, as a run's own. */
export const MARK = 'VL3_LAB';

export type Entry =
  | { kind: 'netns'; name: string }
  /** Namespaces that programs under test make by themselves, told apart by a prefix given to them alone. */
  | { kind: 'netns-prefix'; prefix: string }
  | { kind: 'process'; pid: number; startTime: string }
  | { kind: 'file'; path: string };

interface Owner {
  pid: number;
  startTime: string;
  kept: boolean;
}

export class Ledger {
  readonly name: string;
  readonly #directory: string;

  private constructor(name: string) {
    this.name = name;
    this.#directory = join(ROOT, name);
  }

  /** Opens a new run's ledger under a name nobody else has: `prefix` and five random characters. */
  static create(prefix: string): Ledger {
    mkdirSync(ROOT, { recursive: true, mode: 0o700 });
    for (;;) {
      const ledger = new Ledger(`${prefix}${Math.random().toString(36).slice(2, 7).padEnd(5, '0')}`);
      // Made complete under another name first: a directory without its owner would look like a dead run's.
      const draft = join(ROOT, `.${ledger.name}`);
      mkdirSync(join(draft, 'scratch'), { recursive: true, mode: 0o700 });
      writeFileSync(join(draft, 'journal'), '');
      writeOwner(draft, { pid: process.pid, startTime: startTime(process.pid) ?? '', kept: false });
      try {
        renameSync(draft, ledger.#directory);
        return ledger;
      } catch {
        rmSync(draft, { recursive: true, force: true });
      }
    }
  }

  /** A directory for the run's files; it goes with the run. */
  get scratch(): string {
    return join(this.#directory, 'scratch');
  }

  record(entry: Entry): void {
    appendFileSync(join(this.#directory, 'journal'), `${JSON.stringify(entry)}\n`);
  }

  /** Leaves everything running after this process: only `remove` or `removeKept` takes it down. */
  keep(): void {
    writeOwner(this.#directory, { pid: process.pid, startTime: startTime(process.pid) ?? '', kept: true });
  }

  /** Ends the run's processes and removes all it made. Blocks, so that it also works while the process exits. */
  remove(): void {
    removeRun(this.name);
  }
}

/** Removes what dead runs left behind. Running ones and kept ones are not touched. */
export function removeDeadRuns(): string[] {
  return removeWhere((owner) => !owner.kept && startTime(owner.pid) !== owner.startTime);
}

/** Removes the runs left running on purpose whose names start with `prefix`. */
export function removeKept(prefix: string): string[] {
  return removeWhere((owner, name) => owner.kept && name.startsWith(prefix));
}

function removeWhere(matches: (owner: Owner, name: string) => boolean): string[] {
  const removed = [];
  for (const name of list(ROOT)) {
    if (name.startsWith('.')) continue;
    const owner = readOwner(join(ROOT, name));
    if (owner === undefined || !matches(owner, name)) continue;
    removeRun(name);
    removed.push(name);
  }
  return removed;
}

function removeRun(name: string): void {
  const directory = join(ROOT, name);
  const entries = readJournal(directory);
  endProcesses(name, entries);
  removeNamespaces(entries);
  for (const entry of entries) if (entry.kind === 'file') rmSync(entry.path, { force: true });
  rmSync(directory, { recursive: true, force: true });
}

/** Asks the recorded processes to end, last started first, then kills what still carries the run's mark. */
function endProcesses(name: string, entries: Entry[]): void {
  const recorded = entries.filter((entry) => entry.kind === 'process').reverse();
  const alive = () => recorded.filter((entry) => isRunning(entry.pid, entry.startTime));
  for (const entry of alive()) signal(entry.pid, 'SIGTERM');
  for (let waited = 0; waited < GRACE_MS && alive().length > 0; waited += 10) sleepSync(10);

  const marked = () => processesMarked(`${MARK}=${name}`).filter((pid) => pid !== process.pid);
  for (let waited = 0; waited < GRACE_MS; waited += 10) {
    const pids = [...alive().map((entry) => entry.pid), ...marked()];
    if (pids.length === 0) return;
    for (const pid of pids) signal(pid, 'SIGKILL');
    sleepSync(10);
  }
}

function removeNamespaces(entries: Entry[]): void {
  const existing = new Set(list(NETNS));
  const doomed = new Set<string>();
  for (const entry of entries) {
    if (entry.kind === 'netns' && existing.has(entry.name)) doomed.add(entry.name);
    if (entry.kind !== 'netns-prefix') continue;
    for (const name of existing) if (name.startsWith(entry.prefix)) doomed.add(name);
  }
  if (doomed.size === 0) return;
  const batch = [...doomed].map((name) => `netns delete ${name}\n`).join('');
  const result = spawnSync('ip', ['-force', '-batch', '-'], { input: batch, encoding: 'utf8' });
  const left = list(NETNS).filter((name) => doomed.has(name));
  if (left.length > 0) throw new Error(`cannot remove the namespaces ${left.join(', ')}: ${result.stderr}`);
}

function readJournal(directory: string): Entry[] {
  // The last line may be cut short by a kill; what it announced was not made yet.
  const lines = readFile(join(directory, 'journal')).split('\n');
  lines.pop();
  return lines.map((line): Entry => JSON.parse(line));
}

function readOwner(directory: string): Owner | undefined {
  const text = readFile(join(directory, 'owner'));
  return text === '' ? undefined : JSON.parse(text);
}

function writeOwner(directory: string, owner: Owner): void {
  const path = join(directory, 'owner');
  writeFileSync(`${path}.new`, JSON.stringify(owner));
  renameSync(`${path}.new`, path);
}

function readFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended in the meantime.
  }
}
