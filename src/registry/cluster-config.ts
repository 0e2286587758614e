// The Kubernetes clusters whose nodes enrol by their word: a YAML file of its own, since a setting is one line and a cluster is
// several. Read as text only, as the configuration is. Not here: their keys (cluster-keys.ts) and tokens (clusters.ts).

import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import {
  clashingClusters,
  isClusterName,
  MAX_CLUSTER_NAME,
} from '../../native-free/registry/cluster-node.ts';

export const IN_CLUSTER = 'in-cluster';
const MAX_CLUSTERS = 1000;
/** Kubernetes' own bounds. */
const ACCOUNT = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

export interface ClusterConfig {
  readonly name: string;
  /** The `iss` of its tokens; undefined: what its API server says. */
  readonly issuer: string | undefined;
  readonly audience: string;
  /** The `sub` of its tokens. */
  readonly subject: string;
  readonly keys: KeysConfig;
}

export type KeysConfig =
  | { readonly kind: typeof IN_CLUSTER }
  | { readonly kind: 'file'; readonly path: string }
  /** `caFile`: whom its server is known by (undefined: the usual CAs). `tokenFile`: what is shown to it. */
  | {
      readonly kind: 'url';
      readonly url: string;
      readonly caFile: string | undefined;
      readonly tokenFile: string | undefined;
    };

const text = (max: number) => z.string().min(1, 'is empty').max(max, `write at most ${max} characters`);
const cluster = z.strictObject({
  name: z
    .string()
    .refine(isClusterName, `use a DNS label of at most ${MAX_CLUSTER_NAME} characters, like "east"`),
  keys: text(2048),
  issuer: text(1024).optional(),
  audience: text(1024).optional(),
  'service-account': z
    .string()
    .regex(ACCOUNT, 'write <namespace>/<name>, like vl3-system/vl3-agent')
    .default('vl3-system/vl3-agent'),
  'ca-file': text(4096).optional(),
  'token-file': text(4096).optional(),
});
const schema = z.strictObject({
  clusters: z.array(cluster).max(MAX_CLUSTERS, `name at most ${MAX_CLUSTERS} clusters`),
});

/**
 * `defaultAudience`: what tokens are for where a cluster names nothing else. Throws Vl3Error('invalid-argument') with the
 * place.
 */
export const parseClusters = (file: string, content: string, defaultAudience: string): ClusterConfig[] => {
  const refuse = (sentence: string): never => {
    throw new Vl3Error('invalid-argument', `${file}: ${sentence}`);
  };
  const read = schema.safeParse(readYaml(content, refuse));
  if (!read.success) {
    const [issue] = read.error.issues;
    const place = (issue?.path ?? []).map((one) =>
      typeof one === 'number' ? `[${one}]` : `.${String(one)}`,
    );
    return refuse(`${place.join('').replace(/^\./, '') || 'this'}: ${issue?.message ?? 'is malformed'}`);
  }
  const { clusters } = read.data;
  const clash = clashingClusters(clusters.map(({ name }) => name));
  if (clash !== undefined) {
    refuse(
      clash[0] === clash[1]
        ? `two clusters are called "${clash[0]}": a node is called after its cluster, so give each a name of its own`
        : `the clusters "${clash[0]}" and "${clash[1]}" would have nodes of the same name: call one of them otherwise`,
    );
  }
  return clusters.map((one) => {
    const { name, issuer, audience = defaultAudience, keys } = one;
    const [namespace = '', account = ''] = one['service-account'].split('/');
    const at = `cluster "${name}"`;
    if (issuer === undefined && keys !== IN_CLUSTER)
      refuse(
        `${at}: issuer is missing: write what \`kubectl get --raw /.well-known/openid-configuration\` says`,
      );
    const subject = `system:serviceaccount:${namespace}:${account}`;
    const found = keysOf(one, dirname(file));
    if (typeof found === 'string') return refuse(`${at}: ${found}`);
    return { name, issuer, audience, subject, keys: found };
  });
};

const readYaml = (content: string, refuse: (sentence: string) => never): unknown => {
  try {
    return parse(content, { schema: 'failsafe', maxAliasCount: 0, prettyErrors: true, logLevel: 'error' });
  } catch (error) {
    return refuse(
      `this is not the YAML it should be (${error instanceof Error ? error.message.split('\n')[0] : String(error)})`,
    );
  }
};

/** What is wrong, in a sentence. */
const keysOf = (one: z.output<typeof cluster>, directory: string): KeysConfig | string => {
  const { keys, 'ca-file': caFile, 'token-file': tokenFile } = one;
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(keys);
  if (!isUrl && (caFile ?? tokenFile) !== undefined)
    return 'ca-file and token-file go with keys that are fetched from an address: leave them out';
  if (keys === IN_CLUSTER) return { kind: IN_CLUSTER };
  if (!isUrl) return { kind: 'file', path: resolve(directory, keys) };
  if (!URL.canParse(keys) || new URL(keys).protocol !== 'https:')
    return 'keys are fetched by https alone: write https://…, a file, or in-cluster';
  const path = (file: string | undefined) => (file === undefined ? undefined : resolve(directory, file));
  return { kind: 'url', url: keys, caFile: path(caFile), tokenFile: path(tokenFile) };
};
