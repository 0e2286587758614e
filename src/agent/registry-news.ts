// What a registry's answers to heartbeats tell a node, whichever domain's it is: whoever keeps a line to one passes it on.

import type { HeartbeatResponse } from '../api/generated/vl3/v1/agent_pb.js';

export interface RegistryNews {
  /** The registry saw this node come from there. */
  readonly onObserved: (address: string) => void;
  /** The registry has another store than before. */
  readonly onStoreReplaced: () => void;
  /** It said whether it is recovering from a loss of memory; asked at `askedAt` of CLOCK_BOOTTIME, of this store. */
  readonly onRecovering: (
    answer: Pick<HeartbeatResponse, 'recovering' | 'storeId' | 'stamp'>,
    askedAt: number,
  ) => void;
  /** It answers after it did not. */
  readonly onBack: () => void;
}
