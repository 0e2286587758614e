// What the services share.

import type { Logger } from 'pino';
import type { BundleEndpoint } from '../../native-free/federation/endpoint.ts';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import type { ChoosePrefix } from '../../native-free/registry/lease-choice.ts';
import type { LeaseTerms } from '../../native-free/registry/lease-terms.ts';
import type { VerifyRecord } from '../../native-free/registry/record.ts';
import type { Signer } from '../identity/signer.ts';
import type { AdmissionKeeper } from './admission-keeper.ts';
import type { Backups } from './backup.ts';
import type { Clusters } from './clusters.ts';
import type { Feed } from './feed.ts';
import type { Hearing } from './hearing.ts';
import type { Heartbeats } from './heartbeats.ts';
import type { OwnBundle } from './own-bundle.ts';
import type { OwnStatement } from './own-statement.ts';
import type { PartnerLinks } from './partner-links.ts';
import type { Partners } from './partners.ts';
import type { PositionStamps } from './position-stamps.ts';
import type { Store } from './store.ts';
import type { Transactor } from './transactor.ts';

export interface RegistryContext {
  readonly store: Store;
  readonly transactor: Transactor;
  readonly feed: Feed;
  readonly heartbeats: Heartbeats;
  readonly hearing: Hearing;
  readonly stamps: PositionStamps;
  readonly backups: Backups;
  readonly signer: Signer;
  readonly admissionKeeper: AdmissionKeeper;
  readonly partners: Partners;
  readonly partnerLinks: PartnerLinks;
  readonly ownBundle: OwnBundle;
  readonly ownStatement: OwnStatement;
  /** Verifies what nodes of the domain and of its partners signed. */
  readonly verifyRecord: VerifyRecord;
  /** How partners reach this domain. */
  readonly ownAddress: () => {
    readonly registries: readonly string[];
    readonly bundleEndpoint: BundleEndpoint;
  };
  readonly choosePrefix: ChoosePrefix;
  readonly terms: LeaseTerms;
  /** What no network's pool should overlap: who creates one is warned. */
  readonly reservedRanges: readonly Prefix[];
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** The pasteable join token around a fresh secret: addresses and CA fingerprint are the registry's. */
  readonly formatJoinToken: (secret: string) => string;
  /** Whose nodes enrol by their word; undefined: there are none. */
  readonly clusters: Clusters | undefined;
  readonly counters: Counters;
  /** Aborts when the registry stops: open watches end. */
  readonly stopping: AbortSignal;
  /** How often a quiet watch says that it is alive. */
  readonly progressMs: number;
}

export class Counters {
  watchers = 0;
  /** Since a node announced too often. */
  refusedAnnouncements = 0;
  /** Attachments that no rule admitted, each time that they were asked for, by network. */
  readonly refusedAdmissions = new Map<string, number>();
  /** Those of partners' nodes among them, by domain. */
  readonly refusedForeignAdmissions = new Map<string, number>();
  readonly refusedEnrolments = new Map<string, number>();

  /** Calls of partners' nodes, by domain. */
  readonly refusedForeign = new Map<string, number>();

  /** Of invitations that were shown, by reason. */
  readonly refusedFederations = new Map<string, number>();

  countFederationRefusal(reason: string): void {
    this.refusedFederations.set(reason, (this.refusedFederations.get(reason) ?? 0) + 1);
  }

  /** `domain`: the partner's; undefined: it was a node of the own domain. */
  countAdmissionRefusals(count: number, network: string, domain: string | undefined): void {
    if (count === 0) return;
    const { refusedAdmissions, refusedForeignAdmissions } = this;
    refusedAdmissions.set(network, (refusedAdmissions.get(network) ?? 0) + count);
    if (domain === undefined) return;
    refusedForeignAdmissions.set(domain, (refusedForeignAdmissions.get(domain) ?? 0) + count);
  }

  countForeignRefusal(domain: string): void {
    this.refusedForeign.set(domain, (this.refusedForeign.get(domain) ?? 0) + 1);
  }

  countRefusal(reason: string): void {
    this.refusedEnrolments.set(reason, (this.refusedEnrolments.get(reason) ?? 0) + 1);
  }
}
