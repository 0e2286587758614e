// A watch's step that many streams carry: encoded once, at the first use, instead of once a stream. The framework encodes
// what it is given, so it is given a message whose fields are the encoded ones as they stand; JSON gets the real one.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  NetworkProgressSchema,
  type WatchNetworkResponse,
  WatchNetworkResponseSchema,
} from '../api/generated/vl3/v1/agent_pb.js';

export class SharedMessage {
  readonly message: WatchNetworkResponse;
  #encoded: WatchNetworkResponse | undefined;

  constructor(message: WatchNetworkResponse) {
    this.message = message;
  }

  /** For streams that carry binary: the same bytes, at the price of a copy. */
  get encoded(): WatchNetworkResponse {
    if (this.#encoded === undefined) {
      const bytes = toBinary(WatchNetworkResponseSchema, this.message);
      const encoded = create(WatchNetworkResponseSchema);
      // Read as a message without fields, everything is a field it does not know, which encoding repeats verbatim.
      const { $unknown } = fromBinary(NetworkProgressSchema, bytes);
      if ($unknown !== undefined) encoded.$unknown = $unknown;
      this.#encoded = encoded;
    }
    return this.#encoded;
  }
}
