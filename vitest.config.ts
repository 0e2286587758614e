import { defineConfig } from 'vitest/config';

// `npm run test:long` sets VL3_LONG_TESTS: the tests that take minutes run too.
// One file at a time where tests make namespaces would be slow; every test names its own, so files run in parallel.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: process.env['VL3_LONG_TESTS'] ? [] : ['test/**/*.long.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
  },
});
