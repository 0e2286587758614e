// The vocabulary of the registry's store: entries with revisions, and compare-and-swap transactions. Shaped like
// etcd's KV API, so that rules can decide with values alone and any store can carry their decisions out.
// Not here: the store (src/registry/store.ts), and what the values mean (model.ts).

/** One key as read at some revision. */
export interface Entry {
  readonly key: string;
  readonly value: Uint8Array;
  /** The revision at which the key came to be, and at which it was last written. */
  readonly createRevision: number;
  readonly modRevision: number;
  /** The lease whose end deletes the key. */
  readonly lease: string | undefined;
}

/** What to read: one key, or every key below a prefix (at most `limit`, in key order). */
export type Range = { readonly key: string } | { readonly prefix: string; readonly limit?: number };

/** All entries of some ranges at one revision. */
export interface ReadResult {
  readonly revision: number;
  readonly entries: readonly Entry[];
}

export type Compare =
  /** The key was last written at this revision; 0: it does not exist. */
  | { readonly kind: 'revision-is'; readonly key: string; readonly revision: number }
  /** No key below the prefix was written after this revision (deletions do not count, as in etcd). */
  | { readonly kind: 'none-newer'; readonly prefix: string; readonly revision: number };

export type Operation =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array; readonly lease?: string }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'delete-prefix'; readonly prefix: string };

/** What a rule decided: carried out only if every compare holds, else read and decide again. */
export interface Plan<Answer> {
  readonly compares: readonly Compare[];
  /** Empty: nothing changes, and the answer stands without a transaction. */
  readonly operations: readonly Operation[];
  readonly answer: Answer;
}

/** One key's change: a new value, or undefined when it was deleted. */
export interface Change {
  readonly key: string;
  readonly value: Uint8Array | undefined;
  readonly createRevision: number;
}

/** Everything that one transaction changed. */
export interface Batch {
  readonly revision: number;
  readonly changes: readonly Change[];
}

/** etcd's default limit: compares and operations of one transaction, each. */
export const MAX_OPERATIONS = 128;

/** The first key after all those below the prefix. Keys are printable ASCII. */
export const prefixEnd = (prefix: string): string =>
  prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
