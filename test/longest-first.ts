// The order of the test files on a machine that never ran them: Vitest guesses by their size, but what waits long is often
// short, and begun last it keeps the others' workers idle.

import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What takes longer than half a minute. */
const LONG = [
  'scenarios/k5-webhook',
  'scenarios/k1-enrolment',
  'scenarios/n9-small-path',
  'scenarios/operator',
  'scenarios/lost',
  'scenarios/removed',
  'scenarios/killed',
  'scenarios/lies',
  'scenarios/attachments',
  'scenarios/restarts',
  'interop/suite',
  'scenarios/l7-registry-replaced',
  'scenarios/k2-cni',
  'scenarios/t2-renewal',
  'scenarios/n7-exhausted',
  'scenarios/clean',
  'scenarios/t2-expired',
  'scenarios/s1-names',
  'demo/demo',
  'scenarios/rekey',
  'agent/registry-link',
  'scenarios/n4-unavailable',
  'scenarios/tokens',
  'deploy/container',
  'simulator/simulator',
  'simulator/planted-bugs',
];

const rank = ({ moduleId }: TestSpecification): number => {
  const at = LONG.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
  return at === -1 ? LONG.length : at;
};

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const projects = Map.groupBy(await super.sort(files), ({ project }) => project);
    return [...projects.values()].flatMap((group) => group.sort((a, b) => rank(a) - rank(b)));
  }
}
