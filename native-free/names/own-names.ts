// What the attachments of one node are called: by the label vl3.io/name if somebody gave one, else by the workload's name.
// What cannot be a name has none.

import { isName } from './name.ts';

/** A workload's own name, in place of the network's way to name it. */
export const NAME_LABEL = 'vl3.io/name';

export interface Named {
  readonly workload: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Below the network's name; undefined when it cannot be one. */
export const nameOf = ({ workload, labels }: Named): string | undefined => {
  const name = (labels[NAME_LABEL] ?? workload).toLowerCase();
  return isName(name) ? name : undefined;
};
