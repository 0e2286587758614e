// Kubernetes' own programs, where KUBERNETES names a directory that holds them: kube-apiserver, kube-controller-manager,
// kube-scheduler, kubelet, kube-proxy, etcd and coredns.

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const NAMES = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
  'etcd',
  'coredns',
] as const;
const DIRECTORY = process.env['KUBERNETES'];

export type ProgramName = (typeof NAMES)[number];

/** Whether all of them are there. */
export const hasKubernetes =
  DIRECTORY !== undefined && NAMES.every((name) => existsSync(join(DIRECTORY, name)));

export const programOf = (name: ProgramName): string => resolve(DIRECTORY ?? '', name);
