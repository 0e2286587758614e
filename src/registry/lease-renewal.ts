// RenewLeases and TestifyRecords: a node says what it holds, and what it has heard of others. One transaction a network or
// a record, each safe to repeat; what they decide is native-free/registry/renewal-rules and testimony-rules.

import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { adoptNetwork } from '../../native-free/registry/adoption-rules.ts';
import { foreignDomainOf, foreignKey } from '../../native-free/registry/foreign-key.ts';
import { all, below, keys, one } from '../../native-free/registry/keys.ts';
import { check, name as nameSchema, type Report } from '../../native-free/registry/model.ts';
import { decodeVerified } from '../../native-free/registry/record.ts';
import { finishReport, recoveryOf } from '../../native-free/registry/recovery-rules.ts';
import {
  disownMembership,
  type Holding,
  type LeaseAnswer,
  renewHolding,
} from '../../native-free/registry/renewal-rules.ts';
import { mustBeMember, mustBeNetwork } from '../../native-free/registry/rules.ts';
import { formatSpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { testify } from '../../native-free/registry/testimony-rules.ts';
import {
  LeaseAnswer_Outcome as Outcome,
  type RenewLeasesRequest,
  type TestifyRecordsRequest,
} from '../api/generated/vl3/v1/agent_pb.js';
import { parseCertificate } from '../identity/certificate.ts';
import type { RegistryContext } from './context.ts';
import { networkOf, storedRecord } from './messages.ts';
import { printable } from './printable.ts';

/** Of one node. */
const MAX_HOLDINGS = 1024;
const MAX_TESTIMONY = 64;
/** Of one report: people read them. */
const MAX_CONFLICTS = 16;
const MAX_CONFLICT_LENGTH = 512;
const MAX_PENDING = 128;
/** Of one call, about what was not renewed. */
const MAX_LINES = 16;
const MAX_PREFIXES_A_LINE = 8;
/** What comes back in sentences: for people, and for each lease. */
const NETWORK_UID = /^[A-Za-z0-9._-]{0,64}$/;

const OUTCOMES = { renewed: Outcome.RENEWED, pending: Outcome.PENDING, lost: Outcome.LOST } as const;

export const isRecovering = async ({ transactor }: RegistryContext): Promise<boolean> =>
  recoveryOf(await transactor.read([one(keys.domain)])) !== undefined;

const holdingsOf = ({ holdings }: RenewLeasesRequest): Holding[] => {
  if (holdings.length > MAX_HOLDINGS) {
    throw new Vl3Error('invalid-argument', `holdings: a node is on at most ${MAX_HOLDINGS} networks`);
  }
  const seen = new Set<string>();
  return holdings.map(({ network, leases }, index) => {
    if (network === undefined) {
      throw new Vl3Error('invalid-argument', `holdings[${index}].network: it is missing`);
    }
    if (seen.has(network.name)) {
      throw new Vl3Error('invalid-argument', `holdings[${index}]: network "${network.name}" comes twice`);
    }
    seen.add(network.name);
    if (!NETWORK_UID.test(network.uid)) {
      throw new Vl3Error('invalid-argument', `holdings[${index}].network.uid: no network has such a uid`);
    }
    return {
      network: networkOf(network),
      isRestricted: network.isRestricted,
      leases: leases.map(({ prefix, leasedAt, requestId, expired }) => ({
        prefix,
        leasedAt: leasedAt === undefined ? 0 : timestampMs(leasedAt),
        ...(requestId !== '' && { requestId }),
        isExpired: expired,
      })),
    };
  });
};

export const renewLeases = async (context: RegistryContext, node: string, request: RenewLeasesRequest) => {
  const { transactor, now, logger, terms } = context;
  const holdings = holdingsOf(request);
  await context.hearing.hear(context, node, request);
  const conflicts: string[] = [];
  const pending: Report['pending'] = [];
  let lines = 0;
  const answers: { network: string; prefix: string; outcome: Outcome; reason: string }[] = [];
  const isForeign = foreignDomainOf(node) !== undefined;
  // No partner's node says here which networks there are.
  if (!isForeign && (await isRecovering(context))) {
    for (const { network, isRestricted = false } of holdings) {
      const { answer } = await transactor.run(adoptNetwork(node, network));
      if (answer.kind === 'refused') conflicts.push(answer.reason);
      if (isRestricted && (await isOpen(context, network.name))) conflicts.push(rulesLost(network.name));
      if (answer.kind !== 'adopted') continue;
      const { name, uid, poolV4, poolV6 } = network;
      logger.warn(
        { node, network: name, uid, poolV4, poolV6 },
        'network was unknown here: taken from a node',
      );
    }
  }
  for (const holding of holdings) {
    const network = holding.network.name;
    const { answer } = await transactor.run(renewHolding(node, holding, now()));
    for (const { prefix, outcome, reason } of answer.answers) {
      answers.push({ network, prefix, outcome: OUTCOMES[outcome], reason });
      const isExpired = holding.leases.find((lease) => lease.prefix === prefix)?.isExpired ?? false;
      if (outcome === 'pending' && !isExpired) pending.push({ network, prefix });
    }
    if (lines < MAX_LINES && logNotRenewed(logger, { node, network }, answer.answers)) lines++;
    conflicts.push(...answer.conflicts);
  }
  const recovering = await report(context, node, holdings, {
    pending: pending.slice(0, MAX_PENDING),
    conflicts: conflicts.slice(0, MAX_CONFLICTS).map((one) => printable(one, MAX_CONFLICT_LENGTH)),
  });
  return { answers, leaseTermMs: BigInt(terms.termMs), recovering };
};

const isOpen = async ({ transactor }: RegistryContext, network: string): Promise<boolean> => {
  const state = await transactor.read([one(keys.ruleset(network))]);
  return state.ruleset(network)?.value.isOpen ?? true;
};

/** Nobody is cut off by it; but everyone may come. */
const rulesLost = (network: string): string =>
  `network "${network}" admitted by rules that this registry has lost: everyone of the domain is admitted until they are made again (vl3 admission create)`;

/** One line a network; whether there was anything to say. */
const logNotRenewed = (
  logger: Logger,
  where: { readonly node: string; readonly network: string },
  answers: readonly LeaseAnswer[],
): boolean => {
  const refused = answers.filter(({ outcome }) => outcome !== 'renewed');
  const [first] = refused;
  if (first === undefined) return false;
  const prefixes = refused.slice(0, MAX_PREFIXES_A_LINE).map(({ prefix }) => prefix);
  const { outcome, reason } = first;
  logger.warn({ ...where, leases: refused.length, prefixes, outcome, reason }, 'lease not renewed');
  return true;
};

/** In a recovery: where the node is not, and that it has spoken. Answers whether the registry recovers. */
const report = async (
  context: RegistryContext,
  node: string,
  holdings: readonly Holding[],
  found: Pick<Report, 'pending' | 'conflicts'>,
): Promise<boolean> => {
  const { transactor, now, logger } = context;
  if (!(await isRecovering(context))) return false;
  const named = new Set(holdings.map(({ network }) => network.name));
  const state = await transactor.read([all(below.members())]);
  for (const { value } of state.members()) {
    if (value.node !== node || named.has(value.network)) continue;
    const { answer } = await transactor.run(disownMembership(value.network, node, now()));
    const freed = answer.map(({ prefix }) => prefix);
    logger.info({ node, network: value.network, freed }, 'node says that it is not on a network any more');
  }
  // Nobody waits for a partner's.
  if (foreignDomainOf(node) !== undefined) return true;
  const { answer } = await transactor.run(finishReport(node, found));
  if (answer.recovering) logger.info({ node, networks: [...named] }, 'node has said what it holds');
  return answer.recovering;
};

/** What does not verify, and what holds against a record, is left out in silence: its bearer may just be behind. */
export const testifyRecords = async (
  context: RegistryContext,
  witness: string,
  { network, records }: TestifyRecordsRequest,
): Promise<{ restored: number }> => {
  const { transactor, feed, now, logger, signer } = context;
  check(nameSchema, network, 'network');
  if (records.length > MAX_TESTIMONY) {
    throw new Vl3Error('invalid-argument', `records: give at most ${MAX_TESTIMONY} at once`);
  }
  const state = await transactor.read([one(keys.network(network)), one(keys.member(network, witness))]);
  mustBeMember(state, network, witness);
  const { value } = mustBeNetwork(state, network);
  let restored = 0;
  if (!(await isRecovering(context))) return { restored };
  for (const signed of records) {
    const expected = { network, networkUid: value.uid, home: signer.trustBundle.trustDomain };
    const decoded = decodeVerified(signed, context.verifyRecord, now(), expected);
    const [leaf] = signed.certificateChain;
    if (decoded.kind === 'refused' || leaf === undefined) continue;
    const { publicKey, trustDomain } = decoded.record;
    const isOwn = trustDomain === signer.trustBundle.trustDomain;
    const node = isOwn ? decoded.record.node : foreignKey(decoded.record.node, trustDomain);
    if ((feed.view.keyHolder(network, publicKey) ?? node) !== node) continue;
    const { serial, notAfter } = parseCertificate(leaf);
    const rule = testify(
      witness,
      {
        network,
        networkUid: value.uid,
        node,
        spiffeId: formatSpiffeId({ kind: 'node', trustDomain, name: decoded.record.node }),
        certificate: { serial, notAfter },
        record: storedRecord(signed, decoded.record),
      },
      now(),
    );
    const { answer } = await transactor.run(rule);
    if (answer !== 'restored') continue;
    restored++;
    const prefixes = decoded.record.prefixes.map(({ prefix }) => prefix);
    logger.info({ node, network, witness, prefixes }, 'record restored by testimony');
  }
  return { restored };
};
