// What the registry says of its store's position, so that it knows its own words again when nodes repeat them: a keyed hash
// over store, run and revision. The key is not in the store, or whoever lost the store would have lost the key.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { SECRET_PURPOSES } from '../identity/signer.ts';

/** Of Signer.secretFor. */
export const STAMP_PURPOSE = SECRET_PURPOSES.positionStamp;

const RUN_BYTES = 16;
const MAC_BYTES = 32;

export class PositionStamps {
  /** Of this process: what it said itself is never news to it. */
  readonly run: string;
  readonly #key: Uint8Array;
  readonly #storeId: string;
  readonly #runBytes: Uint8Array;

  constructor(key: Uint8Array, storeId: string, runBytes: Uint8Array = randomBytes(RUN_BYTES)) {
    this.#key = key;
    this.#storeId = storeId;
    this.#runBytes = runBytes;
    this.run = Buffer.from(runBytes).toString('hex');
  }

  /** Of this run's store. */
  of(revision: number): Uint8Array {
    const mac = this.#mac(this.#storeId, this.#runBytes, BigInt(revision));
    return Buffer.concat([this.#runBytes, mac]);
  }

  /** The run that said so; undefined: none ever did. */
  runThatSaid(storeId: string, revision: bigint, stamp: Uint8Array): string | undefined {
    if (stamp.length !== RUN_BYTES + MAC_BYTES) return undefined;
    const run = stamp.subarray(0, RUN_BYTES);
    const isGenuine = timingSafeEqual(this.#mac(storeId, run, revision), stamp.subarray(RUN_BYTES));
    return isGenuine ? Buffer.from(run).toString('hex') : undefined;
  }

  #mac(storeId: string, run: Uint8Array, revision: bigint): Uint8Array {
    const number = Buffer.alloc(8);
    number.writeBigInt64BE(revision);
    // The parts before the store's identity have a fixed length: no two positions make the same bytes.
    return createHmac('sha256', this.#key).update(run).update(number).update(storeId).digest();
  }
}
