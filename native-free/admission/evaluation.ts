// Evaluates a type-checked expression: compiled into functions once, since a registry asks a thousand rules for each
// attachment, and a rule whose label is not there is no exception worth a stack trace. What is not on the list here is
// refused when the rule is written, and so is what could cost too much; nothing is counted at run time.

import type { ASTNode } from '@marcbachmann/cel-js';
import { RE2JS } from 're2js';
import { Vl3Error } from '../error.ts';

/** What is known of a workload, as an expression sees it. */
export interface ExpressionInput {
  readonly trustDomain: string;
  readonly cluster: string;
  readonly node: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly workload: string;
  readonly labels: ReadonlyMap<string, string>;
}

/** It cannot be said: a label is not there, say. */
export class Unknown {
  readonly why: string;

  constructor(why: string) {
    this.why = why;
  }
}

export type Evaluate = (input: ExpressionInput) => boolean | Unknown;

type Value = string | bigint | boolean | Unknown | readonly Value[] | ReadonlyMap<string, string>;
type Type = 'string' | 'int' | 'bool' | 'list' | 'labels';
/** The values of iteration variables, the innermost last. */
type Run = (input: ExpressionInput, bound: readonly Value[]) => Value;

interface Part {
  readonly type: Type;
  /** Of the elements of a list. */
  readonly element?: Type;
  /** The most steps that it takes, and of a list how many elements it has. */
  readonly cost: number;
  readonly length?: number;
  readonly run: Run;
}

/** Names of iteration variables and their types, the innermost last. */
type Scope = readonly { readonly name: string; readonly type: Type }[];

/** A step looks at one value. A rule far from any limit takes a dozen. */
export const MAX_COST = 4096;
/** As many labels as a workload can have (registry/model.ts). */
const MAX_LABELS = 64;
/** States that a pattern may have, each a step for so many characters. */
const MAX_PATTERN_SIZE = 512;
const PATTERN_STEPS = 16;

/** Throws Vl3Error('invalid-argument') for what rules may not hold. `ast` was found to be of type bool. */
export const compile = (ast: ASTNode): { readonly evaluate: Evaluate; readonly cost: number } => {
  const { run, cost } = part(ast, []);
  if (cost > MAX_COST)
    throw refuse(`it takes up to ${cost} steps for each workload, and ${MAX_COST} are the most`);
  return {
    cost,
    evaluate: (input) => {
      const value = run(input, []);
      return typeof value === 'boolean' || value instanceof Unknown
        ? value
        : new Unknown('it is neither true nor false');
    },
  };
};

const part = (node: ASTNode, scope: Scope): Part => {
  switch (node.op) {
    case 'value':
      return literal(node.args);
    case 'id':
      return variable(node.args, scope);
    case 'list':
      return list(node.args, scope);
    case '.':
      return label(part(node.args[0], scope), literal(node.args[1]));
    case '[]':
      return label(part(node.args[0], scope), part(node.args[1], scope));
    case '!_':
      return not(part(node.args, scope));
    case '&&':
    case '||':
      return logical(node.op === '||', part(node.args[0], scope), part(node.args[1], scope));
    case '?:':
      return choice(node.args.map((one) => part(one, scope)));
    case '==':
    case '!=':
      return equality(node.op === '==', part(node.args[0], scope), part(node.args[1], scope));
    case '<':
    case '<=':
    case '>':
    case '>=':
      return order(node.op, part(node.args[0], scope), part(node.args[1], scope));
    case 'in':
      return membership(part(node.args[0], scope), part(node.args[1], scope));
    case 'call':
      return call(node.args[0], node.args[1], scope);
    case 'rcall':
      return method(node.args[0], node.args[1], node.args[2], scope);
    default:
      throw refuse(`"${node.op.replace('_', '')}" is not for rules`);
  }
};

const literal = (value: unknown): Part => {
  if (typeof value === 'string') return { type: 'string', cost: 1, run: () => value };
  if (typeof value === 'bigint') return { type: 'int', cost: 1, run: () => value };
  if (typeof value === 'boolean') return { type: 'bool', cost: 1, run: () => value };
  throw refuse('only texts, whole numbers, true and false can be written in it');
};

const variable = (name: string, scope: Scope): Part => {
  const depth = scope.findLastIndex((one) => one.name === name);
  const found = scope[depth];
  if (found !== undefined) return { type: found.type, cost: 1, run: (_, bound) => bound[depth] ?? NOTHING };
  if (name === 'labels') return { type: 'labels', cost: 1, length: MAX_LABELS, run: ({ labels }) => labels };
  const read = READ.get(name);
  if (read === undefined) throw refuse(`"${name}" is not for rules`);
  return { type: 'string', cost: 1, run: read };
};

const NOTHING = new Unknown('there is no value');

