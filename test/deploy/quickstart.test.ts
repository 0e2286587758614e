// The kind quickstart as it is written, where there are no clusters: its shell runs, helm renders what it would install by the
// values that are given there, and commands of vl3 in pods are run for real, against a registry. kind, docker and kubectl are
// stand-ins that look at what they are asked. With kubelets: test/scenarios/k6-kind.long.test.ts.

import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import type { KubernetesObject, V1ConfigMap, V1DaemonSet, V1Pod } from '@kubernetes/client-node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseAnnotation } from '../../native-free/kube/annotation.ts';
import { parseDomainAddress } from '../../src/identity/domain-address.ts';
import { parseClusters } from '../../src/registry/cluster-config.ts';
import { Domain } from '../lab/domain.ts';
import { jwksOf, signingKey } from '../src/registry/cluster-fixture.ts';
import { only, parse, run } from './chart.ts';
import { paragraphs, QUICKSTART } from './quickstart.ts';
import { problemsOf } from './schemas.ts';

let domain: Domain;
let server: Server;
/** What was asked of whom, in order. */
const asked: string[] = [];
/** By context. */
const installed = new Map<string, KubernetesObject[]>();
const pods = new Map<string, V1Pod>();

beforeAll(async () => {
  domain = await Domain.start();
  const bin = join(domain.lab.scratch, 'bin');
  mkdirSync(bin);
  const socket = join(domain.lab.scratch, 'socket');
  for (const name of ['kind', 'docker', 'kubectl', 'helm']) {
    const stub = `{ printf '%s\\0' ${name} "$PWD" "$@"; } | curl -sS --fail-with-body --unix-socket ${socket} --data-binary @- http://test/`;
    writeFileSync(join(bin, name), `#!/bin/sh\n${stub}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  const keys = jwksOf(await signingKey('RS256'));
  server = createServer((request, response) => {
    void (async () => {
      const [program = '', directory = '', ...args] = (await text(request)).split('\0').slice(0, -1);
      asked.push([program, ...args].join(' '));
      response.writeHead(200).end(await answer(program, directory, args, keys));
    })().catch((error: unknown) => response.writeHead(500).end(`${String(error)}\n`));
  });
  await new Promise<void>((listening) => server.listen(socket, listening));
});

afterAll(async () => {
  server?.closeAllConnections();
  server?.close();
  await domain?.close();
});

const option = (args: readonly string[], name: string): string => {
  const value = args[args.indexOf(name) + 1];
  if (!args.includes(name) || value === undefined) throw new Error(`no ${name} in ${args.join(' ')}`);
  return value;
};

const answer = async (program: string, directory: string, args: string[], keys: string): Promise<string> => {
  if (program === 'kubectl') return await kubectl(option(args, '--context'), directory, args, keys);
  if (program === 'helm') return helm(directory, args);
  // Files that are named are there.
  for (const name of ['-f', '--config'])
    if (args.includes(name) && args[0] !== 'inspect') readFileSync(resolve(directory, option(args, name)));
  return args[0] === 'inspect' ? '198.51.100.20\n' : '';
};

/** Its own words, carried out as far as they go without a cluster. */
const helm = (directory: string, [command = '', ...args]: string[]): string => {
  expect(command).toBe('install');
  const [name = '', chart = '', ...options] = args;
  const context = option(options, '--kube-context');
  options.splice(options.indexOf('--kube-context'), 2);
  const files = options.map((one) =>
    one.replace(/(keys=)(\w+\.json)$/, (_, key, file) => `${key}${resolve(directory, file)}`),
  );
  const rendered = run('helm', 'template', name, resolve(directory, chart), ...files);
  installed.set(context, parse(rendered));
  return '';
};

const kubectl = async (context: string, directory: string, args: string[], keys: string): Promise<string> => {
  const words = args.join(' ');
  if (words.includes('get --raw /openid/v1/jwks')) return keys;
  const [, kind, name] = /rollout status (\w+)\/(\S+)/.exec(words) ?? [];
  if (name !== undefined) {
    const found = installed.get(context)?.map((one) => `${one.kind?.toLowerCase()}/${one.metadata?.name}`);
    expect(found).toContain(`${kind}/${name}`);
    return '';
  }
  const inside = args.slice(args.indexOf('--') + 1);
  if (words.includes('exec vl3-registry-0 -- vl3')) return await domain.admin(...inside.slice(1));
  if (words.includes('exec web -- ip ')) return '2: red    inet 10.60.1.2/32 scope global red\n';
  if (words.includes('exec web -- wget ')) return 'web\n';
  if (words.includes(' apply ')) {
    const [pod] = parse(readFileSync(resolve(directory, option(args, '-f')), 'utf8'));
    expect(await problemsOf(pod ?? {})).toEqual([]);
    pods.set(context, pod ?? {});
    return '';
  }
  if (words.includes(' wait ')) {
    expect(words).toMatch(/--for=(condition=Ready|jsonpath=\S+) pod\/web/);
    return '';
  }
  const [, annotation] = / annotate pod web vl3\.io\/networks=(\S*) --overwrite/.exec(words) ?? [];
  if (annotation === undefined) throw new Error(`kubectl ${words}: what does that do?`);
  expect(parseAnnotation('vl3.io/networks', annotation)).toBeDefined();
  return '';
};

test('all of it runs', async () => {
  const before = readdirSync(QUICKSTART);
  const script = paragraphs().map((one) => one.script);
  // The directory is written to.
  const place = join(domain.lab.scratch, 'kind');
  const links = `mkdir -p ${place} && cp ${QUICKSTART}/*.yaml ${place}/ && cd ${place}`;
  const chart = resolve(QUICKSTART, '../../../helm/vl3');
  const whole = script
    .join('\n')
    .replaceAll('../../../helm/vl3', chart)
    .replaceAll('../../../', `${resolve(QUICKSTART, '../../..')}/`);
  const { code, stdout, stderr } = await domain.host.tryRun(['sh', '-euc', `${links}\n${whole}`], {
    env: { PATH: `${join(domain.lab.scratch, 'bin')}:${process.env['PATH']}` },
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/\bred\b/);
  expect(readdirSync(QUICKSTART)).toEqual(before);
  const clusters = asked
    .filter((one) => one.startsWith('kind '))
    .map((one) => one.split(' ').slice(1, 3).join(' '));
  expect(clusters).toEqual([
    ...Array(2).fill(['create cluster', 'load docker-image']).flat(),
    ...Array(2).fill('delete cluster'),
  ]);
}, 60_000);

test('what it installs is well-formed, and the registry of the one knows the nodes of the other', async () => {
  const [east = [], west = []] = [installed.get('kind-east'), installed.get('kind-west')];
  expect((await Promise.all([...east, ...west].map(problemsOf))).flat()).toEqual([]);
  const map = east.find((one): one is V1ConfigMap => one.metadata?.name === 'vl3-registry-clusters');
  const known = parseClusters('/c/clusters.yaml', map?.data?.['clusters.yaml'] ?? '', 'default');
  expect(known.map(({ name }) => name)).toEqual(['east', 'west']);
  expect(JSON.parse(map?.data?.['west.json'] ?? '')).toHaveProperty('keys');
  const agent: V1DaemonSet = only(west, 'DaemonSet');
  const env = agent.spec?.template.spec?.containers[0]?.env ?? [];
  const told = parseDomainAddress(env.find(({ name }) => name === 'VL3_AGENT_DOMAIN')?.value ?? '');
  expect(told.trustDomain).toBe('test.example');
  expect(west.some(({ kind }) => kind === 'StatefulSet')).toBe(false);
});

test('its pods ask for the network that it makes', async () => {
  const networks = await domain.adminJson<{ name: string }[]>('network', 'list');
  const names = networks.map(({ name }) => name);
  for (const context of ['kind-east', 'kind-west'])
    expect(names).toContain(pods.get(context)?.metadata?.annotations?.['vl3.io/networks']);
});
