// What decides about admission: conditions that admins write, and what is signed about it as it comes from elsewhere.

import { Environment } from '@marcbachmann/cel-js';
import { MAX_COST, Unknown } from '../../../native-free/admission/evaluation.ts';
import { checkLog } from '../../../native-free/admission/exported-log.ts';
import { compileExpression } from '../../../native-free/admission/expression.ts';
import { encodeGrant, type Grant, readGrant } from '../../../native-free/admission/grant.ts';
import { NO_LOG } from '../../../native-free/registry/admission-log.ts';
import type { Source } from '../source.ts';
import { accepted, must, mustEqual, pure } from '../target.ts';

const CONDITIONS = [
  'namespace == "billing" && labels.app == "ledger"',
  'labels.exists(k, k.startsWith("team") && labels[k] in ["a", \'b\'])',
  'node.matches("^(edge|core)-[0-9]+$") || !has(labels.app)',
  '["a", "b"].all(x, x != cluster) ? size(labels) >= 2 : serviceAccount.contains("s")',
  'labels.all(a, labels.exists_one(b, a == b))',
  'trustDomain in [workload, "x"] // namespace',
  '{"a": 1}.a == 1 || [1, 2].map(x, x * 2).size() == 2',
  'cel.bind(x, node, x == "a") || type(node) == string',
  'r"\\n" == """namespace"""',
  'timestamp("2026-01-01T00:00:00Z").getFullYear() > 2000',
];

const WORDS = ['', 'a', 'billing', 'ledger', 'namespace', '__proto__', 'constructor', 'x'.repeat(253)];

/** The library's own evaluation, to hold ours to. */
const reference = ['trustDomain', 'cluster', 'node', 'nameSpace', 'serviceAccount', 'workload']
  .reduce((made, name) => made.registerVariable(name, 'string'), new Environment())
  .registerVariable('labels', 'map<string, string>');

const fuzzCondition = (source: Source): void => {
  const text = source.textLike(CONDITIONS, 300);
  const began = performance.now();
  const expression = accepted(['invalid-argument'], () => compileExpression(text));
  must(performance.now() - began < 2000, 'a condition that takes seconds to read');
  if (expression === undefined) return;
  must(expression.cost > 0 && expression.cost <= MAX_COST, 'a condition of unknown cost');
  const labels = new Map<string, string>();
  for (let n = source.between(0, 4); n > 0; n--)
    labels.set(source.pick(['app', ...WORDS]), source.pick(WORDS));
  const input = {
    trustDomain: source.pick(WORDS),
    cluster: source.pick(WORDS),
    node: source.pick(WORDS),
    namespace: source.pick(WORDS),
    serviceAccount: source.pick(WORDS),
    workload: source.pick(WORDS),
    labels,
  };
  const value = expression.evaluate(input);
  must(typeof value === 'boolean' || value instanceof Unknown, 'neither true, false nor unknown');
  mustEqual(expression.evaluate(input), value, 'asked again');
  // Patterns mean something else there, and texts may hold the word that is spelled otherwise.
  if (/matches|["'`]/.test(text) && text.includes('namespace')) return;
  if (text.includes('matches')) return;
  const { namespace: nameSpace, ...rest } = input;
  let theirs: unknown;
  try {
    theirs = reference.evaluate(text.replaceAll('namespace', 'nameSpace'), { ...rest, nameSpace });
  } catch {
    theirs = 'unknown';
  }
  mustEqual(value instanceof Unknown ? 'unknown' : value, theirs, `what "${text}" means`);
};

const GRANT: Grant = {
  trustDomain: 'home.example',
  network: 'red',
  networkUid: 'uid-red',
  nodeDomain: 'partner.example',
  node: 'n1',
  isWhole: false,
  addresses: ['10.60.0.7', 'fd00:60::7'],
  storeId: 'store',
  sequence: 1_700_000_000_000,
  notBefore: 1_700_000_000_000,
  notAfter: 1_700_600_000_000,
};
const encoded = encodeGrant(GRANT);
const whole = encodeGrant({ ...GRANT, nodeDomain: 'home.example', isWhole: true, addresses: [] });

const fuzzGrant = (source: Source): void => {
  const bytes = source.mutated(source.pick([encoded, whole]), 6);
  const grant = readGrant(bytes);
  if (grant !== undefined) mustEqual(encodeGrant(grant), bytes, 'the grant there and back');
  const entry = new TextEncoder().encode(
    JSON.stringify({ sequence: 1, at: 1, kind: 'refused', network: 'red', previous: NO_LOG.hash }),
  );
  const lines = Array.from({ length: source.between(0, 3) }, () => source.mutated(entry, 3));
  const signed = { record: bytes, signature: source.take(64), certificateChain: [source.some(8)] };
  const { entries, problems } = checkLog(lines, signed, () => undefined, 1);
  must(problems.includes('its head is not signed by the domain'), 'a head that nobody signed');
  must(entries.length <= lines.length, 'more entries than there are lines');
};

export const admissionTargets = [
  pure(
    'condition',
    'a condition is refused with a sentence, or means what CEL says, at a known cost',
    300,
    fuzzCondition,
  ),
  pure('grant', 'a grant or a log of decisions is read in its one form, or not at all', 300, fuzzGrant),
];
