// What the CNI plugin may ask over the local API, checked where it arrives. A plugin of a later version may say more.

import { z } from 'zod';
import type { AddRequest, CheckRequest, GcRequest, Owner } from '../../native-free/cni/agent-messages.ts';
import { MAX_ANNOTATION_LENGTH } from '../../native-free/kube/annotation.ts';
import { ANNOTATION_KEYS } from '../../native-free/kube/asked.ts';
import { cniSchema, podSchema } from '../../native-free/reconcile/documents.ts';

const check = z.object({
  owner: cniSchema,
  netns: z.string().startsWith('/').max(4096),
  pod: podSchema.optional(),
  wanted: z.object({
    by: z.enum(['pod', 'namespace', 'configuration']),
    key: z.enum(ANNOTATION_KEYS),
    text: z
      .string()
      .max(
        MAX_ANNOTATION_LENGTH,
        `the annotation is longer than ${MAX_ANNOTATION_LENGTH} characters: ask for less`,
      ),
  }),
});
// The plugin reads none of this: it may be written with zod's own ideas of what is absent.
export const checkRequestSchema: z.ZodType<Wire<CheckRequest>> = check;
export const addRequestSchema: z.ZodType<Wire<AddRequest>> = check.extend({
  waitMs: z.number().int().min(0).max(600_000),
});
export const delRequestSchema: z.ZodType<{ owner: Owner }> = z.object({ owner: cniSchema });
export const gcRequestSchema: z.ZodType<GcRequest> = z.object({
  cniNetwork: z.string().max(253),
  valid: z.array(z.object({ containerId: z.string().max(253), ifName: z.string().max(15) })).max(100_000),
});

/** A field that is undefined is as good as absent. */
export type Wire<T extends { pod?: unknown }> = Omit<T, 'pod'> & { readonly pod?: T['pod'] | undefined };
