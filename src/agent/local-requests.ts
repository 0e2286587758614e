// What may be asked over the agent's local API, parsed where it arrives. Stricter than the kernel wants it: what the
// registry would not take of one attachment must not hold up the announcement of the others. Apart from the answers
// (local-messages.ts), so that the client starts without it.

import { z } from 'zod';
import { assertedSchema } from '../../native-free/reconcile/documents.ts';
import { address, attachment } from '../../native-free/registry/model.ts';
import { networkKey } from '../../native-free/registry/network-key.ts';

export const attachRequestSchema = z.strictObject({
  network: networkKey,
  /** A path that names a network namespace, e.g. /run/netns/x or /proc/123/ns/net. */
  netns: z.string().startsWith('/', 'write the whole path, starting with "/"').max(4096),
  /** The workload's name; the agent makes one up when absent. */
  workload: attachment.shape.workload.min(1, 'it is empty: leave it out, or name the workload').optional(),
  /** Default: the network's name, or what `defaultInterfaceName` makes of a long one. */
  interfaceName: z.string().min(1).max(64).optional(),
  labels: attachment.shape.labels.optional(),
  /** What rules of admission are told beside: of no pod that anybody knows. */
  asserted: assertedSchema.optional(),
  /** Exactly these, one of a family at most. Default: any of this node's. */
  addresses: z
    .array(address)
    .max(2)
    .refine(
      (all) => new Set(all.map((one) => one.includes(':'))).size === all.length,
      'give one of each family at most',
    )
    .optional(),
  /** How long to wait for a network that is not available now, before the answer is "pending". Default: 10 s. */
  waitMs: z.number().int().min(0).max(600_000).optional(),
  /** Whether a network that does not exist is waited for as well, and not refused. */
  awaitNetwork: z.boolean().optional(),
});
export type AttachRequest = z.infer<typeof attachRequestSchema>;

export const stockPeerNameSchema = z.strictObject({
  network: networkKey,
  name: attachment.shape.workload.min(1, 'it is empty: name the peer'),
});
export type StockPeerName = z.infer<typeof stockPeerNameSchema>;

export const stockPeerRequestSchema = stockPeerNameSchema.extend({
  /** 32 B in base64. */
  publicKey: z.base64('a public key is 32 bytes in base64').length(44, 'a public key is 32 bytes in base64'),
  addresses: attachRequestSchema.shape.addresses,
});
export type StockPeerRequest = z.infer<typeof stockPeerRequestSchema>;

export const detachRequestSchema = z.union([
  z.strictObject({ id: z.string().min(1).max(64) }),
  z.strictObject({ network: z.string().max(319), netns: z.string().startsWith('/').max(4096) }),
]);
export type DetachRequest = z.infer<typeof detachRequestSchema>;
