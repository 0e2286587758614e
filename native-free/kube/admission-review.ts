// AdmissionReview (admission.k8s.io/v1) as the webhook reads and answers it: of the objects inside only what decides about
// networks. It comes from whoever reaches the port, so nothing of it is taken for granted.

import { z } from 'zod';
import type { Admitted, Verdict } from './admission.ts';

const API_VERSION = 'admission.k8s.io/v1';
const KIND = 'AdmissionReview';
/** Of a pod that a kubelet has from a file: what is written is an image of it. */
const MIRROR = 'kubernetes.io/config.mirror';

export type Review =
  /** No review that could be answered. `problem` follows "this is no …". */
  | { readonly kind: 'malformed'; readonly problem: string }
  /** Nothing to say about. */
  | { readonly kind: 'other'; readonly uid: string }
  | {
      readonly kind: 'admitted';
      readonly uid: string;
      /** "team-a/web" or "team-a", as far as it has a name yet. */
      readonly name: string;
      readonly admitted: Admitted;
    };

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const areTexts = (value: object): value is Readonly<Record<string, string>> =>
  firstOther(value) === undefined;
const firstOther = (value: object): string | undefined =>
  Object.keys(value).find((key) => typeof Reflect.get(value, key) !== 'string');

/** Not as zod has records: it notes all that is wrong, and of a few MB of numbers makes hundreds. */
const texts = z
  .unknown()
  .optional()
  .transform((value, context) => {
    if (value === undefined || value === null) return {};
    if (isRecord(value) && areTexts(value)) return value;
    const key = isRecord(value) ? firstOther(value) : undefined;
    const path = key === undefined ? [] : [key];
    context.issues.push({
      code: 'custom',
      input: undefined,
      path,
      message: key === undefined ? 'expected texts by name' : 'expected a text',
    });
    return z.NEVER;
  });
const object = z.object({
  metadata: z.object({
    name: z.string().nullish(),
    generateName: z.string().nullish(),
    annotations: texts,
    labels: texts,
  }),
  spec: z.object({ hostNetwork: z.boolean().nullish() }).nullish(),
});
const head = z.object({ apiVersion: z.literal(API_VERSION), kind: z.literal(KIND) });
const request = z.object({
  uid: z.string().min(1).max(128),
  resource: z.object({ group: z.string().nullish(), version: z.string(), resource: z.string() }),
  subResource: z.string().nullish(),
  operation: z.string(),
  namespace: z.string().nullish(),
  object: z.unknown().optional(),
  oldObject: z.unknown().optional(),
});
const review = head.extend({ request });

const KINDS: Readonly<Record<string, Admitted['kind']>> = { pods: 'pod', namespaces: 'namespace' };

/** `value`: what the JSON said. */
export const readReview = (value: unknown): Review => {
  if (!head.safeParse(value).success)
    return { kind: 'malformed', problem: `${KIND} of ${API_VERSION}: send that` };
  const whole = review.safeParse(value);
  if (!whole.success) return malformed(whole.error);
  const { uid, resource, subResource, operation, namespace, object: now, oldObject } = whole.data.request;
  const isCore = (resource.group ?? '') === '' && resource.version === 'v1';
  const kind = isCore && Object.hasOwn(KINDS, resource.resource) ? KINDS[resource.resource] : undefined;
  const isWritten = operation === 'CREATE' || operation === 'UPDATE';
  if (kind === undefined || !isWritten || (subResource ?? '') !== '') return { kind: 'other', uid };
  const is = object.safeParse(now);
  if (!is.success) return malformed(is.error, 'request.object');
  const was = operation === 'UPDATE' ? object.safeParse(oldObject) : undefined;
  if (was?.success === false) return malformed(was.error, 'request.oldObject');
  const { metadata, spec } = is.data;
  const name = metadata.name ?? metadata.generateName ?? '';
  return {
    kind: 'admitted',
    uid,
    name: kind === 'pod' ? `${namespace ?? ''}/${name}` : name,
    admitted: {
      kind,
      annotations: metadata.annotations,
      labels: metadata.labels,
      before: was?.data.metadata.annotations,
      isHostNetwork: spec?.hostNetwork === true,
      isMirror: kind === 'pod' && Object.hasOwn(metadata.annotations, MIRROR),
    },
  };
};

const malformed = ({ issues }: z.ZodError, where = ''): Review => {
  const [first] = issues;
  const path = [where, ...(first?.path ?? []).map(String)].filter((one) => one !== '').join('.');
  return { kind: 'malformed', problem: `${KIND}: ${path.slice(0, 200)}: ${first?.message.slice(0, 200)}` };
};

/** 422 Unprocessable Entity, as the API server answers its own validation. */
const INVALID = { code: 422, reason: 'Invalid', status: 'Failure' };

/** What is sent back. */
export const answerTo = (uid: string, { refusal, warnings }: Verdict): object => ({
  apiVersion: API_VERSION,
  kind: KIND,
  response: {
    uid,
    allowed: refusal === undefined,
    ...(refusal === undefined ? {} : { status: { ...INVALID, message: refusal } }),
    ...(warnings.length === 0 ? {} : { warnings }),
  },
});

/** Of what vl3 has nothing to say about. */
export const NOTHING: Verdict = { refusal: undefined, warnings: [] };
