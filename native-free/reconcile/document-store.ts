// What an agent keeps over restarts and crashes: small JSON documents by kind and name. This is what the agent's parts see
// of it; src/agent/state.ts keeps them in a file, the simulator on a disk that crashes.

import type { z } from 'zod';

/** A kind of document: its name in the store and the schema each one must fit. */
export interface DocumentKind<T> {
  readonly kind: string;
  readonly schema: z.ZodType<T>;
}

/** What is written is durable when the call returns; what cannot be read or written throws Vl3Error and changes nothing. */
export interface DocumentStore {
  get<T>(kind: DocumentKind<T>, name: string): T | undefined;
  /** By name. */
  list<T>(kind: DocumentKind<T>): { name: string; value: T }[];
  put<T>(kind: DocumentKind<T>, name: string, value: T): void;
  delete<T>(kind: DocumentKind<T>, name: string): void;
  /** Runs `change` as one transaction: all of its writes are kept, or none. May be nested. */
  transact<R>(change: () => R): R;
}
