// What an agent tells of the domains that its own is federated with, and of what waits to be attached. A domain's series are
// as many as federations; networks of partners are named with their domain in all other series.

import type { Federation } from '../agent/federations.ts';
import type { Instruments, Sample } from './instruments.ts';

interface Link {
  readonly problem: Error | undefined;
  /** Unix ms; 0: never. */
  readonly lastContactAt: number;
}

/** Of an agent. */
interface Observed {
  readonly federations: {
    readonly all: readonly Pick<Federation, 'trustDomain' | 'isRevoked' | 'bundle'>[];
  };
  readonly homes: {
    readonly partners: readonly {
      readonly home: { readonly trustDomain: string; readonly memberships: readonly unknown[] };
      readonly link: Link;
    }[];
  };
  readonly attachments: {
    readonly upkeep: {
      readonly waiting: readonly { readonly network: string; readonly isRefused: boolean }[];
    };
  };
}

export const addPartners = (
  instruments: Instruments,
  { federations, homes, attachments }: Observed,
): void => {
  instruments.gauge(
    'vl3_agent_partner_believed',
    'Whether identities of a federated domain count here: its bundle is known, and was confirmed lately.',
    ['domain'],
    () =>
      federations.all.flatMap(({ trustDomain: domain, isRevoked, bundle }): Sample[] =>
        isRevoked ? [] : [[{ domain }, bundle === undefined ? 0 : 1]],
      ),
  );
  instruments.gauge(
    'vl3_agent_partner_connected',
    "Whether a partner's registry answered the last heartbeat; for partners on whose networks this node is.",
    ['domain'],
    () =>
      homes.partners.flatMap(({ home, link }): Sample[] =>
        home.memberships.length === 0
          ? []
          : [[{ domain: home.trustDomain }, link.problem === undefined && link.lastContactAt > 0 ? 1 : 0]],
      ),
  );
  instruments.gauge(
    'vl3_agent_attachments_waiting',
    "What was asked for and is not attached: refused by its network's rules, or pending for another reason.",
    ['network', 'reason'],
    () => {
      const counts = new Map<string, { refused: number; pending: number }>();
      for (const { network, isRefused } of attachments.upkeep.waiting) {
        const of = counts.get(network) ?? { refused: 0, pending: 0 };
        of[isRefused ? 'refused' : 'pending'] += 1;
        counts.set(network, of);
      }
      return [...counts].flatMap(([network, of]) =>
        Object.entries(of).map(([reason, count]): Sample => [{ network, reason }, count]),
      );
    },
  );
};
