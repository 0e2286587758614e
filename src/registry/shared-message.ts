// A watch's step that many streams carry: encoded once, at the first use, instead of once a stream. It goes out as the very
// bytes of a frame, or through the framework, which encodes what it is given: that is given a message whose fields are the
// encoded ones as they stand. JSON gets the real one.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  NetworkProgressSchema,
  type WatchNetworkResponse,
  WatchNetworkResponseSchema,
} from '../api/generated/vl3/v1/agent_pb.js';

/** A flag, 0 for what is not compressed, and the length. */
const HEADER_BYTES = 5;

export class SharedMessage {
  readonly message: WatchNetworkResponse;
  #frame: Uint8Array | undefined;
  #encoded: WatchNetworkResponse | undefined;

  constructor(message: WatchNetworkResponse) {
    this.message = message;
  }

  /** As gRPC has it on the stream. Nobody may change it. */
  get frame(): Uint8Array {
    if (this.#frame === undefined) {
      const bytes = toBinary(WatchNetworkResponseSchema, this.message);
      const frame = new Uint8Array(HEADER_BYTES + bytes.length);
      new DataView(frame.buffer).setUint32(1, bytes.length);
      frame.set(bytes, HEADER_BYTES);
      this.#frame = frame;
    }
    return this.#frame;
  }

  /** For the framework, where it encodes binary: the same bytes, at the price of a copy. */
  get encoded(): WatchNetworkResponse {
    if (this.#encoded === undefined) {
      const encoded = create(WatchNetworkResponseSchema);
      // Read as a message without fields, everything is a field it does not know, which encoding repeats verbatim.
      const { $unknown } = fromBinary(NetworkProgressSchema, this.frame.subarray(HEADER_BYTES));
      if ($unknown !== undefined) encoded.$unknown = $unknown;
      this.#encoded = encoded;
    }
    return this.#encoded;
  }
}
