// What a pod asks for, understood: networks of this domain, others that cannot be had, or an annotation that is wrong. The
// informer looks at each network by itself; the CNI plugin refuses the pod as a whole (src/cni).

import { Vl3Error } from '../error.ts';
import { parseAnnotation, refuseForeign, type WantedNetwork } from './annotation.ts';
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
      readonly wanted: readonly WantedNetwork[];
      readonly refused: readonly Refused[];
    };

export const askingOf = (
  pod: Pick<Pod, 'annotations' | 'namespace'>,
  namespaces: ReadonlyMap<string, Annotations>,
  home: string,
): Asking => {
  const namespace = namespaces.get(pod.namespace);
  const asked = askedOf(pod.annotations, namespace);
  if (asked === undefined)
    return namespace === undefined ? { kind: 'unknown' } : { kind: 'nothing', isSaid: false };
  const prefix = asked.by === 'namespace' ? `the annotation of namespace ${pod.namespace}: ` : '';
  try {
    const all = parseAnnotation(asked.key, asked.text);
    if (all.length === 0) return { kind: 'nothing', isSaid: true };
    return { kind: 'networks', by: asked.by, ...sift(asked, all, home, prefix) };
  } catch (error) {
    if (!(error instanceof AnnotationError)) throw error;
    return { kind: 'broken', message: `${prefix}${error.message}` };
  }
};

/** Understands each pod once until it, its namespace or the domain is another: a look at all pods costs little. */
export class Askings {
  readonly #known = new WeakMap<
    object,
    { namespace: Annotations | undefined; home: string; asking: Asking }
  >();

  of(
    pod: Pick<Pod, 'annotations' | 'namespace'>,
    namespaces: ReadonlyMap<string, Annotations>,
    home: string,
  ): Asking {
    const namespace = namespaces.get(pod.namespace);
    const known = this.#known.get(pod);
    if (known !== undefined && known.namespace === namespace && known.home === home) return known.asking;
    const asking = askingOf(pod, namespaces, home);
    this.#known.set(pod, { namespace, home, asking });
    return asking;
  }
}

const sift = ({ key, text }: Asked, all: readonly WantedNetwork[], home: string, prefix: string) => {
  const wanted = new Map<string, WantedNetwork>();
  const refused: Refused[] = [];
  for (const one of all) {
    const { network, domain, interfaceName } = one;
    const refuse = (reason: Refused['reason'], message: string): void => {
      const name = domain === undefined ? network : `${network}@${domain}`;
      refused.push({ name, interface: interfaceName ?? network, reason, message: `${prefix}${message}` });
    };
    try {
      refuseForeign(key, text, [one], home);
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      refuse('NotFederated', error.message);
      continue;
    }
    if (!wanted.has(network)) wanted.set(network, one);
    else {
      const sentence = `the network "${network}" is asked for twice, with its domain and without`;
      const { message } = new AnnotationError('invalid-argument', { key, text, at: one.at }, sentence);
      refuse('InvalidAnnotation', message);
    }
  }
  return { wanted: [...wanted.values()], refused };
};
