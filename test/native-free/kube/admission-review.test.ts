import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { judge } from '../../../native-free/kube/admission.ts';
import { answerTo, NOTHING, readReview } from '../../../native-free/kube/admission-review.ts';

const KEY = 'vl3.io/networks';

/** As an API server sends it, with more in it than is read. */
const review = (request: Record<string, unknown> = {}): Record<string, unknown> => ({
  apiVersion: 'admission.k8s.io/v1',
  kind: 'AdmissionReview',
  request: {
    uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
    kind: { group: '', version: 'v1', kind: 'Pod' },
    resource: { group: '', version: 'v1', resource: 'pods' },
    namespace: 'team-a',
    operation: 'CREATE',
    userInfo: { username: 'admin' },
    object: { metadata: { generateName: 'web-', annotations: { [KEY]: 'red' } }, spec: { containers: [] } },
    oldObject: null,
    ...request,
  },
});

describe('a review', () => {
  test('of a new pod is read', () => {
    expect(readReview(review())).toEqual({
      kind: 'admitted',
      uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
      name: 'team-a/web-',
      admitted: {
        kind: 'pod',
        annotations: { [KEY]: 'red' },
        labels: {},
        before: undefined,
        isHostNetwork: false,
        isMirror: false,
      },
    });
  });

  test('of a namespace that changes is read with what it was', () => {
    const resource = { group: '', version: 'v1', resource: 'namespaces' };
    const object = { metadata: { name: 'team-a', annotations: { [KEY]: 'green' }, labels: { a: 'b' } } };
    const oldObject = { metadata: { name: 'team-a' } };
    expect(readReview(review({ resource, operation: 'UPDATE', object, oldObject }))).toMatchObject({
      kind: 'admitted',
      name: 'team-a',
      admitted: { kind: 'namespace', annotations: { [KEY]: 'green' }, labels: { a: 'b' }, before: {} },
    });
  });

  test('tells a pod on its node’s network, and one that is a mirror', () => {
    const annotations = { 'kubernetes.io/config.mirror': 'x' };
    const object = { metadata: { name: 'static', annotations }, spec: { hostNetwork: true } };
    expect(readReview(review({ object }))).toMatchObject({
      admitted: { isHostNetwork: true, isMirror: true },
    });
  });

  test.each([
    ['something else', { resource: { group: 'apps', version: 'v1', resource: 'deployments' } }],
    ['pods of another group', { resource: { group: 'example.com', version: 'v1', resource: 'pods' } }],
    [
      'what is called as what all objects have',
      { resource: { group: '', version: 'v1', resource: 'toString' } },
    ],
    ["a pod's status", { subResource: 'status' }],
    ['what goes', { operation: 'DELETE', object: null }],
    ['a command in a pod', { operation: 'CONNECT', object: {} }],
  ])('of %s is nothing to say about', (_, request) => {
    expect(readReview(review(request)).kind).toBe('other');
  });

  test.each([
    ['null', null, /^AdmissionReview of admission\.k8s\.io\/v1: send that$/],
    ['a list', [review()], /send that$/],
    ['another version', { ...review(), apiVersion: 'admission.k8s.io/v1beta1' }, /send that$/],
    ['no request', { ...review(), request: undefined }, /^AdmissionReview: request: /],
    ['no uid', review({ uid: '' }), /^AdmissionReview: request\.uid: /],
    ['a uid without an end', review({ uid: 'u'.repeat(200) }), /^AdmissionReview: request\.uid: /],
    ['no object', review({ object: null }), /^AdmissionReview: request\.object: /],
    ['an update of nothing', review({ operation: 'UPDATE' }), /^AdmissionReview: request\.oldObject: /],
    [
      'an annotation that is no text',
      review({ object: { metadata: { annotations: { [KEY]: 7 } } } }),
      /^AdmissionReview: request\.object\.metadata\.annotations\.vl3\.io\/networks: /,
    ],
    [
      'annotations that are a list',
      review({ object: { metadata: { annotations: ['red'] } } }),
      /request\.object\.metadata\.annotations: /,
    ],
  ])('%s is malformed, and the place is told', (_, value, problem) => {
    expect(readReview(value)).toEqual({ kind: 'malformed', problem: expect.stringMatching(problem) });
  });

  test('of whatever JSON says is read without harm, and what can be answered is answered', () => {
    const names = fc.constantFrom('__proto__', 'constructor', 'metadata', 'annotations', KEY, 'spec', 'x');
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: 'small' },
        fc.string(),
        fc.constant(null),
        fc.boolean(),
        fc.integer(),
        fc.array(tie('any'), { maxLength: 3 }),
        fc.array(fc.tuple(names, tie('any')), { maxLength: 4 }).map((all) => Object.fromEntries(all)),
      ),
    })).any;
    const whole = fc
      .record({ object: value, oldObject: value, operation: fc.constantFrom('CREATE', 'UPDATE') })
      .map(review);
    fc.assert(
      fc.property(fc.oneof(value, whole), (given) => {
        const read = readReview(JSON.parse(JSON.stringify(given)));
        if (read.kind === 'malformed') expect(read.problem.length).toBeLessThan(450);
        if (read.kind !== 'admitted') return;
        const { refusal } = judge(read.admitted, undefined);
        expect(answerTo(read.uid, { refusal, warnings: [] })).toMatchObject({
          response: { allowed: refusal === undefined },
        });
      }),
      { numRuns: 2000 },
    );
  });
});

describe('an answer', () => {
  const head = { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' };

  test('allows without a word', () => {
    expect(answerTo('u', NOTHING)).toEqual({ ...head, response: { uid: 'u', allowed: true } });
  });

  test('warns, and refuses as the API server does what is invalid', () => {
    expect(answerTo('u', { refusal: 'wrong\n  here\n  ^', warnings: ['odd'] })).toEqual({
      ...head,
      response: {
        uid: 'u',
        allowed: false,
        status: { status: 'Failure', code: 422, reason: 'Invalid', message: 'wrong\n  here\n  ^' },
        warnings: ['odd'],
      },
    });
  });
});

test('of annotations that are no texts only the first is looked at, however many there are', () => {
  const annotations = {
    'a/b': 'text',
    one: 1,
    get two(): number {
      throw new Error('looked at');
    },
  };
  expect(readReview(review({ object: { metadata: { annotations } } }))).toEqual({
    kind: 'malformed',
    problem: 'AdmissionReview: request.object.metadata.annotations.one: expected a text',
  });
});

test('what a new object replaces may be left out', () => {
  const { request, ...head } = review();
  const { oldObject: _, ...rest } = Object(request);
  expect(readReview({ ...head, request: rest })).toMatchObject({ kind: 'admitted' });
});
