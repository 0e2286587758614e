// The threads that move packets, two in each pair or one, as one: started together, handed the same configuration, woken, waited for
// and joined. What they share with main besides is shared-state.ts and the mailbox's rings.

import { Vl3Error } from '../../native-free/error.ts';
import { compiledBlockSum } from '../../native-free/wire/block-sum.ts';
import { close, errno, errnoName, eventfd } from '../ffi/libc.ts';
import type { AeadTier } from './aead.ts';
import { quietOn } from './busy-poll.ts';
import {
  type Counts,
  createCounterMemory,
  EGRESS_COUNTERS,
  type EgressCounter,
  INGRESS_COUNTERS,
  type IngressCounter,
  readCounts,
} from './counters.ts';
import { compileEagerly } from './eager-compiler.ts';
import { createHandOver } from './hand-over.ts';
import type { Mailbox } from './mailbox.ts';
import { type Role, type SharedMemory, type SharedState, workerNumber } from './shared-state.ts';
import { socketsOf, type UdpSockets } from './udp.ts';
import { WorkerHandle } from './worker-handle.ts';
import type { Change, WorkerKind, WorkerOptions } from './worker-protocol.ts';

export interface DatapathStats {
  readonly egress: Counts<EgressCounter>;
  readonly ingress: Counts<IngressCounter>;
}

export interface WorkersOptions {
  readonly memory: SharedMemory;
  readonly udp: UdpSockets;
  readonly marksSparse: boolean;
  /** The fastest AEAD tier to try. */
  readonly aeadTier: AeadTier;
  /** One thread for both directions of a pair, instead of two. */
  readonly isDuplex: boolean;
}

export interface WorkersDeps {
  readonly state: SharedState;
  readonly mailbox: Mailbox;
  /** A thread has ended by itself. */
  readonly onFailure: (error: Error) => void;
}

export class Workers {
  readonly #deps: WorkersDeps;
  readonly #counters: { readonly egress: SharedArrayBuffer[]; readonly ingress: SharedArrayBuffer[] };
  readonly #waiting: (() => void)[] = [];
  readonly #wakeFds: number[] = [];
  #handles: readonly WorkerHandle[] = [];
  #aeadTier: AeadTier = 'noble';

  constructor(deps: WorkersDeps) {
    this.#deps = deps;
    const pairs = Array.from({ length: deps.state.pairs });
    this.#counters = {
      egress: pairs.map(() => createCounterMemory(EGRESS_COUNTERS)),
      ingress: pairs.map(() => createCounterMemory(INGRESS_COUNTERS)),
    };
  }

  /** Resolves with all running; what runs when it throws is joined by `close`. */
  async start({ memory, udp, marksSparse, aeadTier, isDuplex }: WorkersOptions): Promise<void> {
    compiledBlockSum();
    const { state, mailbox, onFailure } = this.#deps;
    const onWake = (): void => {
      mailbox.drain();
      this.#settle();
    };
    const handlers = { onWake, onFailure };
    for (let worker = 0; worker < 2 * state.pairs; worker++) this.#wakeFds.push(newEventFd());
    const wakeFd = (role: Role, pair: number): number => this.#wakeFds[workerNumber(role, pair)] ?? -1;
    const pairs = Array.from({ length: state.pairs }, (_, pair) => pair);
    const handOver = createHandOver(pairs.map((pair) => wakeFd('ingress', pair)));
    const { egress, ingress } = this.#counters;
    const optionsOf = (kind: WorkerKind, pair: number): Omit<WorkerOptions, 'port'> => {
      const role = kind === 'egress' ? 'egress' : 'ingress';
      return {
        kind,
        pair,
        memory,
        aeadTier,
        marksSparse,
        quietMs: quietOn(),
        handOver,
        udp: socketsOf(udp, pair),
        wakeFd: wakeFd(role, pair),
        counters: { egress: pick(egress, pair), ingress: pick(ingress, pair) },
        events: pick(role === 'egress' ? mailbox.egressMemories : mailbox.ingressMemories, pair),
        commands: pick(mailbox.commandMemories, pair),
        datagrams: pick(mailbox.datagramMemories, pair),
      };
    };
    const kinds: WorkerKind[] = isDuplex ? ['duplex'] : ['egress', 'ingress'];
    const starting = kinds.flatMap((kind) => pairs.map((pair) => optionsOf(kind, pair)));
    const results = await compileEagerly(() =>
      Promise.allSettled(starting.map((options) => WorkerHandle.start(state, options, handlers))),
    );
    const started = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    this.#handles = started.map(([handle]) => handle);
    for (const [, tier] of started) this.#aeadTier = tier;
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  /** Which implementation seals and opens. */
  get aeadTier(): AeadTier {
    return this.#aeadTier;
  }

  /** Counts since start, of one pair or of all. */
  stats(pair?: number): DatapathStats {
    const { egress, ingress } = this.#counters;
    const of = <T>(all: readonly T[]): readonly T[] => (pair === undefined ? all : [pick(all, pair)]);
    return {
      egress: readCounts(EGRESS_COUNTERS, ...of(egress)),
      ingress: readCounts(INGRESS_COUNTERS, ...of(ingress)),
    };
  }

  /** Hands over a change; returns whether all have taken it over. Throws once they are closed. */
  configure(change: Change): () => boolean {
    const handles = this.#handles;
    if (handles.length === 0) throw new Vl3Error('failed-precondition', 'the datapath is closed');
    const sequences = handles.map((handle) => handle.configure(change));
    return () => handles.every((handle, i) => handle.hasTaken(sequences[i] ?? 0));
  }

  /** Resolves when all have taken over all that was configured so far. */
  async settled(): Promise<void> {
    const handles = this.#handles;
    const latest = handles.map((handle) => handle.sequence);
    await this.until(() => handles.every((handle, i) => handle.hasTaken(latest[i] ?? 0)));
  }

  /** Resolves when it is so; looked at whenever a worker has said something, and at the end. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
  }

  wake(): void {
    for (const handle of this.#handles) handle.wake();
  }

  wakeEgress(): void {
    for (const handle of this.#handles) if (handle.kind !== 'ingress') handle.wake();
  }

  /** Joins all. */
  async close(): Promise<void> {
    this.#deps.state.stop();
    const handles = this.#handles;
    this.#handles = [];
    await Promise.all(handles.map((handle) => handle.close()));
    for (const fd of this.#wakeFds.splice(0)) close(fd);
    this.#settle();
  }

  #settle(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;

const newEventFd = (): number => {
  const fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw new Vl3Error('resource-exhausted', `cannot make an eventfd: ${errnoName(errno())}`);
  return fd;
};

const pick = <T>(all: readonly T[], i: number): T => {
  const one = all[i];
  if (one === undefined) throw new RangeError(`there is no pair ${i} of workers`);
  return one;
};
