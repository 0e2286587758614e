// Calls about leases as promises. Which of them may be under way together is native-free/ipam/lease-calls.ts.

import * as ipam from '../../native-free/ipam/lease-calls.ts';

export class LeaseCalls {
  readonly #calls = new ipam.LeaseCalls();

  /** Runs a call that gets a lease or gives one back, until its answer has been written down. */
  run<T>(call: () => Promise<T>): Promise<T> {
    return new Promise((resolve) => this.#calls.run((finish) => resolve(ended(call, finish))));
  }

  /** Runs a renewal, once the calls under way have ended; those that come meanwhile wait for it. */
  renew<T>(renewal: () => Promise<T>): Promise<T> {
    return new Promise((resolve) => this.#calls.renew((finish) => resolve(ended(renewal, finish))));
  }
}

const ended = async <T>(call: () => Promise<T>, finish: () => void): Promise<T> => {
  try {
    return await call();
  } finally {
    finish();
  }
};
