// What people write on pods: the annotation that asks for networks.

import { parseAnnotation } from '../../../native-free/kube/annotation.ts';
import { AnnotationError } from '../../../native-free/kube/annotation-error.ts';
import { ANNOTATION_KEYS } from '../../../native-free/kube/asked.ts';
import { isName } from '../../../native-free/registry/spiffe-id.ts';
import { checkInterfaceName, defaultInterfaceName } from '../../../src/netns/names.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, pure } from '../target.ts';

const ANNOTATIONS = [
  '',
  'red, green@partner.example',
  'red/net1?app=web&address=10.60.1.7&address=fd00::7,green',
  'kernel://red/nsm-1?app=web,kernel://green@a.example/nsm-2',
  'red?k8s.io/tier=front&x=',
];

const fuzzAnnotation = (source: Source): void => {
  const key = source.pick(ANNOTATION_KEYS);
  const text = source.textLike(ANNOTATIONS, 200);
  try {
    const networks = parseAnnotation(key, text);
    for (const { network, interfaceName, labels, at } of networks) {
      must(isName(network) && text.includes(network, at), 'a network that was not written');
      checkInterfaceName(interfaceName ?? defaultInterfaceName(network));
      mustEqual(Object.getPrototypeOf(labels) === Object.prototype, true, 'the prototype of the labels');
    }
    // What it is read as does not depend on blanks around it.
    mustEqual(parseAnnotation(key, `${text}\n`), networks, 'with a line end');
  } catch (error) {
    if (!(error instanceof AnnotationError)) throw error;
    must(error.code === 'invalid-argument' && error.sentence.length > 10, 'refused without a sentence');
    must(error.at >= 0 && error.at <= text.length, 'a place outside of the text');
    must(error.message.split('\n').length === 3 && error.message.length < 2000, 'an excerpt of many lines');
  }
};

export const kubeTargets = [
  pure('annotation', 'an annotation is read, or refused with the place', 240, fuzzAnnotation),
];
