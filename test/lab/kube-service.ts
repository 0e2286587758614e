// A Service of a cluster in one namespace of the lab: an address that no one has, behind which pods are, as kube-proxy and the
// endpoints' controller have it. Pods are addresses of the loopback, and are behind it while they say that they are ready.

import type { Host } from './host.ts';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
  /** Where it says whether it is ready. */
  readonly metricsPort: number;
}

export class KubeService {
  readonly #host: Host;
  readonly #address: string;
  readonly #port: number;
  #endpoints: readonly Endpoint[] = [];

  constructor(host: Host, address: string, port: number) {
    this.#host = host;
    this.#address = address;
    this.#port = port;
  }

  /** Gives the host an address for a pod. */
  async place(address: string): Promise<void> {
    await this.#host.ip(`address replace ${address}/32 dev lo`);
  }

  async open(): Promise<void> {
    await this.#host.ip(`route add local ${this.#address}/32 dev lo`);
    await this.route([]);
  }

  /** Those and no others are behind it from now on. */
  async route(endpoints: readonly Endpoint[]): Promise<void> {
    this.#endpoints = endpoints;
    const to = endpoints.map(({ address, port }, i) => `${i} : ${address} . ${port}`).join(', ');
    const verdict =
      endpoints.length === 0
        ? 'reject with tcp reset'
        : `dnat ip to numgen inc mod ${endpoints.length} map { ${to} }`;
    const hook =
      endpoints.length === 0 ? 'type filter hook output priority 0' : 'type nat hook output priority -100';
    await this.#host.nft(
      [
        'table ip kubesvc',
        'delete table ip kubesvc',
        'table ip kubesvc {',
        '  chain out {',
        `    ${hook};`,
        `    ip daddr ${this.#address} tcp dport ${this.#port} ${verdict}`,
        '  }',
        '}',
        '',
      ].join('\n'),
    );
  }

  get endpoints(): readonly Endpoint[] {
    return this.#endpoints;
  }

  /** Throws with the reason while it is not. */
  async isReady({ address, metricsPort }: Endpoint): Promise<void> {
    await this.#host.run([
      'curl',
      '-sS',
      '--max-time',
      '5',
      '--fail-with-body',
      `http://${address}:${metricsPort}/readyz`,
    ]);
  }
}
