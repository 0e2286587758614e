// The seam between a device's decisions and whatever moves its packets. The device decides (handshakes, timers,
// which keypair is in use) and returns actions; a data plane seals, opens and forwards, and reports back by events
// and by each peer's activity. There are two data planes: the reference in this folder (outbound.ts, inbound.ts)
// and the worker threads of src/datapath. Both obey the same actions, so the device cannot tell them apart.
//
// All times named `...At` and `now` are milliseconds on one monotonic clock (CLOCK_BOOTTIME in production).

import { wipe } from '../noise/wipe.ts';

/** A peer's static public key in lowercase hex: unique within its device. */
export type PeerId = string;

/** A peer's UDP address. `address` is in canonical text form, IPv6 link-local ones with their %zone. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
  /** Our own address that it was heard at, and is answered from; undefined: whichever the kernel takes. */
  readonly local?: string | undefined;
}

/** What a completed handshake yields. Counters and replay windows belong to the data plane, not to this. */
export interface Keypair {
  /** The receiver index that the other side writes and we look up. */
  readonly localIndex: number;
  /** The receiver index that we write into what we send. */
  readonly remoteIndex: number;
  /** 32 B each. The data plane copies them and must wipe its copy on remove-keypair; these are gone by `wipeKeys`. */
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  readonly isInitiator: boolean;
  readonly createdAt: number;
}

/** What a device asks of the world. Order matters: carry them out one after another. */
export type Action =
  /** Send this handshake datagram (types 1 to 3). The receiver of the action keeps `datagram`. */
  | { readonly kind: 'send'; readonly datagram: Uint8Array; readonly endpoint: Endpoint }
  /** From now on packets with `localIndex` open under this keypair (until REJECT_AFTER_TIME past createdAt). */
  | { readonly kind: 'install-keypair'; readonly peer: PeerId; readonly keypair: Keypair }
  /** Seal with this installed keypair from now on (undefined: none), and send what is staged. */
  | { readonly kind: 'use-keypair'; readonly peer: PeerId; readonly localIndex: number | undefined }
  /** Forget and wipe an installed keypair. */
  | { readonly kind: 'remove-keypair'; readonly localIndex: number }
  | { readonly kind: 'set-endpoint'; readonly peer: PeerId; readonly endpoint: Endpoint | undefined }
  /** Seal and send an empty packet with the keypair in use (nothing if there is none). */
  | { readonly kind: 'send-keepalive'; readonly peer: PeerId }
  /** The handshake was given up: drop the packets staged for this peer. */
  | { readonly kind: 'drop-staged'; readonly peer: PeerId };

/** What a data plane tells the device, at once. */
export type DataPlaneEvent =
  /** A packet for this peer was staged because no keypair is usable (none, too old, or its counter used up). */
  | { readonly kind: 'handshake-needed'; readonly peer: PeerId }
  /**
   * A transport message authenticated (and passed the replay window) under a keypair that is not the one in use.
   * The device promotes `next` to current.
   */
  | { readonly kind: 'keypair-confirmed'; readonly peer: PeerId; readonly localIndex: number }
  /** An authenticated transport message came from another address than the peer's endpoint. */
  | { readonly kind: 'endpoint-moved'; readonly peer: PeerId; readonly endpoint: Endpoint };

/**
 * What has moved for a peer, read by the device at each tick. A time is 0 when it never happened. Times have one
 * writer each, so a data plane can keep them in shared memory.
 */
export interface Activity {
  /** Last transport message sent with a packet inside (not a keepalive). */
  readonly dataSentAt: number;
  /** Last transport message sent of any kind. */
  readonly sentAt: number;
  /** Last authenticated transport message received with a packet inside (not a keepalive). */
  readonly dataReceivedAt: number;
  /** Last authenticated transport message received of any kind. */
  readonly receivedAt: number;
  /** Messages sealed under the keypair in use. */
  readonly sendCounter: number;
  /** WireGuard bytes: UDP payload of transport messages, as the UAPI counts them. */
  readonly txBytes: number;
  readonly rxBytes: number;
}

/** To be called once actions are carried out: the keys are the data plane's alone then. */
export const wipeKeys = (actions: readonly Action[]): void => {
  for (const action of actions)
    if (action.kind === 'install-keypair') wipe(action.keypair.sendKey, action.keypair.receiveKey);
};
