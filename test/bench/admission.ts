// How many attachments a registry decides on in a second of its processor's time, with many rules: the decision alone, for a
// workload that the last rule admits and for one that none does, and whole calls to a registry over TLS that store what was
// decided, sign the grant and write the log. Beside it the same calls on a network that nobody has made rules for.

import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { decide, type Subject } from '../../native-free/admission/decision.ts';
import type { AdmissionRule } from '../../native-free/admission/rule.ts';
import { enroll } from '../../src/identity/enroll.ts';
import { parseJoinToken } from '../../src/identity/token.ts';
import { ruleMessage } from '../../src/registry/admission-messages.ts';
import { connectAdmin, connectAdmission, connectAgent } from '../../src/registry/client.ts';
import { startRegistry } from '../../src/registry/server.ts';
import { quantile } from '../lab/spread.ts';

const DECISIONS = 2000;
const CALLS = 200;

/** A mix of what admins write: some by namespace, some by label, most by a condition. */
const ruleAt = (i: number): Pick<AdmissionRule, 'name'> & Partial<AdmissionRule> => {
  const name = `rule-${i}`;
  if (i % 4 === 0) return { name, namespace: `team-${i}` };
  if (i % 4 === 1) return { name, labels: { app: `app-${i}`, tier: 'gold' } };
  if (i % 4 === 2)
    return { name, workload: `namespace == "team-${i}" && labels.app in ["app-${i}", "other"]` };
  return { name, workload: `labels.app.startsWith("app-${i}-") || node.matches("^edge-${i}-[0-9]+$")` };
};

const subject: Subject = {
  trustDomain: 'bench.example',
  cluster: '',
  node: 'n1',
  namespace: 'team-x',
  serviceAccount: 'default',
  workload: 'web-0',
  labels: { app: 'ledger', tier: 'silver' },
};

const processorSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

const row = (name: string, values: readonly number[]): void => {
  const shown = [0.5, 0, 1].map((at) => Math.round(quantile([...values], at)).toLocaleString('en'));
  console.log(`${name.padEnd(62)} ${shown[0]?.padStart(9)}   ${shown[1]} to ${shown[2]}`);
};

export const benchAdmission = async (count: number, repetitions: number): Promise<void> => {
  const load = () => loadavg()[0]?.toFixed(1);
  console.log(
    `decisions a second of processor time with ${count} rules (median, range of ${repetitions}; load ${load()})\n`,
  );
  const rules = Array.from(
    { length: count },
    (_, i): AdmissionRule => ({
      network: 'red',
      trustDomain: 'bench.example',
      isDryRun: false,
      createdAt: 0,
      ...ruleAt(i),
    }),
  );
  const last: AdmissionRule = {
    ...rules[0],
    network: 'red',
    name: 'last',
    trustDomain: 'bench.example',
    isDryRun: false,
    createdAt: 0,
    namespace: 'team-x',
  };
  const measure = (all: readonly AdmissionRule[]): number => {
    const began = processorSeconds();
    for (let i = 0; i < DECISIONS; i++) decide(all, subject);
    return DECISIONS / (processorSeconds() - began);
  };
  const [none, admitted]: [number[], number[]] = [[], []];
  const withLast = [...rules, last];
  measure(rules);
  for (let i = 0; i < repetitions; i++) {
    none.push(measure(rules));
    admitted.push(measure(withLast));
  }
  row('decided alone, no rule admits', none);
  row('decided alone, the last rule admits', admitted);
  await benchCalls(rules.slice(0, 1000), repetitions);
  console.log(`\nload at the end ${load()}`);
};

const benchCalls = async (rules: readonly AdmissionRule[], repetitions: number): Promise<void> => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3-bench-'));
  try {
    await using registry = await startRegistry(
      {
        stateDirectory: join(directory, 'registry'),
        trustDomain: 'bench.example',
        listen: { host: '127.0.0.1', port: 0 },
      },
      { logger: pino({ level: 'silent' }) },
    );
    await using admin = await connectAdmin(registry.adminFile);
    await using admission = await connectAdmission(registry.adminFile);
    for (const [name, pool] of [
      ['open', '10.60.0.0/16'],
      ['red', '10.61.0.0/16'],
    ] as const)
      await admin.client.createNetwork({ network: { name, poolV4: pool, nodePrefixLengthV4: 20 } });
    const began = processorSeconds();
    for (const rule of rules) await admission.client.createAdmissionRule({ rule: ruleMessage(rule) });
    const all = { network: 'red', name: 'all', workload: 'labels.app == "ledger"' };
    await admission.client.createAdmissionRule({ rule: all });
    console.log(
      `\n${rules.length} rules made in ${(processorSeconds() - began).toFixed(1)} s of processor time\n`,
    );
    await admission.client.deleteAdmissionRule({ network: 'red', name: 'home' });
    const { joinToken } = await admin.client.createToken({});
    const identity = await enroll({
      token: parseJoinToken(joinToken),
      node: 'n1',
      directory: join(directory, 'n1'),
    });
    await using agent = await connectAgent(identity);
    for (const network of ['open', 'red']) await agent.client.joinNetwork({ network });
    const [open, red]: [number[], number[]] = [[], []];
    for (let i = 0; i < repetitions; i++) {
      open.push(await attachments(agent.client, 'open', '10.60', i));
      red.push(await attachments(agent.client, 'red', '10.61', i));
    }
    row('attached by a call each, node included, without rules', open);
    row(`attached by a call each, node included, with ${rules.length + 1} rules`, red);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

type Agent = Awaited<ReturnType<typeof connectAgent>>['client'];

/** Calls that attach one workload each, as fast as a node may call: those a second of processor time of node and registry. */
const attachments = async (client: Agent, network: string, start: string, round: number): Promise<number> => {
  await client.putAttachments({ network, attachments: [] });
  const one = (i: number) => ({
    id: `r${round}-${i}`,
    workload: 'web-0',
    addresses: [`${start}.${i >> 8}.${(i & 255) + (i >> 8 === 0 ? 2 : 0)}`],
    interfaceName: network,
    labels: { app: 'ledger' },
  });
  const began = processorSeconds();
  for (let i = 1; i <= CALLS; i++) {
    // One each time: what a real node has already it tells again, which costs the same with rules and without.
    await client.putAttachments({ network, attachments: [one(i)] });
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  return CALLS / (processorSeconds() - began);
};
