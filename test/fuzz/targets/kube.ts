// What people write on pods: the annotation that asks for networks, and the review of it before it is written.

import { judge } from '../../../native-free/kube/admission.ts';
import { answerTo, NOTHING, readReview } from '../../../native-free/kube/admission-review.ts';
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

const REVIEW = JSON.stringify({
  apiVersion: 'admission.k8s.io/v1',
  kind: 'AdmissionReview',
  request: {
    uid: 'u',
    resource: { group: '', version: 'v1', resource: 'pods' },
    operation: 'UPDATE',
    object: { metadata: { annotations: { 'vl3.io/networks': 'red,' } }, spec: { hostNetwork: true } },
    oldObject: { metadata: { annotations: { 'networkservicemesh.io': 'kernel://red' } } },
  },
});

const fuzzReview = (source: Source): void => {
  let value: unknown;
  try {
    value = JSON.parse(source.textLike([REVIEW], 600));
  } catch {
    return;
  }
  const review = readReview(value);
  if (review.kind === 'malformed') {
    must(review.problem.length > 10 && review.problem.length < 500, 'malformed without a sentence');
    return;
  }
  const verdict = review.kind === 'admitted' ? judge(review.admitted, 'home.example') : NOTHING;
  for (const warning of verdict.warnings)
    must(/^\P{C}{1,250}$/u.test(warning), 'a warning that fits no header');
  const { response } = JSON.parse(JSON.stringify(answerTo(review.uid, verdict)));
  must(response.uid === review.uid, 'an answer to another question');
  must(response.allowed === (verdict.refusal === undefined), 'an answer that is not what was judged');
};

export const kubeTargets = [
  pure('review', 'a review is answered, or malformed', 600, fuzzReview),
  pure('annotation', 'an annotation is read, or refused with the place', 240, fuzzAnnotation),
];
