// Whether an agent does what it is for: it carries packets for every network that it was on, and has seen what the registry and
// the API server say. An update of all nodes goes on to the next ones once it does. Each network has to get there once after it
// was opened, and not again: a registry that is gone later, or a peer that falls silent, is mended by no restart.

import type { Membership } from '../agent/membership.ts';

export interface ReadinessParts {
  readonly port: () => number;
  /** Networks that the state says this node is on. */
  readonly saved: () => readonly string[];
  /** Why a saved network is not open; undefined: it is being opened. */
  readonly pending: (network: string) => string | undefined;
  readonly open: (network: string) => ReadyNetwork | undefined;
  /** Whether the registry is known not to answer: then there is nothing to wait for. */
  readonly isRegistryAway: () => boolean;
  /** What the informer has not seen since the start. */
  readonly unseen: () => readonly string[];
  /** Of the timers and the packet threads. */
  readonly health: () => Promise<string[]>;
  /** Monotonic ms. */
  readonly now: () => number;
}

/** What is asked of a network. */
export type ReadyNetwork = Pick<Membership, 'openedAt' | 'hasListed' | 'registryProblems'> & {
  readonly peers: Pick<Membership['peers'], 'unreached'>;
  readonly router: Pick<Membership['router'], 'problem'>;
};

/** A peer that is gone holds no update up for longer. */
const CALLING_MS = 10_000;

export class AgentReadiness {
  readonly #parts: ReadinessParts;
  readonly #carrying = new WeakSet<ReadyNetwork>();
  readonly #inSync = new WeakSet<ReadyNetwork>();

  constructor(parts: ReadinessParts) {
    this.#parts = parts;
  }

  /** Sentences; empty: it is ready. */
  async problems(): Promise<string[]> {
    const { port, saved, open, pending, unseen, health } = this.#parts;
    const problems = port() > 0 ? [] : ['the UDP port is not open'];
    for (const name of saved()) {
      const network = open(name);
      if (network === undefined)
        problems.push(`network ${name} is not open: ${pending(name) ?? 'it is being opened'}`);
      else problems.push(...this.#problemsOf(name, network));
    }
    return [...problems, ...unseen(), ...(await health())];
  }

  #problemsOf(name: string, network: ReadyNetwork): string[] {
    const problems = network.router.problem === '' ? [] : [`network ${name}: ${network.router.problem}`];
    if (!this.#carrying.has(network)) {
      const { unreached } = network.peers;
      if (unreached === 0 || this.#parts.now() - network.openedAt > CALLING_MS) this.#carrying.add(network);
      else
        problems.push(`network ${name}: ${unreached} of the nodes that it talked to have not answered yet`);
    }
    if (!this.#inSync.has(network)) {
      const { hasListed, registryProblems } = network;
      if (hasListed || registryProblems.length > 0 || this.#parts.isRegistryAway()) this.#inSync.add(network);
      else problems.push(`network ${name}: the registry has not said yet who is on it`);
    }
    return problems;
  }
}
