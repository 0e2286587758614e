import { defineConfig } from 'vitest/config';

// `npm run test:long` sets VL3_LONG_TESTS: the tests that take minutes run too.
const long = process.env['VL3_LONG_TESTS'] ? [] : ['test/**/*.long.test.ts'];
// These run whole domains of their own and mostly wait for leases, back-offs and timers: several at a time.
const scenarios = ['test/scenarios/**'];
// These make namespaces, move packets and look at the clock: one file at a time, after all others, so that none is
// judged by how busy its neighbour keeps the machine.
const machine = ['test/{lab,demo,bench,interop,cmd}/**', 'test/src/{agent,datapath,netns}/**'];

export default defineConfig({
  test: {
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'computing',
          include: ['test/**/*.test.ts'],
          exclude: [...machine, ...scenarios, ...long],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'scenarios',
          include: scenarios.map((folder) => `${folder}/*.test.ts`),
          exclude: long,
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'machine',
          include: machine.map((folder) => `${folder}/*.test.ts`),
          exclude: long,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
