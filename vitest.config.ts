import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/longest-first.ts';

// `npm run test:long` sets VL3_LONG_TESTS: the tests that take minutes run too.
const long = process.env['VL3_LONG_TESTS'] ? [] : ['test/**/*.long.test.ts'];
// These measure, flood, or look at the clock: one file at a time, after all others, so that none is judged by how busy
// its neighbour keeps the machine.
const alone = [
  'test/src/datapath/!(aead|full-batch|histories|key-cache|keypair-slots|mailbox|nonces|peer-slots|replay-windows|staging).test.ts',
  'test/src/netns/{isolation,super-packets}.test.ts',
  'test/interop/cookie.test.ts',
];
// These are of functions that touch nothing: a process of its own for each file would be half of what they cost.
const pure = ['test/native-free/**/*.test.ts'];
// These run domains, devices and programs of their own and mostly wait: for leases, back-offs, timers and each other.
const together = [
  'test/{scenarios,interop,deploy,demo,lab,cmd}/**/*.test.ts',
  'test/src/{agent,netns}/**/*.test.ts',
];

export default defineConfig({
  test: {
    pool: 'forks',
    // What waits for a condition has a limit of its own; several such waits on a busy machine are no failure.
    testTimeout: 240_000,
    expect: { poll: { timeout: 30_000 } },
    hookTimeout: 240_000,
    teardownTimeout: 20_000,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: 'pure',
          include: pure,
          exclude: long,
          isolate: false,
          maxWorkers: 4,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'computing',
          include: ['test/**/*.test.ts'],
          exclude: [...pure, ...alone, ...together, ...long],
          // Loading the modules anew for each file took as long as many a file's tests.
          isolate: false,
          // Every other file waits half of its time, for a registry's clock or a back-off; those of `pure` come from the same queue.
          maxWorkers: 4,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'together',
          include: together,
          exclude: [...alone, ...long],
          isolate: false,
          maxWorkers: 5,
          globalSetup: 'test/lab/bundle-commands.ts',
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: alone,
          exclude: long,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