const READ: ReadonlyMap<string, (input: ExpressionInput) => string> = new Map([
  ['trustDomain', ({ trustDomain }) => trustDomain],
  ['cluster', ({ cluster }) => cluster],
  ['node', ({ node }) => node],
  // As expression.ts spells it.
  ['nameSpace', ({ namespace }) => namespace],
  ['serviceAccount', ({ serviceAccount }) => serviceAccount],
  ['workload', ({ workload }) => workload],
] as const);

const list = (nodes: readonly ASTNode[], scope: Scope): Part => {
  const parts = nodes.map((one) => part(one, scope));
  const [first] = parts;
  if (parts.some(({ type }) => type === 'list' || type === 'labels'))
    throw refuse('a list holds texts, whole numbers, true and false');
  return {
    type: 'list',
    ...(first && { element: first.type }),
    length: parts.length,
    cost: 1 + sum(parts),
    run: (input, bound) => firstUnknown(parts.map(({ run }) => run(input, bound))),
  };
};

const firstUnknown = (values: readonly Value[]): Value =>
  values.find((value) => value instanceof Unknown) ?? values;

const label = (of: Part, key: Part): Part => {
  if (of.type !== 'labels') throw refuse('only labels have parts: write labels.app or labels["app"]');
  return {
    type: 'string',
    cost: 1 + key.cost,
    run: (input, bound) => {
      const name = key.run(input, bound);
      if (typeof name !== 'string') return name;
      return input.labels.get(name) ?? new Unknown(`there is no label "${name}"`);
    },
  };
};

const not = (of: Part): Part => ({
  type: 'bool',
  cost: 1 + of.cost,
  run: (input, bound) => {
    const value = of.run(input, bound);
    return typeof value === 'boolean' ? !value : value;
  },
});

/** What decides does so also when the other side is unknown, whichever comes first. */
const logical = (decides: boolean, left: Part, right: Part): Part => ({
  type: 'bool',
  cost: 1 + left.cost + right.cost,
  run: (input, bound) => {
    const first = left.run(input, bound);
    if (first === decides) return decides;
    const second = right.run(input, bound);
    if (second === decides) return decides;
    return first instanceof Unknown ? first : second;
  },
});

const choice = ([condition, yes, no]: readonly Part[]): Part => {
  if (condition === undefined || yes === undefined || no === undefined)
    throw refuse('a choice has three parts');
  if (yes.type !== no.type || yes.type === 'list' || yes.type === 'labels')
    throw refuse('both sides of a choice are texts, whole numbers, or true and false');
  return {
    type: yes.type,
    cost: 1 + condition.cost + Math.max(yes.cost, no.cost),
    run: (input, bound) => {
      const value = condition.run(input, bound);
      if (typeof value !== 'boolean') return value;
      return (value ? yes : no).run(input, bound);
    },
  };
};

const equality = (isEqual: boolean, left: Part, right: Part): Part => {
  if (left.type !== right.type || left.type === 'list' || left.type === 'labels')
    throw refuse('lists and labels cannot be compared: say what is in them');
  return both(left, right, 1, (a, b) => (a === b) === isEqual);
};

const order = (op: '<' | '<=' | '>' | '>=', left: Part, right: Part): Part => {
  if (left.type !== 'int' || right.type !== 'int') throw refuse(`"${op}" is for whole numbers`);
  return both(left, right, 1, (a, b) =>
    op === '<' ? a < b : op === '<=' ? a <= b : op === '>' ? a > b : a >= b,
  );
};

/** Of two known values. */
const both = (
  left: Part,
  right: Part,
  cost: number,
  decide: (a: Exclude<Value, Unknown>, b: Exclude<Value, Unknown>) => boolean,
): Part => ({
  type: 'bool',
  cost: cost + left.cost + right.cost,
  run: (input, bound) => {
    const a = left.run(input, bound);
    if (a instanceof Unknown) return a;
    const b = right.run(input, bound);
    return b instanceof Unknown ? b : decide(a, b);
  },
});

const membership = (of: Part, inside: Part): Part => {
  if (inside.type === 'list')
    return both(of, inside, 1 + (inside.length ?? 0), (a, b) => Array.isArray(b) && b.includes(a));
  if (inside.type === 'labels')
    return both(of, inside, 1, (a, b) => b instanceof Map && typeof a === 'string' && b.has(a));
  throw refuse('"in" is for lists and labels');
};

const call = (name: string, args: readonly ASTNode[], scope: Scope): Part => {
  const [first] = args;
  if (name === 'size' && first !== undefined) return size(part(first, scope));
  if (name === 'has' && first?.op === '.') {
    const [of, key] = first.args;
    if (part(of, scope).type !== 'labels') throw refuse('has() is for labels: write has(labels.app)');
    return { type: 'bool', cost: 2, run: ({ labels }) => labels.has(key) };
  }
  throw refuse(`${name}() is not for rules`);
};

