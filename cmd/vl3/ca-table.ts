// What is shown of a CA.

import type { GetCaResponse } from '../../src/api/generated/vl3/v1/ca_pb.js';
import type { Context } from './context.ts';
import { type OutputFormat, print, printTable } from './output.ts';
import { iso } from './timestamp.ts';

export const printCa = async (context: Context, output: OutputFormat, ca: GetCaResponse): Promise<void> => {
  const { trustDomain, isApart, nextStep, tokens, nodes, networks, leases } = ca;
  const authorities = ca.authorities.map((one) => ({
    state: one.state,
    fingerprint: one.fingerprint,
    since: iso(one.since),
    notAfter: iso(one.notAfter),
  }));
  const revoked = ca.revoked.map(({ node, until }) => ({ node, until: iso(until) }));
  const nextStepAt = iso(ca.nextStepAt);
  const partners = ca.partners.map(({ trustDomain, admits, caFingerprints, confirmedAt }) => ({
    trustDomain,
    networks: admits?.networks ?? [],
    caFingerprints,
    confirmedAt: iso(confirmedAt),
  }));
  const shown = {
    trustDomain,
    signer: isApart ? 'apart' : 'in-process',
    sequence: Number(ca.sequence),
    authorities,
    nextStep,
    nextStepAt,
    revoked,
    ...(isApart && { ledger: { tokens, nodes, networks, leases, partners } }),
  };
  await print(context, output, shown, () => {
    const where = isApart
      ? 'on a machine of its own: registry, store and backups hold no key of it'
      : "in the registry's process: whoever takes that over is the domain";
    context.out(`CA of ${trustDomain}, ${where}`);
    if (isApart)
      context.out(`on record: nodes ${nodes}  networks ${networks}  leases ${leases}  open tokens ${tokens}`);
    const from = nextStepAt === '' ? '' : `, from ${nextStepAt} on`;
    context.out(`next step of a rotation: ${nextStep}${from}`);
    context.out('');
    printTable(
      context,
      ['CA (SHA-256)', 'STATE', 'SINCE', 'UNTIL'],
      authorities.map((one) => [one.fingerprint, one.state, one.since, one.notAfter]),
    );
    if (partners.length > 0) {
      context.out('');
      printTable(
        context,
        ['PARTNER', 'MAY COME TO', 'CONFIRMED', 'CA (SHA-256)'],
        partners.map((one) => [
          one.trustDomain,
          one.networks.join(', ') || '-',
          one.confirmedAt === '' ? 'not yet' : one.confirmedAt,
          one.caFingerprints.join(', ') || '-',
        ]),
      );
    }
    if (revoked.length === 0) return;
    context.out('');
    printTable(
      context,
      ['REVOKED', 'VOID UNTIL'],
      revoked.map(({ node, until }) => [node, until]),
    );
  });
};
