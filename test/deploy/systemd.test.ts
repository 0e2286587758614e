// The units for machines without a cluster: what they start exists, and the agent may do there what it may do in a container.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { V1DaemonSet } from '@kubernetes/client-node';
import { expect, test } from 'vitest';
import { DOMAIN, only, ROOT, render } from './chart.ts';

const unit = (name: string): Map<string, string> => {
  const text = readFileSync(resolve(ROOT, 'deploy/systemd', name), 'utf8');
  return new Map(
    [...text.matchAll(/^([A-Z]\w+)=(.*)$/gm)].map(([, key = '', value = '']) => [key, value] as const),
  );
};

test.each([
  ['vl3-agent.service', '/usr/local/bin/vl3 agent run'],
  ['vl3-registry.service', '/usr/local/bin/vl3 registry run'],
])('%s starts what there is, and not again when its settings are wrong', (name, command) => {
  expect(unit(name).get('ExecStart')).toBe(command);
  // README: exit codes.
  expect(unit(name).get('RestartPreventExitStatus')).toBe('2');
});

test('the agent keeps the same capabilities as in a container', () => {
  const daemonSet: V1DaemonSet = only(render(...DOMAIN), 'DaemonSet');
  const command = daemonSet.spec?.template.spec?.containers[0]?.command?.join(' ') ?? '';
  const [, kept = ''] = /--bounding-set=-all,(\S+)/.exec(command) ?? [];
  const ofContainer = kept.split(',').map((one) => `CAP_${one.slice(1).toUpperCase()}`);
  const ofUnit = unit('vl3-agent.service').get('CapabilityBoundingSet')?.split(' ');
  expect(ofUnit?.toSorted()).toEqual(ofContainer.toSorted());
});

test('the agent has no mount namespace of its own, or what it pins would be seen by nobody', () => {
  const settings = [...unit('vl3-agent.service').keys()];
  expect(
    settings.filter((key) =>
      /^(Protect|Private|ReadOnly|ReadWrite|Inaccessible|Bind|Temporary|Root)/.test(key),
    ),
  ).toEqual([]);
});
