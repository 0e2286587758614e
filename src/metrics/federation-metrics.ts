// What a registry tells of the domains that it federates with.

import { foreignDomainOf } from '../../native-free/registry/foreign-key.ts';
import { all, below } from '../../native-free/registry/keys.ts';
import type { RegistryContext } from '../registry/context.ts';
import { fresh } from './fresh.ts';
import type { Instruments, Sample } from './instruments.ts';

export const addFederations = (
  instruments: Instruments,
  { partners, partnerLinks, counters, transactor, now }: RegistryContext,
): void => {
  const state = fresh(() => transactor.read([below.members(), below.attachments()].map(all)));
  instruments.gauge(
    'vl3_registry_federations',
    'Other domains: invited, active, or revoked-there (the partner has ended it).',
    ['state'],
    () => {
      const counts = { invited: 0, active: 0, 'revoked-there': 0 };
      for (const { federation } of partners.all()) {
        if (federation.activeSince === undefined) counts.invited += 1;
        else counts[federation.revokedThereAt === undefined ? 'active' : 'revoked-there'] += 1;
      }
      return Object.entries(counts).map(([state, count]): Sample => [{ state }, count]);
    },
  );
  instruments.gauge(
    'vl3_registry_federation_bundle_age_seconds',
    "Since a partner's endpoint, or an admin, confirmed its bundle. After seven days none of its identities counts.",
    ['domain'],
    () =>
      partners.active().flatMap(({ federation, held }): Sample[] => {
        const labels = { domain: federation.trustDomain };
        return held === undefined ? [] : [[labels, Math.max(0, now() - held.confirmedAt) / 1000]];
      }),
  );
  instruments.gauge(
    'vl3_registry_federation_bundle_refreshed',
    "Whether the last look for a partner's bundle confirmed it, or brought a newer one.",
    ['domain'],
    () =>
      partners
        .active()
        .map(
          ({ federation: { trustDomain: domain } }): Sample => [
            { domain },
            partnerLinks.problemOf(domain) === undefined ? 1 : 0,
          ],
        ),
  );
  /** How many different things of each partner's nodes there are; 0 is said as well. */
  const perPartner = (things: Iterable<readonly [node: string, thing: string]>): Sample[] => {
    const counts = new Map(
      partners.active().map(({ federation }) => [federation.trustDomain, new Set<string>()]),
    );
    for (const [node, thing] of things) {
      const domain = foreignDomainOf(node);
      if (domain !== undefined) counts.get(domain)?.add(thing);
    }
    return [...counts].map(([domain, found]): Sample => [{ domain }, found.size]);
  };
  instruments.gauge(
    'vl3_registry_federation_nodes',
    "Partners' nodes on networks of this domain.",
    ['domain'],
    async () => perPartner((await state()).members().map(({ value: { node } }) => [node, node])),
  );
  instruments.gauge(
    'vl3_registry_federation_attachments',
    "Attachments of partners' nodes that are admitted to networks of this domain.",
    ['domain'],
    async () => perPartner((await state()).attachments().map(({ key, value }) => [value.node, key])),
  );
  instruments.counter(
    'vl3_registry_federation_admissions_refused_total',
    "Attachments of partners' nodes that no rule admitted, each time that their node asked, since the start.",
    ['domain'],
    () => [...counters.refusedForeignAdmissions].map(([domain, count]): Sample => [{ domain }, count]),
  );
  instruments.counter(
    'vl3_registry_federation_invitations_refused_total',
    'Invitations that were shown and refused since the start, by reason.',
    ['reason'],
    () => [...counters.refusedFederations].map(([reason, count]): Sample => [{ reason }, count]),
  );
  instruments.counter(
    'vl3_registry_federation_calls_refused_total',
    "Calls of partners' nodes that were refused since the start.",
    ['domain'],
    () => [...counters.refusedForeign].map(([domain, count]): Sample => [{ domain }, count]),
  );
};
