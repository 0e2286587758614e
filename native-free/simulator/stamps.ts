// What a simulated registry says of its store's position, as src/registry/position-stamps.ts does: the run that said so,
// and a hash that stands for the keyed one.

import type { PositionStamps } from '../registry/hearing.ts';
import { hashText } from './random.ts';

export class SimulatedStamps implements PositionStamps {
  readonly run: string;
  readonly #storeId: string;

  /** `run` is another one after every start: hexadecimal digits. */
  constructor(run: string, storeId: string) {
    this.run = run;
    this.#storeId = storeId;
  }

  /** Of this run's store. */
  of(revision: number): Uint8Array {
    return stampOf(this.run, this.#storeId, BigInt(revision));
  }

  runThatSaid(storeId: string, revision: bigint, stamp: Uint8Array): string | undefined {
    const [run = ''] = new TextDecoder().decode(stamp).split(' ');
    const genuine = stampOf(run, storeId, revision);
    const isGenuine = genuine.length === stamp.length && genuine.every((byte, i) => byte === stamp[i]);
    return isGenuine ? run : undefined;
  }
}

const stampOf = (run: string, storeId: string, revision: bigint): Uint8Array =>
  new TextEncoder().encode(`${run} ${hashText(`${run} ${storeId} ${revision}`, 1)}`);
