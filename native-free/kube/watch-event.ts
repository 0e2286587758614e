// One line of a Kubernetes watch: what changed, how far it is (a bookmark), or that what was seen last is too long ago
// (410 Gone), so that everything has to be listed anew.

import { z } from 'zod';

export type WatchEvent =
  | { readonly kind: 'present'; readonly object: unknown; readonly resourceVersion: string }
  | { readonly kind: 'deleted'; readonly object: unknown; readonly resourceVersion: string }
  | { readonly kind: 'bookmark'; readonly resourceVersion: string }
  | { readonly kind: 'gone' }
  | { readonly kind: 'failed'; readonly message: string };

export const GONE = 410;

const versioned = z.object({ metadata: z.object({ resourceVersion: z.string().min(1) }) });
const statusSchema = z.object({ code: z.number().optional(), message: z.string().optional() });

export const readWatchEvent = (type: string, object: unknown): WatchEvent => {
  if (type === 'ERROR') {
    const { data } = statusSchema.safeParse(object);
    if (data?.code === GONE) return { kind: 'gone' };
    return { kind: 'failed', message: (data?.message ?? 'it says ERROR and nothing else').slice(0, 500) };
  }
  const { data } = versioned.safeParse(object);
  // Without a version nobody knows where to go on from.
  if (data === undefined)
    return { kind: 'failed', message: `an event "${type.slice(0, 32)}" has no version` };
  const { resourceVersion } = data.metadata;
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
      return { kind: 'present', object, resourceVersion };
    case 'DELETED':
      return { kind: 'deleted', object, resourceVersion };
    case 'BOOKMARK':
      return { kind: 'bookmark', resourceVersion };
    default:
      return { kind: 'failed', message: `an event of the unknown type "${type.slice(0, 32)}"` };
  }
};
