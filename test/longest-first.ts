// The order of the test files on a machine that never ran them: Vitest guesses by their size, but what waits long is often
// short, and begun last it keeps the others' workers idle.

import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What takes longest, some half a minute and more. */
const LONG = [
  'interop/suite-matrix-v4.long',
  'interop/suite-matrix-v6.long',
  'interop/suite-scenes.long',
  'interop/natural-rekey.long',
  'scenarios/killed.long',
  'scenarios/t2-expiry.long',
  'scenarios/upgrade.long',
  'scenarios/churn.long',
  'scenarios/t5-withheld.long',
  'scenarios/restarts.long',
  'scenarios/k1-chaos.long',
  'scenarios/t2-own-identity',
  'scenarios/lost',
  'scenarios/k1-enrolment',
  'scenarios/t5-lies',
  'deploy/container',
  'scenarios/t5-partner-lies',
  'scenarios/t3-federation',
  'scenarios/lies',
  'scenarios/t3-admission',
  'scenarios/k1-informer',
  'scenarios/removed',
  'interop/suite',
  'scenarios/killed',
  'scenarios/restarts',
  'scenarios/k5-webhook',
  'scenarios/n9-small-path',
  'demo/demo',
  'interop/wg',
  'scenarios/attachments',
  'scenarios/t2-renewal',
  'netns/veth-many',
  'netns/veth',
  'scenarios/l7-registry-replaced',
  'scenarios/s1-names',
  'scenarios/n7-exhausted',
  'agent/registry-link',
  'scenarios/operator',
  'scenarios/ca-rotation',
  'scenarios/rekey',
  'scenarios/deleted',
  'scenarios/k2-cni',
  'scenarios/t2-expired',
  'scenarios/n4-unavailable',
  'interop/sessions',
  'scenarios/t4-partner-lies',
  'interop/wireguard-go',
  'scenarios/k2-containerd',
  'interop/device-process',
  'simulator/planted-bugs',
  'simulator/simulator',
  'registry/watch',
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
