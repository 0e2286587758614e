// What the agent does for its CNI plugin: a container's networks attached all or none, found again by the runtime's names,
// checked and collected. The plugin's other half is cmd/vl3-cni; how one network is attached, src/agent/attachments.

import type {
  AddAnswer,
  AddRequest,
  CheckAnswer,
  CheckRequest,
  GcRequest,
  Owner,
} from '../../native-free/cni/agent-messages.ts';
import { Vl3Error } from '../../native-free/error.ts';
import {
  type Domains,
  keyOf,
  parseAnnotation,
  refuseForeign,
  type WantedNetwork,
} from '../../native-free/kube/annotation.ts';
import { AnnotationError } from '../../native-free/kube/annotation-error.ts';
import { NAMESPACE_LABEL } from '../../native-free/kube/pod-labels.ts';
import type { AttachmentDocument, WishDocument } from '../../native-free/reconcile/documents.ts';
import type { Attachments } from '../agent/attachments.ts';
import type { Router } from '../agent/router.ts';
import type { Wire } from './requests.ts';

export interface CniDeps {
  readonly attachments: Pick<Attachments, 'attach' | 'detach' | 'documents'>;
  /** Of a network that this node is on. */
  readonly router: (network: string) => Router | undefined;
  readonly domains: () => Domains;
  /** Whether an informer leads pods' attachments, and annotations are edited live. */
  readonly isLed: () => boolean;
}

export class Cni {
  readonly #deps: CniDeps;

  constructor(deps: CniDeps) {
    this.#deps = deps;
  }

  /**
   * Attaches the container; asked again it answers the same. What is not available now is attached later and not in the
   * answer. Throws Vl3Error when one of the networks can never be; then what this call has made is taken off again.
   */
  async add(request: Wire<AddRequest>): Promise<AddAnswer> {
    const { attachments } = this.#deps;
    const networks = this.#networks(request);
    const before = new Set(attachments.documents.map(({ id }) => id));
    const outcomes = await Promise.allSettled(
      networks.map((one) => attachments.attach(this.#toAttach(one, request), origin(request))),
    );
    const refused = outcomes.find((outcome) => outcome.status === 'rejected');
    if (refused !== undefined) {
      const made = this.#of(request.owner).filter(({ id }) => !before.has(id));
      await Promise.allSettled(made.map(({ id }) => attachments.detach({ id })));
      throw refused.reason;
    }
    const ids = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value.id] : []));
    const documents = new Map(attachments.documents.map((one) => [one.id, one]));
    return {
      interfaces: ids.flatMap((id) => {
        const document = documents.get(id);
        if (document === undefined || !('ready' in document) || !document.ready) return [];
        const shown = this.#deps.router(document.network)?.interfaceOf(document);
        return shown === undefined ? [] : [shown];
      }),
    };
  }

  /**
   * What is asked for and not there, or not as it was made. What is pending is no fault; nor is, where annotations are edited
   * live, what is not there any more: the runtime goes on asking for what the pod asked for at its start.
   */
  async check(request: Wire<CheckRequest>): Promise<CheckAnswer> {
    const networks = this.#networks(request);
    const found = this.#of(request.owner);
    const isLed = request.pod !== undefined && this.#deps.isLed();
    const missing = (isLed ? [] : networks)
      .filter(({ network }) => !found.some((one) => one.network === network))
      .map(({ network }) => `the container is not on ${network}: make it anew`);
    const faults = await Promise.all(found.map((one) => this.#faults(one)));
    return { faults: [...missing, ...faults.flat()] };
  }

  async #faults(document: AttachmentDocument | WishDocument): Promise<string[]> {
    if (!('ready' in document) || !document.ready) return [];
    const router = this.#deps.router(document.network);
    if (router === undefined) return [`${document.network} is not open on this node: see vl3 status`];
    return await router.faults(document);
  }

  /** Takes the container off everything; what is not there is no error. */
  async del(owner: Owner): Promise<{ detached: number }> {
    return await this.#detach(this.#of(owner));
  }

  /** Takes off what the plugin made within this conflist's network for containers that are not there any more. */
  async gc({ cniNetwork, valid }: GcRequest): Promise<{ detached: number }> {
    const keep = new Set(valid.map(({ containerId, ifName }) => `${containerId} ${ifName}`));
    return await this.#detach(
      this.#deps.attachments.documents.filter(
        ({ cni }) =>
          cni !== undefined && cni.cniNetwork === cniNetwork && !keep.has(`${cni.containerId} ${cni.ifName}`),
      ),
    );
  }

  async #detach(documents: readonly { readonly id: string }[]): Promise<{ detached: number }> {
    const outcomes = await Promise.allSettled(
      documents.map(({ id }) => this.#deps.attachments.detach({ id })),
    );
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return { detached: documents.length };
  }

  #of({ cniNetwork, containerId, ifName }: Owner): (AttachmentDocument | WishDocument)[] {
    return this.#deps.attachments.documents.filter(
      ({ cni }) => cni?.containerId === containerId && cni.ifName === ifName && cni.cniNetwork === cniNetwork,
    );
  }

  /** The labels of one that the informer knows already are the pod's: they are left as they are. */
  #toAttach(one: WantedNetwork, request: Wire<AddRequest>) {
    const { labels, ...others } = toAttach(one, request);
    const isKnown = this.#deps.attachments.documents.some(
      ({ network, netns, pod }) => network === one.network && netns === request.netns && pod !== undefined,
    );
    return isKnown ? others : { ...others, labels };
  }

  /** Named as nodes call them. */
  #networks({ wanted: { by, key, text }, pod }: Wire<CheckRequest>): WantedNetwork[] {
    try {
      const networks = parseAnnotation(key, text);
      const domains = this.#deps.domains();
      refuseForeign(key, text, networks, domains);
      return networks.map((one) => ({ ...one, network: keyOf(one, domains) }));
    } catch (error) {
      if (!(error instanceof AnnotationError) || by === 'pod') throw error;
      const where =
        by === 'namespace'
          ? `the annotation of namespace ${pod?.namespace ?? ''}`
          : '"networks" of the plugin';
      throw new Vl3Error(error.code, `${where}: ${error.message}`, { cause: error });
    }
  }
}

const origin = ({ owner, pod, wanted }: Wire<AddRequest>) => ({
  cni: owner,
  ...(pod === undefined ? {} : { pod }),
  ...(wanted.by === 'configuration' ? { isConfigured: true } : {}),
});

const toAttach = (
  { network, interfaceName, labels, addresses }: WantedNetwork,
  { netns, pod, owner, waitMs }: Wire<AddRequest>,
) => {
  const id = owner.containerId.slice(0, 12).toLowerCase();
  const workload = pod?.name ?? (/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(id) ? id : undefined);
  return {
    network,
    netns,
    waitMs,
    labels: pod === undefined ? labels : { ...labels, [NAMESPACE_LABEL]: pod.namespace },
    ...(workload === undefined ? {} : { workload }),
    ...(interfaceName === undefined ? {} : { interfaceName }),
    ...(addresses.length === 0 ? {} : { addresses: [...addresses] }),
  };
};
