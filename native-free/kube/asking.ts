// What a pod asks for, understood: networks of this domain and of its partners, others that cannot be had, or an annotation
// that is wrong. The informer looks at each network by itself; the CNI plugin refuses the pod as a whole (src/cni).

import { Vl3Error } from '../error.ts';
import { type Domains, keyOf, parseAnnotation, refuseForeign, type WantedNetwork } from './annotation.ts';
import { AnnotationError } from './annotation-error.ts';
import { type Asked, askedOf } from './asked.ts';
import type { Pod } from './pod.ts';

type Annotations = Readonly<Record<string, string>>;

/** A network that this pod is not attached to, and why. */
export interface Refused {
  /** As the annotation names it. */
  readonly name: string;
  readonly interface: string;
  readonly reason: 'NotFederated' | 'InvalidAnnotation';
  readonly message: string;
}

export type Asking =
  /** Its namespace has not been seen yet, and it has no annotation of its own. */
  | { readonly kind: 'unknown' }
  /** `isSaid`: an annotation says so. */
  | { readonly kind: 'nothing'; readonly isSaid: boolean }
  | { readonly kind: 'broken'; readonly message: string }
  | {
      readonly kind: 'networks';
      /** Whose annotation it is. */
      readonly by: Asked['by'];
      /** Named as nodes call them. */
      readonly wanted: readonly WantedNetwork[];
      readonly refused: readonly Refused[];
    };

export const askingOf = (
  pod: Pick<Pod, 'annotations' | 'namespace'>,
  namespaces: ReadonlyMap<string, Annotations>,
  domains: Domains,
): Asking => {
  const namespace = namespaces.get(pod.namespace);
  const asked = askedOf(pod.annotations, namespace);
  if (asked === undefined)
    return namespace === undefined ? { kind: 'unknown' } : { kind: 'nothing', isSaid: false };
  const prefix = asked.by === 'namespace' ? `the annotation of namespace ${pod.namespace}: ` : '';
  try {
    const all = parseAnnotation(asked.key, asked.text);
    if (all.length === 0) return { kind: 'nothing', isSaid: true };
    return { kind: 'networks', by: asked.by, ...sift(asked, all, domains, prefix) };
  } catch (error) {
    if (!(error instanceof AnnotationError)) throw error;
    return { kind: 'broken', message: `${prefix}${error.message}` };
  }
};

/**
 * Understands each pod once until it, its namespace or the domains (the same object while they are the same) are others: a
 * look at all pods costs little.
 */
export class Askings {
  readonly #known = new WeakMap<
    object,
    { namespace: Annotations | undefined; domains: Domains; asking: Asking }
  >();

  of(
    pod: Pick<Pod, 'annotations' | 'namespace'>,
    namespaces: ReadonlyMap<string, Annotations>,
    domains: Domains,
  ): Asking {
    const namespace = namespaces.get(pod.namespace);
    const known = this.#known.get(pod);
    if (known !== undefined && known.namespace === namespace && known.domains === domains)
      return known.asking;
    const asking = askingOf(pod, namespaces, domains);
    this.#known.set(pod, { namespace, domains, asking });
    return asking;
  }
}

const sift = ({ key, text }: Asked, all: readonly WantedNetwork[], domains: Domains, prefix: string) => {
  const wanted = new Map<string, WantedNetwork>();
  const refused: Refused[] = [];
  for (const one of all) {
    const { network, domain, interfaceName } = one;
    const refuse = (reason: Refused['reason'], message: string): void => {
      const name = domain === undefined ? network : `${network}@${domain}`;
      refused.push({ name, interface: interfaceName ?? network, reason, message: `${prefix}${message}` });
    };
    try {
      refuseForeign(key, text, [one], domains);
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      refuse('NotFederated', error.message);
      continue;
    }
    const known = keyOf(one, domains);
    if (!wanted.has(known)) wanted.set(known, { ...one, network: known });
    else {
      const sentence = `the network "${network}" is asked for twice, with its domain and without`;
      const { message } = new AnnotationError('invalid-argument', { key, text, at: one.at }, sentence);
      refuse('InvalidAnnotation', message);
    }
  }
  return { wanted: [...wanted.values()], refused };
};
