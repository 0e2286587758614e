// What `npm test` runs, after the set-up: every check in its order, each with its time, none skipped because an earlier
// one failed. `--long` adds the tests that take minutes (*.long.test.ts); other arguments go to vitest.
// The last line counts the tests; a check that fails counts as one failed.

import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
}

interface Stage {
  name: string;
  run: () => Promise<Outcome>;
}

const ROOT = resolve(import.meta.dirname, '..');
const PASSED: Outcome = { passed: 0, failed: 0, skipped: 0 };
const FAILED: Outcome = { passed: 0, failed: 1, skipped: 0 };

async function main(args: string[], scratch: string): Promise<boolean> {
  const long = args.includes('--long');
  const colors = process.stdout.isTTY ? 'force' : 'off';
  const rest = args.filter((arg) => arg !== '--long');
  const stages: Stage[] = [
    { name: 'biome ci', run: () => check(['biome', 'ci', `--colors=${colors}`, '--error-on-warnings', '.']) },
    { name: 'tsc --noEmit', run: () => check(['tsc', '--noEmit']) },
    { name: 'knip', run: () => check(['knip', '--treat-config-hints-as-errors']) },
    { name: 'buf lint', run: () => check(['buf', 'lint']) },
    // What was shipped last is spoken for ever after. A release sets it anew: npm run api-baseline.
    { name: 'buf breaking', run: () => check(['buf', 'breaking', '--against', 'test/fixtures/api.txtpb']) },
    { name: 'generated code is up to date', run: () => generatedIsCurrent(scratch) },
    { name: long ? 'vitest, long tests too' : 'vitest', run: () => vitest(rest, long, scratch) },
  ];
  const total = { ...PASSED };
  const begun = performance.now();
  for (const stage of stages) {
    const start = performance.now();
    const outcome = await stage.run();
    print(`${outcome.failed === 0 ? '✓' : '✗'} ${stage.name} ${seconds(start)}`);
    total.passed += outcome.passed;
    total.failed += outcome.failed;
    total.skipped += outcome.skipped;
    if (interrupted) break;
  }
  print(`all of it ${seconds(begun)}`);
  const skipped = total.skipped === 0 ? '' : `, ${total.skipped} skipped`;
  print(`${total.passed} passed, ${total.failed} failed${skipped}`);
  return total.failed === 0 && !interrupted;
}

/** Runs a checker; what it prints is shown only when it fails. */
async function check(command: string[]): Promise<Outcome> {
  const { code, output } = await execute(command, 'pipe');
  if (code !== 0) process.stdout.write(output);
  return code === 0 ? PASSED : FAILED;
}

async function generatedIsCurrent(scratch: string): Promise<Outcome> {
  const { code, output } = await execute(['buf', 'generate', '--output', scratch], 'pipe');
  if (code !== 0) {
    process.stdout.write(output);
    return FAILED;
  }
  const current = contents(join(ROOT, 'src/api/generated'));
  const wanted = contents(join(scratch, 'src/api/generated'));
  const names = [...new Set([...current.keys(), ...wanted.keys()])].filter((name) => name !== '.stamp');
  const stale = names.filter((name) => current.get(name) !== wanted.get(name));
  if (stale.length > 0) print(`stale, run npm run generate: ${stale.join(', ')}`);
  return stale.length === 0 ? PASSED : FAILED;
}

function contents(directory: string): Map<string, string> {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return new Map(
    files.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(directory.length + 1), readFileSync(path, 'utf8')];
    }),
  );
}

async function vitest(args: string[], long: boolean, scratch: string): Promise<Outcome> {
  const report = join(scratch, 'vitest.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const { code } = await execute(['vitest', 'run', ...reporters, ...args], 'inherit', {
    VL3_LONG_TESTS: long ? '1' : '',
  });
  let counts: Record<string, unknown>;
  try {
    counts = JSON.parse(readFileSync(report, 'utf8'));
  } catch {
    return FAILED;
  }
  const count = (name: string) => Number(counts[name] ?? 0);
  // A file that does not load, or an error outside any test, fails the run without a failed test.
  const failed = Math.max(count('numFailedTests'), code === 0 ? 0 : 1);
  return {
    passed: count('numPassedTests'),
    failed,
    skipped: count('numPendingTests') + count('numTodoTests'),
  };
}

async function execute(
  [program = '', ...args]: string[],
  output: 'pipe' | 'inherit',
  env: Record<string, string> = {},
): Promise<{ code: number; output: string }> {
  const child = spawn(join(ROOT, 'node_modules/.bin', program), args, {
    cwd: ROOT,
    stdio: ['ignore', output, output],
    env: { ...process.env, ...env },
  });
  const forward = (): void => {
    child.kill('SIGTERM');
  };
  process.once('SIGTERM', forward);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (text += String(chunk)));
  const code = await new Promise<number>((done, fail) => {
    child.once('error', fail);
    child.once('close', (status) => done(status ?? 1));
  });
  process.off('SIGTERM', forward);
  return { code, output: text };
}

function seconds(start: number): string {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

// An interrupt from the terminal reaches the running check too: let it end in order, and start no other.
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    interrupted = true;
  });

if (process.getuid?.() !== 0) {
  print('The tests make network namespaces, which only root may: run `sudo npm test`.');
  process.exitCode = 1;
} else {
  const scratch = mkdtempSync(join(tmpdir(), 'vl3-test-'));
  try {
    process.exitCode = (await main(process.argv.slice(2), scratch)) ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
