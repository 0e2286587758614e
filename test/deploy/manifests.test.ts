// The plain manifests are the chart's, and kustomize takes them.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { parse, ROOT, run } from './chart.ts';
import { problemsOf } from './schemas.ts';

const MANIFESTS = resolve(ROOT, 'deploy/manifests');

test('the manifests are what the chart renders: npm run manifests', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'vl3-manifests-'));
  try {
    execFileSync('sh', [join(MANIFESTS, 'render.sh'), scratch]);
    for (const name of ['registry.yaml', 'rbac.yaml', 'agent.yaml'])
      expect(readFileSync(join(MANIFESTS, name), 'utf8')).toBe(readFileSync(join(scratch, name), 'utf8'));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});

test('kustomize builds them, every object is well-formed and in the namespace that it makes', async () => {
  const objects = parse(run('kubectl', 'kustomize', MANIFESTS));
  const problems = await Promise.all(objects.map(problemsOf));
  expect(problems.flat()).toEqual([]);
  const namespaces = objects.filter(({ kind }) => kind === 'Namespace').map(({ metadata }) => metadata?.name);
  for (const { kind, metadata } of objects)
    if (kind !== 'Namespace' && !kind?.startsWith('Cluster'))
      expect(namespaces).toContain(metadata?.namespace);
});

test('a field that there is not, and one of a wrong type, are told', async () => {
  const [found] = parse(run('kubectl', 'kustomize', MANIFESTS)).filter(({ kind }) => kind === 'Service');
  const misspelt = structuredClone(found ?? {});
  Reflect.set(Reflect.get(misspelt, 'spec'), 'selektor', {});
  expect(await problemsOf(misspelt)).toEqual(['Service vl3-registry: there is no field .spec.selektor']);
  const wrong = structuredClone(found ?? {});
  Reflect.set(Reflect.get(wrong, 'spec'), 'ports', [{ port: 'registry' }]);
  expect(await problemsOf(wrong)).toEqual([expect.stringMatching(/\/spec\/ports/)]);
});
