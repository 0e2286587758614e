// Names of workloads: what may be one, and the zone they are in. `web` on the network red is web.red.vl3; a name may have
// several labels. Only letters, digits and inner hyphens: whoever prints a name or puts it into a file meets nothing else.

import { MAX_LABEL_BYTES, MAX_NAME_BYTES } from './dns-constants.ts';

/** All names are below it, each network's below the network's. */
export const DOMAIN = 'vl3';

const LABEL = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
/** A network's name is a label. */
const ZONE_BYTES = MAX_LABEL_BYTES + 1 + DOMAIN.length + 2;
/** Of a name below its network's: whatever that is called, the whole can be sent. */
export const MAX_NAME_LENGTH = MAX_NAME_BYTES - ZONE_BYTES - 1;

/** Whether a workload may be called that, below its network's name. */
export const isName = (text: string): boolean =>
  text.length <= MAX_NAME_LENGTH &&
  text.split('.').every((label) => label.length <= MAX_LABEL_BYTES && LABEL.test(label));

/** The labels of a network's zone. */
export const zoneOf = (network: string): string[] => [network, DOMAIN];
