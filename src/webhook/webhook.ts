// The admission webhook of a cluster: puts together the server that reviews come to and the keeper of its certificate. The
// composition root: what it opens in order it closes in reverse. It writes nothing but whom API servers are to trust.

import type { Logger } from 'pino';
import type { HostPort } from '../../native-free/host-port.ts';
import { judge } from '../../native-free/kube/admission.ts';
import { Certificates, type Pace } from './certificates.ts';
import { ReviewServer } from './review-server.ts';
import { connectConfiguration } from './webhook-configuration.ts';

export interface WebhookOptions {
  readonly listen: HostPort;
  /** What this replica is called; no other is. */
  readonly name: string;
  /** The ValidatingWebhookConfiguration's name. */
  readonly configuration: string;
  /** Undefined: by the service account of the pod. */
  readonly kubeconfig: string | undefined;
  /** Undefined: networks of every domain pass. */
  readonly trustDomain: string | undefined;
  readonly pace?: Pace;
}

export interface WebhookDeps {
  readonly logger: Logger;
  readonly clock?: { readonly monotonic: () => number; readonly wall: () => number };
}

/** What metrics and health checks read. */
export interface ObservedWebhook {
  readonly server: Pick<ReviewServer, 'counts' | 'onDone'>;
  readonly certificates: Pick<Certificates, 'problems' | 'notAfter' | 'renewals'>;
}

export interface RunningWebhook extends AsyncDisposable {
  readonly port: number;
  readonly observed: ObservedWebhook;
}

/** Enough for one more word to the API server. */
const RETRACT_MS = 3_000;

const CLOCK = { monotonic: () => performance.now(), wall: () => Date.now() };

/** Throws Vl3Error when it cannot be reached or cannot reach anybody; the cluster is not asked yet. */
export const startWebhook = async (
  options: WebhookOptions,
  { logger, clock = CLOCK }: WebhookDeps,
): Promise<RunningWebhook> => {
  const calls = new AbortController();
  const { configuration, kubeconfig, trustDomain, name, pace } = options;
  const api = await connectConfiguration(configuration, kubeconfig, calls.signal);
  const server = await ReviewServer.open(options.listen, {
    judge: (review) => {
      const verdict = judge(review.admitted, trustDomain);
      const { refusal } = verdict;
      if (refusal !== undefined)
        logger.info({ [review.admitted.kind]: review.name, refusal }, 'an annotation is refused');
      return verdict;
    },
    failed: (error) => logger.error({ err: error }, 'a review failed'),
  });
  const certificates = new Certificates(
    { name, ...(pace === undefined ? {} : { pace }) },
    { api, clock, logger, show: (one) => server.show(one) },
  );
  const keeping = new AbortController();
  const kept = certificates.run(keeping.signal);
  logger.info({ port: server.port, configuration }, 'the webhook is up');
  return {
    port: server.port,
    observed: { server, certificates },
    [Symbol.asyncDispose]: async () => {
      keeping.abort();
      await server[Symbol.asyncDispose]();
      const end = setTimeout(() => calls.abort(), RETRACT_MS);
      await kept;
      await certificates.retract();
      clearTimeout(end);
      calls.abort();
    },
  };
};
