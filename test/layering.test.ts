// The layering rule: imports only go down, cmd -> src -> native-free; native-free does no I/O and asks no clock and no
// dice; only src/ffi knows the FFI library. Judged on the syntax tree, so comments and strings do not count.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseAst } from 'vitest/node';

const ROOT = resolve(import.meta.dirname, '..');
const FLOORS = ['native-free', 'src', 'cmd'];
/** The libraries native-free may use: they compute and do nothing else. */
const PURE = /^(@noble\/(ciphers|curves|hashes)\/|@marcbachmann\/cel-js$|ip-address$|re2js$|zod$)/;
/** What reaches out of a computation: clocks, dice, timers, the process, the network, Node's own types. */
const IMPURE = new Set(
  [
    'process performance crypto console Buffer require globalThis global',
    'setTimeout setInterval setImmediate clearTimeout clearInterval clearImmediate queueMicrotask',
    'fetch WebSocket EventSource Worker MessageChannel BroadcastChannel navigator',
  ].flatMap((line) => line.split(' ')),
);
const IMPURE_MEMBERS = new Set(['Date.now', 'Math.random', 'AbortSignal.timeout', 'Atomics.wait']);

describe('the sources', () => {
  const files = FLOORS.flatMap((floor) =>
    readdirSync(join(ROOT, floor), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.startsWith('api/generated/'))
      .map((name) => `${floor}/${name}`),
  );

  test('import only downwards, keep native-free pure and the FFI library in src/ffi', () => {
    expect(files.length).toBeGreaterThan(20);
    expect(files.flatMap((file) => offences(file, readFileSync(join(ROOT, file), 'utf8')))).toEqual([]);
  });
});

describe('the rule', () => {
  const samples: [string, string, string][] = [
    ['an import of a higher floor', 'native-free/a/b.ts', "import { x } from '../../src/y.ts';"],
    ['a type-only import of a higher floor', 'src/a/b.ts', "import type { X } from '../../cmd/vl3/main.ts';"],
    ['a re-export from a higher floor', 'native-free/a.ts', "export * from '../src/y.ts';"],
    ['an import of a test', 'src/a.ts', "import { Lab } from '../test/lab/lab.ts';"],
    ['a builtin in native-free', 'native-free/a.ts', "import { join } from 'node:path';"],
    ['a builtin without its scheme', 'native-free/a.ts', "import { join } from 'path';"],
    ['a builtin imported at run time', 'native-free/a.ts', "const fs = await import('node:fs');"],
    ['a type of a builtin', 'native-free/a.ts', "type Socket = import('node:net').Socket;"],
    ['the RPC library in native-free', 'native-free/a.ts', "import { Code } from '@connectrpc/connect';"],
    ['the FFI library in native-free', 'native-free/a.ts', "import koffi from 'koffi';"],
    ['the FFI library outside src/ffi', 'src/datapath/tun.ts', "import koffi from 'koffi';"],
    ['an import nobody can read', 'native-free/a.ts', 'const m = await import(name);'],
    ['the clock', 'native-free/a.ts', 'const now = Date.now();'],
    ['the clock, by construction', 'native-free/a.ts', 'const now = new Date();'],
    ['the monotonic clock', 'native-free/a.ts', 'const now = performance.now();'],
    ['dice', 'native-free/a.ts', 'const x = Math.random();'],
    ['dice, by the web API', 'native-free/a.ts', 'crypto.getRandomValues(bytes);'],
    ['a timer', 'native-free/a.ts', 'setTimeout(() => {}, 1);'],
    ['the environment', 'native-free/a.ts', 'const { HOME } = process.env;'],
    ["Node's byte type", 'native-free/a.ts', "const b = Buffer.from('x');"],
  ];
  for (const [what, file, code] of samples) {
    test(`names the file and line of ${what}`, () => {
      const found = offences(file, `// Date.now() in a comment is fine.\n\n${code}\n`);
      expect(found).toHaveLength(1);
      expect(found[0]).toMatch(`${file}:3: `);
    });
  }

  test('lets pass what is allowed', () => {
    const allowed = `
      import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
      import { Vl3Error } from '../error.ts';
      const text = 'Date.now() and setTimeout';
      const at = new Date(milliseconds);
      device.process({ performance: 1, console: text });
      interface Clock { performance: number; process(): void }`;
    expect(offences('native-free/a/b.ts', allowed)).toEqual([]);
    expect(offences('src/ffi/libc.ts', "import koffi from 'koffi';")).toEqual([]);
    expect(offences('cmd/vl3/a.ts', "import { x } from '../../src/x.ts'; Date.now();")).toEqual([]);
  });
});

interface Node {
  type: string;
  start: number;
  [field: string]: unknown;
}

function offences(file: string, code: string): string[] {
  const found: string[] = [];
  const report = (node: Node, what: string) => {
    const line = code.slice(0, node.start).split('\n').length;
    found.push(`${file}:${line}: ${what}`);
  };
  const pure = file.startsWith('native-free/');
  visit(asNode(parseAst(code, { lang: 'ts' })), (node) => {
    const target = imported(node);
    if (target !== undefined) {
      const wrong = judgeImport(file, target);
      if (wrong !== undefined) report(node, wrong);
    }
    if (!pure) return;
    if (node.type === 'Identifier' && IMPURE.has(String(node['name']))) report(node, `uses ${node['name']}`);
    if (node.type === 'MemberExpression' && IMPURE_MEMBERS.has(memberPath(node)))
      report(node, `uses ${memberPath(node)}`);
    if (
      node.type === 'NewExpression' &&
      nameOf(node['callee']) === 'Date' &&
      list(node['arguments']).length === 0
    )
      report(node, 'uses new Date()');
  });
  return found;
}

/** What a node imports: undefined if it imports nothing, null if what it imports cannot be read from the code. */
function imported(node: Node): string | null | undefined {
  const literal = (value: unknown) => {
    const text = asNode(value)['value'];
    return typeof text === 'string' ? text : null;
  };
  switch (node.type) {
    case 'ImportDeclaration':
    case 'ExportAllDeclaration':
    case 'ImportExpression':
    case 'TSImportType':
      return literal(node['source']);
    case 'ExportNamedDeclaration':
      return node['source'] ? literal(node['source']) : undefined;
    default:
      return undefined;
  }
}

function judgeImport(file: string, target: string | null): string | undefined {
  if (target === null) return 'imports something that cannot be read from the code';
  if (target.startsWith('.')) {
    const floor = join(dirname(file), target).split('/')[0] ?? '';
    const allowed = FLOORS.slice(0, FLOORS.indexOf(file.split('/')[0] ?? '') + 1);
    return allowed.includes(floor) ? undefined : `imports ${target}: imports only go down`;
  }
  if (file.startsWith('native-free/') && !PURE.test(target)) return `imports ${target}: native-free is pure`;
  if (target === 'koffi' && !file.startsWith('src/ffi/')) return 'imports koffi: only src/ffi may';
  return undefined;
}

/** Calls `look` for every node but the names of members and keys, which are no references. */
function visit(node: Node, look: (node: Node) => void): void {
  look(node);
  for (const [field, value] of Object.entries(node)) {
    if ((field === 'property' || field === 'key') && node['computed'] !== true) continue;
    for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) visit(child, look);
  }
}

function memberPath(node: Node): string {
  return `${nameOf(node['object'])}.${nameOf(node['property'])}`;
}

function nameOf(value: unknown): string {
  return isNode(value) ? String(value['name']) : '';
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && 'start' in value;
}

function asNode(value: unknown): Node {
  if (!isNode(value)) throw new Error('not a syntax tree');
  return value;
}
