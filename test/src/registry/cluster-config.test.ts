// The list of the clusters whose tokens are believed: what is refused as it is read, and with which place.

import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseClusters } from '../../../src/registry/cluster-config.ts';
import {
  AUDIENCE,
  ClustersFile,
  claimsOf,
  east,
  opened,
  outcome,
  sign,
  signingKey,
} from './cluster-fixture.ts';

describe('a list of clusters', () => {
  const refused = (text: string): string => {
    const file = new ClustersFile();
    writeFileSync(file.path, text);
    try {
      opened(file);
      return 'accepted';
    } catch (error) {
      return String(error).replaceAll(file.path, 'F');
    }
  };
  const entry = (over: Record<string, unknown>) => JSON.stringify({ clusters: [{ ...east, ...over }] });
  test.each([
    ['clusters: [', /F: this is not the YAML it should be/],
    ['', /F: this: /],
    ['a: &a [1]\nclusters: *a\n', /F: /],
    ['clusters: []\nmore: 1\n', /F: .*more/],
    [entry({ name: 'East' }), /F: clusters\[0\]\.name: use a DNS label of at most 30/],
    [entry({ name: 'a'.repeat(31) }), /clusters\[0\]\.name/],
    [entry({ isuer: 'x' }), /isuer/],
    [
      JSON.stringify({ clusters: [{ name: 'east', keys: 'east.json' }] }),
      /cluster "east": issuer is missing/,
    ],
    [entry({ keys: 'http://127.0.0.1/jwks' }), /by https alone/],
    [entry({ 'ca-file': 'x' }), /ca-file and token-file go with keys that are fetched/],
    [entry({ 'service-account': 'vl3-agent' }), /<namespace>\/<name>/],
    [JSON.stringify({ clusters: [east, east] }), /two clusters are called "east"/],
    [
      JSON.stringify({ clusters: [east, { ...east, name: 'east-1' }] }),
      /"east" and "east-1" would have nodes of the same name/,
    ],
    [`clusters: [{name: own, keys: in-cluster}]`, /this is no pod of a Kubernetes cluster/],
  ])('is refused at the start, with its place: %s', (text, reason) => {
    expect(refused(text)).toMatch(reason);
  });

  test('is as the example has it, also with what is commented out there', () => {
    const path = resolve(import.meta.dirname, '../../../deploy/examples/clusters.yaml');
    const text = readFileSync(path, 'utf8').replace(/^( +)# (?=[a-z-]+: \S+$)/gm, '$1');
    expect(parseClusters('/etc/vl3/clusters.yaml', text, 'default')).toEqual([
      expect.objectContaining({
        name: 'home',
        issuer: undefined,
        audience: 'default',
        keys: { kind: 'in-cluster' },
      }),
      expect.objectContaining({ name: 'east', keys: { kind: 'file', path: '/etc/vl3/east.json' } }),
      {
        name: 'west',
        issuer: 'https://oidc.example/id/1234',
        audience: 'spiffe://aws-prod.example/registry',
        subject: 'system:serviceaccount:vl3-system:vl3-agent',
        keys: {
          kind: 'url',
          url: 'https://oidc.example/id/1234/keys',
          caFile: '/etc/vl3/west-ca.crt',
          tokenFile: '/etc/vl3/west-token',
        },
      },
    ]);
  });

  test('may be empty, and then nobody enrols', async () => {
    const file = new ClustersFile();
    file.write([]);
    const { clusters } = opened(file);
    expect(await outcome(clusters, await sign(await signingKey(), claimsOf('n')))).toMatch(/^other-issuer/);
    expect(AUDIENCE).toBe('spiffe://test.example/registry');
  });
});
