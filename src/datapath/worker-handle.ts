// The main thread's end of one worker: starts it, wakes it, hands it configuration, and joins it. Its eventfd is its owner's.

import { once } from 'node:events';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { Vl3Error } from '../../native-free/error.ts';
import { write } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import type { AeadTier } from './aead.ts';
import { type SharedState, workerNumber } from './shared-state.ts';
import type { Change, Configuration, WorkerKind, WorkerMessage, WorkerOptions } from './worker-protocol.ts';

export interface WorkerHandlers {
  /** There is something in its rings. */
  readonly onWake: () => void;
  /** It ended by itself, which it never should. */
  readonly onFailure: (error: Error) => void;
}

export class WorkerHandle {
  readonly kind: WorkerKind;
  readonly name: string;
  readonly #number: number;
  readonly #state: SharedState;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #wakeFd: number;
  readonly #one = new Arena(8);
  #sequence = 0;
  #isClosing = false;
  #isClosed = false;

  /** Resolves with the worker running, and the AEAD tier it took. */
  static async start(
    state: SharedState,
    options: Omit<WorkerOptions, 'port'>,
    handlers: WorkerHandlers,
  ): Promise<[WorkerHandle, AeadTier]> {
    const handle = new WorkerHandle(state, options);
    try {
      return [handle, await handle.#ready(handlers)];
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  private constructor(state: SharedState, options: Omit<WorkerOptions, 'port'>) {
    const { kind, pair } = options;
    this.kind = kind;
    this.name = pair === 0 ? kind : `${kind}-${pair}`;
    this.#number = workerNumber(kind === 'egress' ? 'egress' : 'ingress', pair);
    this.#state = state;
    this.#wakeFd = options.wakeFd;
    this.#one.view.setUint32(0, 1, true);
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const workerData: WorkerOptions = { ...options, port: port2 };
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./worker.${extension}`, import.meta.url), {
      name: `vl3-${this.name}`,
      workerData,
      transferList: [port2],
    });
  }

  /** Hands over a change; true, later, from `hasTaken` of the number returned. */
  configure(change: Change): number {
    this.#sequence += 1;
    const configuration: Configuration = { sequence: this.#sequence, change };
    this.#port.postMessage(configuration);
    this.wake();
    return this.#sequence;
  }

  hasTaken(sequence: number): boolean {
    return this.#isClosing || this.#state.seen(this.#number) >= sequence;
  }

  get sequence(): number {
    return this.#sequence;
  }

  wake(): void {
    // Its descriptor's number may be somebody else's once it is closed.
    if (this.#isClosed) return;
    write(this.#wakeFd, this.#one.address, 8);
  }

  /** Joins the worker, which must have been told to stop by the shared state. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#state.stop();
    this.wake();
    if (this.#worker.threadId !== -1) await once(this.#worker, 'exit');
    this.#isClosed = true;
    this.#port.close();
    this.#one.unmap();
  }

  #ready(handlers: WorkerHandlers): Promise<AeadTier> {
    const { promise, resolve, reject } = Promise.withResolvers<AeadTier>();
    this.#port.on('message', (message: WorkerMessage) => {
      if (message.kind === 'ready') resolve(message.aeadTier);
      else handlers.onWake();
    });
    const fail = (cause: unknown): void => {
      const error = new Vl3Error('internal', `the ${this.name} thread failed: ${String(cause)}`, { cause });
      reject(error);
      if (!this.#isClosing) handlers.onFailure(error);
    };
    this.#worker.on('error', fail);
    this.#worker.on('exit', (code) => {
      if (!this.#isClosing) fail(`it ended with code ${code}`);
    });
    return promise;
  }
}
