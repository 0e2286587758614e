// The in-memory twins of a UDP socket and of the internet between sockets. Datagrams wait until `take`, in the order
// of sending; addresses are literal, nothing is translated or lost by itself. What else an internet does (delay,
// loss, NAT) is for whoever stands between `take` and `deliver`.

import type { Endpoint } from '../device/data-plane.ts';
import type { Outside } from '../device/plane.ts';

export interface Datagram {
  readonly bytes: Uint8Array;
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

export class MemoryInternet {
  readonly #sockets = new Map<string, (datagram: Datagram) => void>();
  #underWay: Datagram[] = [];

  /** A socket at `endpoint`; `receive` gets what `deliver` brings there. */
  socket(endpoint: Endpoint, receive: (datagram: Datagram) => void): Outside {
    this.#sockets.set(key(endpoint), receive);
    return {
      send: (bytes, destination) => {
        this.#underWay.push({ bytes, source: endpoint, destination });
      },
    };
  }

  /** Takes what was sent since the last call. */
  take(): Datagram[] {
    const underWay = this.#underWay;
    this.#underWay = [];
    return underWay;
  }

  /** Brings a datagram to its destination; one to nowhere is lost. */
  deliver(datagram: Datagram): void {
    this.#sockets.get(key(datagram.destination))?.(datagram);
  }
}

const key = ({ address, port }: Endpoint): string => `${address} ${port}`;
