// Admission in the small API server: calls the webhooks of the ValidatingWebhookConfigurations that it has, as Kubernetes' own
// does, but for matchConditions, which only that can judge.

import { randomUUID } from 'node:crypto';
import { request as httpsRequest } from 'node:https';
import type { KubeObject, KubeStore } from './kube-store.ts';

export interface Write {
  readonly operation: 'CREATE' | 'UPDATE';
  readonly resource: string;
  readonly namespace: string;
  readonly object: KubeObject;
  readonly oldObject: KubeObject | undefined;
}

interface Webhook {
  name: string;
  clientConfig: {
    caBundle?: string;
    service: { namespace: string; name: string; path: string; port?: number };
  };
  rules: { operations: string[]; apiGroups: string[]; resources: string[] }[];
  namespaceSelector?: { matchExpressions?: { key: string; operator: string; values: string[] }[] };
  failurePolicy?: 'Fail' | 'Ignore';
  timeoutSeconds?: number;
}

interface Answer {
  response: {
    uid: string;
    allowed: boolean;
    status?: { code?: number; message?: string };
    warnings?: string[];
  };
}

export interface Admission {
  readonly warnings: readonly string[];
  readonly denied?: { readonly status: number; readonly message: string };
}

export const admit = async (store: KubeStore, write: Write): Promise<Admission> => {
  const warnings: string[] = [];
  for (const configuration of store.list('validatingwebhookconfigurations'))
    for (const webhook of configuration['webhooks'] as Webhook[]) {
      if (!isFor(webhook, write)) continue;
      try {
        const { response } = await call(store, webhook, write);
        warnings.push(...(response.warnings ?? []));
        if (response.allowed) continue;
        const { code = 400, message = '' } = response.status ?? {};
        const said = `admission webhook "${webhook.name}" denied the request: ${message}`;
        return { warnings, denied: { status: code, message: said } };
      } catch (error) {
        if (webhook.failurePolicy === 'Ignore') continue;
        return { warnings, denied: { status: 500, message: `failed calling webhook: ${error}` } };
      }
    }
  return { warnings };
};

const isFor = ({ rules, namespaceSelector }: Webhook, write: Write): boolean => {
  const { resource, operation, namespace, object } = write;
  const { name } = object.metadata;
  const isRuled = rules.some(
    (one) =>
      one.apiGroups.includes('') && one.resources.includes(resource) && one.operations.includes(operation),
  );
  const labels: Record<string, string> = {
    'kubernetes.io/metadata.name': resource === 'namespaces' ? name : namespace,
  };
  const isSelected = (namespaceSelector?.matchExpressions ?? []).every(({ key, operator, values }) => {
    if (operator !== 'NotIn') throw new Error(`operator ${operator}`);
    return !values.includes(labels[key] ?? '');
  });
  return isRuled && isSelected;
};

const call = async (store: KubeStore, webhook: Webhook, write: Write): Promise<Answer> => {
  const { service, caBundle } = webhook.clientConfig;
  const found = store.get('services', service.namespace, service.name);
  const { clusterIP } = (found?.spec ?? {}) as { clusterIP?: string };
  if (clusterIP === undefined) throw new Error(`there is no service ${service.name}`);
  const { operation, resource, namespace, object, oldObject = null } = write;
  const uid = randomUUID();
  const body = JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid,
      resource: { group: '', version: 'v1', resource },
      operation,
      ...(namespace === '' ? {} : { namespace }),
      object,
      oldObject,
    },
  });
  const timeout = (webhook.timeoutSeconds ?? 10) * 1000;
  const asked = httpsRequest({
    host: clusterIP,
    port: service.port ?? 443,
    path: `${service.path}?timeout=${webhook.timeoutSeconds ?? 10}s`,
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    ca: Buffer.from(caBundle ?? '', 'base64').toString(),
    servername: `${service.name}.${service.namespace}.svc`,
    agent: false,
    signal: AbortSignal.timeout(timeout),
  });
  const text = new Promise<string>((resolve, reject) => {
    asked.once('error', reject);
    asked.once('response', async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk);
      const said = Buffer.concat(chunks).toString();
      if (response.statusCode === 200) resolve(said);
      else reject(new Error(`${response.statusCode} ${said}`));
    });
  });
  asked.end(body);
  const answer: Answer = JSON.parse(await text);
  if (answer.response.uid !== uid) throw new Error('the answer is to another question');
  return answer;
};
