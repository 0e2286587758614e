// The condition of an admission rule: an expression in CEL (the Common Expression Language, cel-spec's langdef) over what is
// known of a workload. Parsed and type-checked by a library; what it may hold is a list, and what it costs at most is known
// before it is ever evaluated (evaluation.ts), so that no expression, however hostile, holds a registry up.
//
// Where we leave the language: `namespace` is a variable here, though CEL reserves the word; the pattern of matches() is
// written out, so that it can be judged; there is no arithmetic, no concatenation and no map() or filter(): nothing grows.

import { Environment } from '@marcbachmann/cel-js';
import { Vl3Error } from '../error.ts';
import { compile, type Evaluate } from './evaluation.ts';
import { MAX_EXPRESSION_LENGTH } from './rule.ts';

/** What an expression can name. */
export const VARIABLES = [
  'trustDomain',
  'cluster',
  'node',
  'namespace',
  'serviceAccount',
  'workload',
] as const;

/** The library refuses CEL's reserved words as variables: this one is spelled so while it looks. As long as the other. */
const SPELLED = 'nameSpace';

const environment = VARIABLES.reduce(
  (made, name) => made.registerVariable(name === 'namespace' ? SPELLED : name, 'string'),
  new Environment({
    limits: { maxAstNodes: 256, maxDepth: 24, maxListElements: 64, maxMapEntries: 1, maxCallArguments: 4 },
  }),
).registerVariable('labels', 'map<string, string>');

export interface Expression {
  /** Of a workload: whether it holds, or why that cannot be said. */
  readonly evaluate: Evaluate;
  /** The most steps that it takes. */
  readonly cost: number;
}

/** Throws Vl3Error('invalid-argument') with what is wrong and where. */
export const compileExpression = (text: string): Expression => {
  if (text.length > MAX_EXPRESSION_LENGTH)
    throw new Vl3Error(
      'invalid-argument',
      `the expression is ${text.length} characters long: use at most ${MAX_EXPRESSION_LENGTH}`,
    );
  const parsed = attempt(() => {
    const found = environment.parse(respelled(text));
    const { valid, type, error } = found.check();
    if (!valid) throw error ?? new Error('it has no type');
    if (type !== 'bool') throw new Error(`it must be true or false, and is ${type ?? 'something else'}`);
    return found;
  });
  return compile(parsed.ast);
};

/** Texts and comments, which stay as they are, then words, with the dot before them. */
const TOKENS = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\/\/[^\n]*|\.\s*[A-Za-z_]\w*|[A-Za-z_]\w*/g;

const respelled = (text: string): string => {
  if (/"""|'''/.test(text)) throw new Error('write texts between single quotes, or between double ones');
  return text.replace(TOKENS, (token, at: number) => {
    if (token === SPELLED) throw new Error(`Unknown variable: ${token.toLowerCase()}`);
    // What a quote means would be another thing then.
    if (/^[A-Za-z_]/.test(token) && /["']/.test(text[at + token.length] ?? ''))
      throw new Error(`write texts without the prefix "${token.slice(0, 16)}"`);
    return token === 'namespace' ? SPELLED : token;
  });
};

const attempt = <T>(work: () => T): T => {
  try {
    return work();
  } catch (cause) {
    throw new Vl3Error('invalid-argument', `the expression does not hold up: ${sentence(cause)}`, { cause });
  }
};

const sentence = (cause: unknown): string => {
  const said =
    typeof cause === 'object' && cause !== null && 'summary' in cause && typeof cause.summary === 'string'
      ? cause.summary
      : cause instanceof Error
        ? (cause.message.split('\n')[0] ?? '')
        : String(cause);
  const range = typeof cause === 'object' && cause !== null && 'range' in cause ? cause.range : undefined;
  const at =
    typeof range === 'object' && range !== null && 'start' in range && typeof range.start === 'number'
      ? ` (at character ${range.start + 1})`
      : '';
  return `${said.replaceAll(SPELLED, 'namespace').slice(0, 200)}${at}`;
};
