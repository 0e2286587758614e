// The two threads that move packets, as one: started together, handed the same configuration, woken, waited for and joined.
// What they share with main besides is shared-state.ts and the mailbox's rings.

import { Vl3Error } from '../../native-free/error.ts';
import type { AeadTier } from './aead.ts';
import {
  type Counts,
  createCounterMemory,
  EGRESS_COUNTERS,
  type EgressCounter,
  INGRESS_COUNTERS,
  type IngressCounter,
  readCounts,
} from './counters.ts';
import type { Mailbox } from './mailbox.ts';
import type { SharedMemory, SharedState } from './shared-state.ts';
import type { UdpSockets } from './udp.ts';
import { WorkerHandle } from './worker-handle.ts';
import type { Change } from './worker-protocol.ts';

export interface DatapathStats {
  readonly egress: Counts<EgressCounter>;
  readonly ingress: Counts<IngressCounter>;
}

export interface WorkersOptions {
  readonly memory: SharedMemory;
  readonly udp: UdpSockets;
  /** The fastest AEAD tier to try. */
  readonly aeadTier: AeadTier;
}

export interface WorkersDeps {
  readonly state: SharedState;
  readonly mailbox: Mailbox;
  /** A thread has ended by itself. */
  readonly onFailure: (error: Error) => void;
}

export class Workers {
  readonly #deps: WorkersDeps;
  readonly #counters = {
    egress: createCounterMemory(EGRESS_COUNTERS),
    ingress: createCounterMemory(INGRESS_COUNTERS),
  };
  readonly #waiting: (() => void)[] = [];
  #egress: WorkerHandle | undefined;
  #ingress: WorkerHandle | undefined;
  #aeadTier: AeadTier = 'noble';

  constructor(deps: WorkersDeps) {
    this.#deps = deps;
  }

  /** Resolves with both running; what runs when it throws is joined by `close`. */
  async start(options: WorkersOptions): Promise<void> {
    const { state, mailbox, onFailure } = this.#deps;
    const onWake = (): void => {
      mailbox.drain();
      this.#settle();
    };
    const handlers = { onWake, onFailure };
    const [egress, ingress] = await Promise.allSettled([
      WorkerHandle.start(
        'egress',
        state,
        {
          ...options,
          counters: this.#counters.egress,
          events: mailbox.egressMemory,
          extra: mailbox.commandMemory,
        },
        handlers,
      ),
      WorkerHandle.start(
        'ingress',
        state,
        {
          ...options,
          counters: this.#counters.ingress,
          events: mailbox.ingressMemory,
          extra: mailbox.datagramMemory,
        },
        handlers,
      ),
    ]);
    if (egress.status === 'fulfilled') [this.#egress, this.#aeadTier] = egress.value;
    if (ingress.status === 'fulfilled') [this.#ingress] = ingress.value;
    for (const result of [egress, ingress]) if (result.status === 'rejected') throw result.reason;
  }

  /** Which implementation seals and opens. */
  get aeadTier(): AeadTier {
    return this.#aeadTier;
  }

  /** Counts since start. */
  stats(): DatapathStats {
    return {
      egress: readCounts(EGRESS_COUNTERS, this.#counters.egress),
      ingress: readCounts(INGRESS_COUNTERS, this.#counters.ingress),
    };
  }

  /** Hands over a change; returns whether both have taken it over. Throws once they are closed. */
  configure(change: Change): () => boolean {
    const handles = this.#handles;
    if (handles.length < 2) throw new Vl3Error('failed-precondition', 'the datapath is closed');
    const sequences = handles.map((handle) => handle.configure(change));
    return () => handles.every((handle, i) => handle.hasTaken(sequences[i] ?? 0));
  }

  /** Resolves when both have taken over all that was configured so far. */
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
    this.#egress?.wake();
  }

  /** Joins both. */
  async close(): Promise<void> {
    this.#deps.state.stop();
    const handles = this.#handles;
    this.#egress = undefined;
    this.#ingress = undefined;
    await Promise.all(handles.map((handle) => handle.close()));
    this.#settle();
  }

  get #handles(): WorkerHandle[] {
    return [this.#egress, this.#ingress].filter((handle) => handle !== undefined);
  }

  #settle(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
