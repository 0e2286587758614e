// Names of workloads: what may be one, and the zone they are in. `web` on the network red is web.red.vl3; a name may have
// several labels. Only letters, digits and inner hyphens: whoever prints a name or puts it into a file meets nothing else.

import { MAX_LABEL_BYTES, MAX_NAME_BYTES } from './dns-constants.ts';

/** All names are below it, each network's below the network's. */
export const DOMAIN = 'vl3';

/** Below it are the zones of other domains' networks. */
export const OTHERS = 'at';

const LABEL = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
/** A network's name is a label. */
const ZONE_BYTES = MAX_LABEL_BYTES + 1 + DOMAIN.length + 2;
/** Of a name below its network's: whatever that is called, the whole can be sent. */
export const MAX_NAME_LENGTH = MAX_NAME_BYTES - ZONE_BYTES - 1;

/** Whether a workload may be called that, below its network's name. */
export const isName = (text: string): boolean =>
  text.length <= MAX_NAME_LENGTH &&
  text.split('.').every((label) => label.length <= MAX_LABEL_BYTES && LABEL.test(label));

/**
 * The labels of a network's zone: red.vl3, and red.home.example.at.vl3 of what this node calls `red@home.example`. No network is
 * called `at`, so that partners' zones lie in none of this domain's.
 */
export const zoneOf = (key: string): string[] => {
  const [network = key, domain] = key.split('@');
  return domain === undefined ? [network, DOMAIN] : [network, ...domain.split('.'), OTHERS, DOMAIN];
};

/** A zone's SOA names a mailbox below it; and a name needs some room. */
const SOA_BYTES = 16;

/** Whether names in the zone can be sent: a trust domain may be longer, and emptier, than names are. */
export const canBeZone = (labels: readonly string[]): boolean =>
  labels.every((label) => label.length > 0 && label.length <= MAX_LABEL_BYTES) &&
  bytesOf(labels) <= MAX_NAME_BYTES - SOA_BYTES;

/** On the wire. */
export const bytesOf = (labels: readonly string[]): number =>
  labels.reduce((sum, { length }) => sum + length + 1, 1);
