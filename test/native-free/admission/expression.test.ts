import { Environment } from '@marcbachmann/cel-js';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ExpressionInput, MAX_COST, Unknown } from '../../../native-free/admission/evaluation.ts';
import { compileExpression } from '../../../native-free/admission/expression.ts';
import { Vl3Error } from '../../../native-free/error.ts';

const ledger: ExpressionInput = {
  trustDomain: 'partner.example',
  cluster: 'west',
  node: 'alpha',
  namespace: 'billing',
  serviceAccount: 'ledger',
  workload: 'ledger-0',
  labels: new Map([
    ['app', 'ledger'],
    ['vl3.io/tier', 'gold'],
  ]),
};

const holds = (text: string, input = ledger): boolean | Unknown => compileExpression(text).evaluate(input);

const refusal = (text: string): string => {
  try {
    compileExpression(text);
    return 'accepted';
  } catch (error) {
    if (error instanceof Vl3Error && error.code === 'invalid-argument') return error.message;
    throw error;
  }
};

describe('an expression', () => {
  test.each([
    ['namespace == "billing" && labels.app == "ledger"', true],
    ['namespace=="billing"', true],
    ['serviceAccount in ["default", "ledger"]', true],
    ['node != "alpha"', false],
    ['!(node == "alpha") || cluster.startsWith("w")', true],
    ['trustDomain.endsWith(".example")', true],
    ['workload.contains("dger")', true],
    ['workload.matches("^ledger-[0-9]+$")', true],
    ['"app" in labels && !has(labels.other)', true],
    ['labels["vl3.io/tier"] == "gold"', true],
    ['labels.exists(key, key == "app" && labels[key] == "ledger")', true],
    ['labels.all(key, labels[key] != "")', true],
    ['["a", "b"].exists_one(x, x == "a")', true],
    ['size(labels) == 2 && labels.size() < 3 && "é".size() == 1', true],
    ['cluster == "west" ? node == "alpha" : false', true],
    ['1 < 2 && 2 >= 2 && 3 > 2 && 2 <= 2', true],
  ])('says of a workload: %s', (text, expected) => {
    expect(holds(text)).toBe(expected);
  });

  test('cannot be said of a workload without the label, unless the rest decides', () => {
    expect(holds('labels.missing == "x"')).toEqual(new Unknown('there is no label "missing"'));
    expect(holds('labels.missing != "x"')).toBeInstanceOf(Unknown);
    expect(holds('labels.missing == "x" || node == "alpha"')).toBe(true);
    expect(holds('labels.missing == "x" && node == "beta"')).toBe(false);
    expect(holds('labels.__proto__ == "x"')).toBeInstanceOf(Unknown);
    expect(holds('has(labels.constructor)')).toBe(false);
  });

  test('leaves the word namespace alone inside texts and after a dot', () => {
    const other = { ...ledger, workload: 'namespace', labels: new Map([['namespace', 'n']]) };
    expect(holds('workload == "namespace"', other)).toBe(true);
    expect(holds("workload == 'namespace' // namespace", other)).toBe(true);
    expect(holds('workload == "\\"" || labels["namespace"] == "n"', other)).toBe(true);
  });

  test.each([
    ['namespace == 1', /no such overload: string == int/],
    ['nobody == "a"', /Unknown variable: nobody \(at character 1\)/],
    ['nameSpace == "a"', /Unknown variable/],
    ['node', /must be true or false/],
    ['node ==', /expression does not hold up/],
    ['', /expression does not hold up/],
    ['node + "x" == "ax"', /"\+" is not for rules/],
    ['labels.map(k, k + k).size() > 1', /is not for rules/],
    ['node.matches(labels.app)', /write the pattern of matches\(\) out/],
    ['node.matches("(")', /pattern of matches\(\) is no good/],
    ['node.matches("a{900}")', /states/],
    ['node.matches("((a{100}){100}){100}")', /pattern of matches\(\) is no good/],
    ['cel.bind(x, node, x == "a")', /is not for rules/],
    ['type(node) == string', /is not for rules/],
    ['dyn(1) == 1', /is not for rules/],
    ['bytes(node) == b"a"', /./],
    ['labels == labels', /cannot be compared/],
    ['r"a\\" == node', /without the prefix "r"/],
    ['"""namespace""" == node', /write texts between/],
    ['timestamp("2026-01-01T00:00:00Z") == timestamp("2026-01-01T00:00:00Z")', /is not for rules/],
    ['google == google', /is not for rules/],
    ['1.5 < 2.5', /only texts, whole numbers/],
  ])('is refused with what is wrong: %s', (text, message) => {
    expect(refusal(text)).toMatch(message);
  });

  test('that is large, deep or dear is refused when it is written', () => {
    expect(refusal(`node == "${'a'.repeat(3000)}"`)).toMatch(/characters long/);
    expect(refusal(`${'('.repeat(500)}true${')'.repeat(500)}`)).toMatch(/maxDepth/);
    expect(refusal(`${'!'.repeat(2000)}true`)).toMatch(/max/);
    expect(refusal(Array.from({ length: 200 }, () => 'true').join('||'))).toMatch(/maxAstNodes/);
    expect(refusal(`node in [${Array.from({ length: 65 }, () => '"a"').join()}]`)).toMatch(/maxListElements/);
    expect(refusal('labels.all(a, labels.all(b, labels.all(c, a == b)))')).toMatch(
      new RegExp(`and ${MAX_COST} are the most`),
    );
  });

  test('matches in time that is linear in the text', () => {
    const workload = `${'a'.repeat(252)}!`;
    for (const pattern of ['^(a+)+$', '^(a|aa)*$', '^(.*)*x$', '(a*)*b'])
      expect(holds(`workload.matches("${pattern}")`, { ...ledger, workload })).toBe(false);
  });

  test('means what it means to another evaluator', () => {
    const environment = ['trustDomain', 'cluster', 'node', 'nameSpace', 'serviceAccount', 'workload']
      .reduce((made, name) => made.registerVariable(name, 'string'), new Environment())
      .registerVariable('labels', 'map<string, string>');
    const text = fc.constantFrom('"a"', '"b"', 'node', 'cluster', 'labels.app', 'labels["b"]', 'namespace');
    const { condition } = fc.letrec<{ condition: string; bool: string }>((tie) => ({
      bool: fc.oneof(
        { maxDepth: 3 },
        fc.tuple(text, fc.constantFrom('==', '!='), text).map(([a, op, b]) => `${a} ${op} ${b}`),
        fc.tuple(text, text, text).map(([a, b, c]) => `${a} in [${b}, ${c}]`),
        text.map((a) => `${a} in labels`),
        fc.constantFrom('has(labels.app)', 'true', 'false', 'size(labels) > 1', 'node.matches("^a?$")'),
        fc.tuple(text, text).map(([a, b]) => `${a}.startsWith(${b})`),
        fc
          .tuple(fc.constantFrom('all', 'exists', 'exists_one'), tie('bool'), text)
          .map(([of, body, a]) => `labels.${of}(k, k == ${a} || labels[k] == ${a} && ${body})`),
        fc
          .tuple(fc.constantFrom('all', 'exists', 'exists_one'), text, text)
          .map(([of, a, b]) => `[${a}, "b"].${of}(x, x != ${b})`),
        fc
          .tuple(tie('bool'), fc.constantFrom('&&', '||'), tie('bool'))
          .map(([a, op, b]) => `(${a} ${op} ${b})`),
        tie('bool').map((a) => `!(${a})`),
        fc.tuple(tie('bool'), tie('bool'), tie('bool')).map(([a, b, c]) => `(${a} ? ${b} : ${c})`),
      ),
      condition: tie('bool'),
    }));
    const name = fc.constantFrom('a', 'b', '');
    const input = fc.record({
      trustDomain: name,
      cluster: name,
      node: name,
      namespace: name,
      serviceAccount: name,
      workload: name,
      labels: fc
        .array(fc.tuple(fc.constantFrom('app', 'a', 'b'), name), { maxLength: 3 })
        .map((entries) => new Map(entries)),
    });
    fc.assert(
      fc.property(condition, input, (expression, subject) => {
        const refused = refusal(expression);
        fc.pre(refused === 'accepted');
        const ours = compileExpression(expression).evaluate(subject);
        const { namespace: nameSpace, ...rest } = subject;
        let theirs: unknown;
        try {
          theirs = environment.evaluate(expression.replaceAll('namespace', 'nameSpace'), {
            ...rest,
            nameSpace,
          });
        } catch {
          theirs = 'unknown';
        }
        expect(ours instanceof Unknown ? 'unknown' : ours).toBe(theirs);
      }),
      { numRuns: 2000 },
    );
  });
});
