// The plain manifests are the chart's, and kustomize takes them.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { V1ValidatingWebhookConfiguration } from '@kubernetes/client-node';
import { expect, test } from 'vitest';
import { only, parse, ROOT, run } from './chart.ts';
import { problemsOf } from './schemas.ts';

const MANIFESTS = resolve(ROOT, 'deploy/manifests');

test('the manifests are what the chart renders: npm run manifests', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'vl3-manifests-'));
  try {
    execFileSync('sh', [join(MANIFESTS, 'render.sh'), scratch]);
    for (const name of ['registry.yaml', 'rbac.yaml', 'agent.yaml', 'webhook.yaml'])
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

test('with the webhook, once somebody asks for it, too', async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'vl3-manifests-'));
  try {
    cpSync(MANIFESTS, scratch, { recursive: true });
    const path = join(scratch, 'kustomization.yaml');
    writeFileSync(path, readFileSync(path, 'utf8').replace('# - webhook.yaml', '- webhook.yaml'));
    const objects = parse(run('kubectl', 'kustomize', scratch));
    expect((await Promise.all(objects.map(problemsOf))).flat()).toEqual([]);
    const configuration: V1ValidatingWebhookConfiguration = only(objects, 'ValidatingWebhookConfiguration');
    const called = configuration.webhooks?.[0]?.clientConfig.service;
    expect(called).toMatchObject({ name: 'vl3-webhook', namespace: 'vl3-system' });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
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