const method = (name: string, on: ASTNode, args: readonly ASTNode[], scope: Scope): Part => {
  const receiver = part(on, scope);
  const [first, second] = args;
  if (name === 'size') return size(receiver);
  if (first === undefined) throw refuse(`${name}() is not for rules`);
  if (name === 'all' || name === 'exists' || name === 'exists_one')
    return quantifier(name, receiver, first, second, scope);
  if (receiver.type !== 'string') throw refuse(`${name}() is not for rules`);
  if (name === 'matches') return pattern(receiver, first);
  const find = FIND.get(name);
  if (find === undefined) throw refuse(`${name}() is not for rules`);
  return both(receiver, part(first, scope), 4, (a, b) =>
    typeof a === 'string' && typeof b === 'string' ? find(a, b) : false,
  );
};

const FIND: ReadonlyMap<string, (text: string, what: string) => boolean> = new Map([
  ['startsWith', (text, what) => text.startsWith(what)],
  ['endsWith', (text, what) => text.endsWith(what)],
  ['contains', (text, what) => text.includes(what)],
]);

/** RE2's syntax, as CEL has it, and its time: linear in the text, whatever the pattern. */
const pattern = (of: Part, written: ASTNode): Part => {
  if (written.op !== 'value' || typeof written.args !== 'string')
    throw refuse('write the pattern of matches() out as a text');
  const compiled = compilePattern(written.args);
  return {
    type: 'bool',
    cost: of.cost + Math.ceil(compiled.programSize() / PATTERN_STEPS),
    run: (input, bound) => {
      const text = of.run(input, bound);
      return typeof text === 'string' ? compiled.test(text) : text;
    },
  };
};

const compilePattern = (text: string): RE2JS => {
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(text);
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('invalid-argument', `the pattern of matches() is no good: ${said.slice(0, 120)}`, {
      cause,
    });
  }
  if (compiled.programSize() <= MAX_PATTERN_SIZE) return compiled;
  throw refuse(`a pattern has ${compiled.programSize()} states, and ${MAX_PATTERN_SIZE} are the most`);
};

const quantifier = (
  name: 'all' | 'exists' | 'exists_one',
  over: Part,
  named: ASTNode,
  predicate: ASTNode | undefined,
  scope: Scope,
): Part => {
  if (named.op !== 'id' || predicate === undefined) throw refuse(`${name}() takes a name and a condition`);
  const { length } = over;
  if (length === undefined) throw refuse(`${name}() goes over a list that is written out, or over labels`);
  const type = over.type === 'labels' ? 'string' : (over.element ?? 'string');
  const body = part(predicate, [...scope, { name: named.args, type }]);
  return {
    type: 'bool',
    cost: 1 + over.cost + length * (1 + body.cost),
    run: (input, bound) => {
      const values = over.run(input, bound);
      if (values instanceof Unknown) return values;
      const items: readonly Value[] =
        values instanceof Map ? [...values.keys()] : Array.isArray(values) ? values : [];
      return QUANTIFIERS[name](items, (item) => body.run(input, [...bound, item]));
    },
  };
};

type Quantify = (items: readonly Value[], holds: (item: Value) => Value) => Value;

/** The first that says `decides` settles it; else, what could not be said of one cannot be said of all. */
const untilDecided =
  (decides: boolean): Quantify =>
  (items, holds) => {
    let unknown: Value | undefined;
    for (const item of items) {
      const value = holds(item);
      if (value === decides) return decides;
      if (value instanceof Unknown) unknown ??= value;
    }
    return unknown ?? !decides;
  };

const QUANTIFIERS: Readonly<Record<'all' | 'exists' | 'exists_one', Quantify>> = {
  all: untilDecided(false),
  exists: untilDecided(true),
  exists_one: (items, holds) => {
    let count = 0;
    for (const item of items) {
      const value = holds(item);
      if (value instanceof Unknown) return value;
      if (value === true) count++;
    }
    return count === 1;
  },
};

const size = (of: Part): Part => {
  if (of.type === 'int' || of.type === 'bool') throw refuse('size() is for texts, lists and labels');
  return {
    type: 'int',
    cost: 4 + of.cost,
    run: (input, bound) => {
      const value = of.run(input, bound);
      if (typeof value === 'string') return BigInt([...value].length);
      if (value instanceof Map) return BigInt(value.size);
      return Array.isArray(value) ? BigInt(value.length) : value;
    },
  };
};

const sum = (parts: readonly Part[]): number => parts.reduce((total, { cost }) => total + cost, 0);

const refuse = (why: string): Vl3Error =>
  new Vl3Error('invalid-argument', `the expression does not hold up: ${why}`);
