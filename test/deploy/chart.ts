// The chart as Helm renders it.

import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import type { KubernetesObject } from '@kubernetes/client-node';
import { parseAllDocuments } from 'yaml';

export const ROOT = resolve(import.meta.dirname, '../..');
export const CHART = resolve(ROOT, 'deploy/helm/vl3');
const PROGRAMS = resolve(ROOT, 'deploy/setup/tools/node_modules/.programs');

/** Runs helm, or kubectl, without a cluster; throws what it says when it fails. */
export const run = (program: 'helm' | 'kubectl', ...args: string[]): string =>
  execFileSync(resolve(PROGRAMS, program, program), args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HOME: '/nonexistent', KUBECONFIG: '/dev/null', HELM_NO_PLUGINS: '1' },
  });

/** The least that has to be said. */
export const DOMAIN = ['--set', 'registry.trustDomain=test.example'];

export const template = (...options: string[]): string =>
  run('helm', 'template', 'vl3', CHART, '--namespace', 'vl3-system', ...options);

export const parse = (text: string): KubernetesObject[] =>
  parseAllDocuments(text).flatMap((document) => {
    if ('errors' in document && document.errors.length > 0) throw document.errors[0];
    const object: KubernetesObject | null = 'toJS' in document ? document.toJS() : null;
    return object === null ? [] : [object];
  });

export const render = (...options: string[]): KubernetesObject[] => parse(template(...options));

/** The one object of this kind. */
export const only = <T extends KubernetesObject>(objects: readonly KubernetesObject[], kind: string): T => {
  const [found, ...others] = objects.filter((one): one is T => one.kind === kind);
  if (found === undefined || others.length > 0) throw new Error(`there is not exactly one ${kind}`);
  return found;
};
