// Where each kind of value lives in the store. Names are DNS labels and ids have no slash, so a key reads back into
// its parts; a prefix's slash becomes "_".

import { foreignDomainOf } from './foreign-key.ts';
import type { Range } from './transaction.ts';

const padded = (line: number): string => String(line).padStart(16, '0');

export const keys = {
  domain: '/domain',
  clock: '/clock',
  report: (node: string) => `/reports/${node}`,
  network: (network: string) => `/networks/${network}`,
  node: (node: string) => `/nodes/${node}`,
  token: (id: string) => `/tokens/${id}`,
  operator: (name: string) => `/operators/${name}`,
  federation: (domain: string) => `/federations/${domain}`,
  partnerBundle: (domain: string) => `/partner-bundles/${domain}`,
  clusterEnrolment: (node: string) => `/cluster-enrolments/${node}`,
  member: (network: string, node: string) => `/members/${network}/${node}`,
  lease: (network: string, prefix: string) => `/leases/${network}/${prefix.replace('/', '_')}`,
  record: (network: string, node: string) => `/records/${network}/${node}`,
  names: (network: string, node: string) => `/names/${network}/${node}`,
  attachment: (network: string, node: string, id: string) => `/attachments/${network}/${node}/${id}`,
  tombstone: (network: string, node: string) => `/tombstones/${network}/${node}`,
  liveness: (node: string) => `/liveness/${node}`,
  sighting: (node: string) => `/sightings/${node}`,
  ruleset: (network: string) => `/rulesets/${network}`,
  admissionRule: (network: string, rule: string) => `/admission-rules/${network}/${rule}`,
  decision: (network: string, node: string, id: string) => `/decisions/${network}/${node}/${id}`,
  grant: (network: string, node: string) => `/grants/${network}/${node}`,
  logHead: '/admission-log-head',
  logHeadOf: (of: string) => `/admission-log-heads/${of}`,
  refusals: (network: string, of: string) => `/admission-refusals/${network}/${of}`,
  /** Numbers of equal length, so that their order is that of the keys. */
  logEntry: (line: number) => `/admission-log/${padded(line)}`,
  logEntryOf: (of: string, line: number) => `/admission-log-of/${of}/${padded(line)}`,
} as const;

/** Where it stands who vouches for a node: its enrolment here, or the federation with its domain. */
export const identityKey = (node: string): string => {
  const domain = foreignDomainOf(node);
  return domain === undefined ? keys.node(node) : keys.federation(domain);
};

/** What all keys of a kind (below `parts`) start with. */
export const below = {
  reports: '/reports/',
  networks: '/networks/',
  nodes: '/nodes/',
  tokens: '/tokens/',
  operators: '/operators/',
  federations: '/federations/',
  partnerBundles: '/partner-bundles/',
  clusterEnrolments: '/cluster-enrolments/',
  members: (network?: string) => (network === undefined ? '/members/' : `/members/${network}/`),
  leases: (network?: string) => (network === undefined ? '/leases/' : `/leases/${network}/`),
  records: (network?: string) => (network === undefined ? '/records/' : `/records/${network}/`),
  names: (network: string) => `/names/${network}/`,
  attachments: (network?: string, node?: string) =>
    `${['/attachments', network, node].filter((part) => part !== undefined).join('/')}/`,
  tombstones: (network?: string) => (network === undefined ? '/tombstones/' : `/tombstones/${network}/`),
  liveness: '/liveness/',
  sightings: '/sightings/',
  rulesets: '/rulesets/',
  admissionRules: (network?: string) =>
    network === undefined ? '/admission-rules/' : `/admission-rules/${network}/`,
  decisions: (network: string, node?: string) =>
    node === undefined ? `/decisions/${network}/` : `/decisions/${network}/${node}/`,
  grants: (network: string) => `/grants/${network}/`,
  logEntries: '/admission-log/',
  logEntriesOf: '/admission-log-of/',
  logHeads: '/admission-log-heads/',
  refusals: '/admission-refusals/',
} as const;

/** The parts of a key: ["members", network, node]. */
export const partsOf = (key: string): string[] => key.slice(1).split('/');

export const one = (key: string): Range => ({ key });
export const all = (prefix: string): Range => ({ prefix });
