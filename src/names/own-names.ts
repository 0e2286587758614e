// What this node announces of its workloads' names on one network: signed with its SVID, anew when they or the SVID changed.

import { parseAddress } from '../../native-free/ipam/prefix.ts';
import type { NamedAddresses } from '../../native-free/names/name-table.ts';
import { nameOf } from '../../native-free/names/own-names.ts';
import { fitted } from '../../native-free/names/signed-names.ts';
import type { AttachmentDocument } from '../../native-free/reconcile/documents.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import type { NamesContent } from '../identity/record-signer.ts';

export interface OwnNamesDeps {
  readonly network: string;
  readonly networkUid: string;
  /** Whose the network is. */
  readonly home: string;
  readonly attachments: () => readonly AttachmentDocument[];
  /** Whether others may be told of the name. */
  readonly mayName: (name: string) => boolean;
  readonly sign: (content: NamesContent) => SignedRecord;
  /** Changes when the SVID is renewed. */
  readonly svidId: () => string;
  readonly nextSequence: () => number;
  /** The highest that others know of. */
  readonly heardSequence: () => number;
}

export class OwnNames {
  readonly #deps: OwnNamesDeps;
  #signed: { readonly text: string; readonly sequence: number; readonly record: SignedRecord } | undefined;
  #left = 0;

  constructor(deps: OwnNamesDeps) {
    this.#deps = deps;
  }

  /** Of what is attached here. */
  get all(): NamedAddresses[] {
    return this.#deps.attachments().flatMap((attachment) => {
      const name = nameOf(attachment);
      const isThere = attachment.ready && !attachment.isLeaving;
      if (name === undefined || !isThere) return [];
      return [{ name, addresses: attachment.addresses.map(parseAddress) }];
    });
  }

  get problems(): string[] {
    if (this.#left === 0) return [];
    return [`${this.#left} names of this node are more than it can announce: only its own pods find them`];
  }

  /** The same as before while nothing has changed. */
  signed(): SignedRecord {
    const { network, networkUid, home, mayName, sign, svidId, nextSequence, heardSequence } = this.#deps;
    const { names, left } = fitted(this.all.filter(({ name }) => mayName(name)));
    this.#left = left;
    const of = names.map(({ name, addresses }) => [name, ...addresses.map(({ value }) => String(value))]);
    const text = `${svidId()} ${JSON.stringify(of)}`;
    const before = this.#signed;
    if (before?.text === text && before.sequence >= heardSequence()) return before.record;
    const sequence = nextSequence();
    const record = sign({ network, networkUid, home, names, sequence });
    this.#signed = { text, sequence, record };
    return record;
  }
}
