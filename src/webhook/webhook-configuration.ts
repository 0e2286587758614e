// The ValidatingWebhookConfiguration in which API servers read where the webhook is and whom to trust there: what of it the
// webhook reads, and the one field that it writes. All that it asks of a cluster.

import type { AdmissionregistrationV1WebhookClientConfig as ClientConfig } from '@kubernetes/client-node';
import { apiCall } from '../kube/api-call.ts';
import { clusterConfig } from '../kube/cluster-config.ts';

export interface ConfiguredWebhook {
  readonly name: string;
  /** What API servers expect in its certificate; undefined: nobody could call it. */
  readonly host: string | undefined;
  /** PEM, or whatever is there. */
  readonly bundle: string;
}

export interface WebhookConfiguration {
  readonly resourceVersion: string;
  readonly webhooks: readonly ConfiguredWebhook[];
}

/** All throw Vl3Error. */
export interface ConfigurationApi {
  /** 'not-found': there is none. */
  read(): Promise<WebhookConfiguration>;
  /** Sets bundles by webhook's name. 'aborted': it is not as it was read. */
  trust(resourceVersion: string, bundles: ReadonlyMap<string, string>): Promise<void>;
}

const WHO = 'webhook';

/** Throws Vl3Error when there is nothing to connect by; the server is not asked yet. Calls end with `signal`. */
export const connectConfiguration = async (
  name: string,
  kubeconfig: string | undefined,
  signal: AbortSignal,
): Promise<ConfigurationApi> => {
  const config = await clusterConfig(kubeconfig, WHO, signal);
  const { AdmissionregistrationV1Api, PatchStrategy, setHeaderOptions } = await import(
    '@kubernetes/client-node'
  );
  const admission = config.makeApiClient(AdmissionregistrationV1Api);
  const what = `ValidatingWebhookConfiguration ${name}`;
  return {
    read: () =>
      apiCall(WHO, `read ${what}`, async () => {
        const { metadata, webhooks } = await admission.readValidatingWebhookConfiguration({ name });
        return {
          resourceVersion: metadata?.resourceVersion ?? '',
          webhooks: (webhooks ?? []).map(({ name: one, clientConfig }) => ({
            name: one,
            host: hostOf(clientConfig),
            bundle: Buffer.from(clientConfig.caBundle ?? '', 'base64').toString('latin1'),
          })),
        };
      }),

    trust: (resourceVersion, bundles) =>
      apiCall(WHO, `write ${what}`, async () => {
        const webhooks = [...bundles].map(([one, bundle]) => ({
          name: one,
          clientConfig: { caBundle: Buffer.from(bundle, 'latin1').toString('base64') },
        }));
        // Webhooks are merged by their names, and none goes; another version is a conflict.
        const how = setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch);
        const body = { metadata: { resourceVersion }, webhooks };
        await admission.patchValidatingWebhookConfiguration({ name, body, fieldManager: 'vl3-webhook' }, how);
      }),
  };
};

const hostOf = ({ service, url }: ClientConfig): string | undefined => {
  if (service !== undefined) return `${service.name}.${service.namespace}.svc`;
  return url !== undefined && URL.canParse(url)
    ? new URL(url).hostname.replace(/^\[(.*)\]$/, '$1')
    : undefined;
};
