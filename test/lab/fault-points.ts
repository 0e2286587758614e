// Loaded before the agent (node --import): the program is what people run, but each of its side effects is a step that
// is counted once armed, and at a step that was named the process kills itself, as a crash would. Steps are a write to
// SQLite, the start and the end of a child process, a call to the registry and its answer, an ioctl. Told what to do by
// a file and SIGUSR2 (faults.ts).

import childProcess from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { DatabaseSync, StatementSync } from 'node:sqlite';
import { isMainThread } from 'node:worker_threads';

type Anything = (...args: unknown[]) => unknown;

const directory = process.env['VL3_FAULTS'];

if (isMainThread && directory !== undefined) {
  let armed = false;
  let steps = 0;
  let deadly = 0;
  let ahead = 0;

  const step = (what: string): void => {
    if (!armed) return;
    steps += 1;
    appendFileSync(join(directory, 'trace'), `${steps} ${what}\n`);
    if (steps === deadly) process.kill(process.pid, 'SIGKILL');
  };

  process.on('SIGUSR2', () => {
    const order: { at: number; aheadMs: number } = JSON.parse(readFileSync(join(directory, 'order'), 'utf8'));
    steps = 0;
    deadly = order.at;
    ahead = order.aheadMs;
    armed = true;
    appendFileSync(join(directory, 'trace'), 'armed\n');
  });

  // What waits for minutes is made to wait by the wall clock: set ahead, it is due. What is looked at every five seconds
  // is looked at more often.
  const now = Date.now;
  Date.now = () => now() + ahead;
  const interval = globalThis.setInterval;
  Object.assign(globalThis, {
    setInterval: (work: () => void, ms: number) => interval(work, ms === 5_000 ? 500 : ms),
  });

  /** Replaces a method by one that knows the one before. */
  const replace = (owner: object, name: string, make: (original: Anything) => Anything): void => {
    const original: Anything = Reflect.get(owner, name);
    Reflect.set(owner, name, make(original));
  };

  const writes = (name: string) => (original: Anything) =>
    function (this: unknown, ...args: unknown[]): unknown {
      step(`sqlite ${name} ${String(args[0] ?? '').slice(0, 60)}`);
      return original.apply(this, args);
    };
  replace(StatementSync.prototype, 'run', writes('run'));
  replace(
    DatabaseSync.prototype,
    'exec',
    (original) =>
      function (this: unknown, ...args: unknown[]): unknown {
        step(`sqlite ${String(args[0])}`);
        const result = original.apply(this, args);
        if (args[0] === 'COMMIT') step('sqlite committed');
        return result;
      },
  );

  replace(childProcess, 'execFile', (original) => (...args) => {
    const [program, words] = args;
    const what = `${String(program)} ${(Array.isArray(words) ? words : []).join(' ')}`.replaceAll('\n', ' ');
    const line = what.slice(0, 100);
    const callback = args.at(-1);
    step(`before ${line}`);
    const child =
      typeof callback === 'function'
        ? original(...args.slice(0, -1), (...answer: unknown[]) => {
            step(`after ${line}`);
            callback(...answer);
          })
        : original(...args);
    step(`started ${line}`);
    return child;
  });

  replace(http2, 'connect', (original) => (...args) => {
    const session = original(...args);
    if (!(session instanceof Object)) return session;
    replace(session, 'request', (request) => (...parts) => {
      const [headers] = parts;
      const path = headers instanceof Object ? String(Reflect.get(headers, ':path')) : '';
      step(`call ${path}`);
      const stream = request.apply(session, parts);
      // Not a listener of our own: whoever calls counts them.
      if (stream instanceof Object)
        replace(stream, 'emit', (emit) => (...event) => {
          if (event[0] === 'response') step(`answered ${path}`);
          return emit.apply(stream, event);
        });
      return stream;
    });
    return session;
  });

  const koffi: object = createRequire(import.meta.url)('koffi');
  replace(koffi, 'load', (load) => (...args) => {
    const library = load.apply(koffi, args);
    if (library instanceof Object)
      replace(library, 'func', (func) => (...of) => {
        const made = func.apply(library, of);
        if (of[0] !== 'ioctl' || typeof made !== 'function') return made;
        return (fd: unknown, request: unknown, ...argument: unknown[]) => {
          step(`ioctl ${Number(request).toString(16)}`);
          return made(fd, request, ...argument);
        };
      });
    return library;
  });
  syncBuiltinESMExports();
}
