// Asking again for what is there: the same is answered as before, anything else is refused with the remedy.

import { isDeepStrictEqual } from 'node:util';
import { Vl3Error } from '../../native-free/error.ts';
import type { AttachmentDocument, WishDocument } from '../../native-free/reconcile/documents.ts';
import type { AttachRequest } from './local-requests.ts';

/** Throws when what is there is not what is asked for now. */
export const mustAgree = (
  { network, netns, interfaceName, workload, labels, asserted, addresses = [] }: AttachRequest,
  present: WishDocument | AttachmentDocument,
) => {
  if (interfaceName !== undefined && interfaceName !== present.interfaceName) {
    throw new Vl3Error(
      'already-exists',
      `${netns} is on ${network} already, as ${present.interfaceName}: detach it first to rename it`,
    );
  }
  if (workload !== undefined && workload !== present.workload) {
    throw new Vl3Error(
      'already-exists',
      `${netns} is on ${network} already, as the workload "${present.workload}": detach it first to call it another`,
    );
  }
  if (labels !== undefined && !isDeepStrictEqual(labels, present.labels)) {
    throw new Vl3Error(
      'already-exists',
      `${netns} is on ${network} already, with other labels: detach it first to give it these`,
    );
  }
  if (asserted !== undefined && !isDeepStrictEqual(asserted, present.asserted)) {
    throw new Vl3Error(
      'already-exists',
      `${netns} is on ${network} already, of another namespace or service account: detach it first to say these`,
    );
  }
  if ('ready' in present && addresses.some((one) => !present.addresses.includes(one))) {
    throw new Vl3Error(
      'already-exists',
      `${netns} is on ${network} already, as ${present.addresses.join(' and ')}: detach it first to give it other addresses`,
    );
  }
};
