// Whether what a pod or a namespace is about to say to vl3 can be understood: decided as it is written, by the parser that
// agents read it with. Only what is new is refused. What is merely odd is warned about; whether networks exist and addresses
// are free nobody can know yet.

import { isName } from '../names/name.ts';
import { NAME_LABEL } from '../names/own-names.ts';
import { parseAnnotation } from './annotation.ts';
import { AnnotationError } from './annotation-error.ts';
import { ANNOTATION_KEYS, type Asked, askedOf } from './asked.ts';
import { askingOf } from './asking.ts';
import { STATUS_KEY } from './network-status.ts';

type Texts = Readonly<Record<string, string>>;

/** What is about to be written. */
export interface Admitted {
  readonly kind: 'pod' | 'namespace';
  readonly annotations: Texts;
  readonly labels: Texts;
  /** What is there already; undefined: nothing. */
  readonly before: Texts | undefined;
  readonly isHostNetwork: boolean;
  /** Made from a file on its node: it runs whatever is answered here. */
  readonly isMirror: boolean;
}

export interface Verdict {
  /** Why it is refused, several lines; undefined: it is not. */
  readonly refusal: string | undefined;
  /** A line each. */
  readonly warnings: readonly string[];
}

const OWN_PREFIX = 'vl3.io/';
const READ: readonly string[] = [...ANNOTATION_KEYS, STATUS_KEY];
/** The API server shortens longer ones, and takes some KB of them all. */
const MAX_WARNING = 250;
const MAX_WARNINGS = 8;

/** `home`: the domain; undefined: it is not known here, and every domain passes. */
export const judge = (admitted: Admitted, home: string | undefined): Verdict => {
  const { kind, annotations, before, isMirror, isHostNetwork } = admitted;
  const warnings = oddities(admitted);
  const asked = askedOf(annotations, undefined);
  if (asked === undefined) return verdict(undefined, warnings);
  const { problem, labels } = understand(asked, home);
  if (kind === 'pod') warnings.push(...unusableName({ ...admitted.labels, ...labels }));
  if (isHostNetwork && asked.text.trim() !== '')
    warnings.push(`${asked.key}: a pod on its node's network is left out`);
  // An update that leaves it as it is must pass: what takes a finalizer off has not written it.
  const was = before === undefined ? undefined : askedOf(before, undefined);
  const isOld = was !== undefined && was.key === asked.key && was.text === asked.text;
  const isRefused = problem !== undefined && !isOld && !isMirror;
  if (problem !== undefined && !isRefused) warnings.unshift(firstLine(problem));
  return verdict(isRefused ? problem : undefined, warnings);
};

const verdict = (refusal: string | undefined, warnings: readonly string[]): Verdict => ({
  refusal,
  warnings: warnings.slice(0, MAX_WARNINGS).map(line),
});

interface Understood {
  readonly problem: string | undefined;
  /** That the annotation gives to any of its networks. */
  readonly labels: Texts;
}

const understand = ({ key, text }: Asked, home: string | undefined): Understood => {
  try {
    const wanted = parseAnnotation(key, text);
    const labels = Object.fromEntries(wanted.flatMap((one) => Object.entries(one.labels)));
    // With whom the domain is federated only its nodes know: whoever is named may be.
    const partners = new Set(wanted.flatMap(({ domain }) => domain ?? []));
    const asking =
      home === undefined ? undefined : askingOf(alone(key, text), NO_DEFAULTS, { home, partners });
    const refused = asking?.kind === 'networks' ? asking.refused : [];
    return { problem: refused[0]?.message, labels };
  } catch (error) {
    if (!(error instanceof AnnotationError)) throw error;
    return { problem: error.message, labels: {} };
  }
};

const NO_DEFAULTS = new Map([['', {}]]);
const alone = (key: string, text: string) => ({ namespace: '', annotations: { [key]: text } });

/** What is said to vl3, and not heard. */
const oddities = ({ annotations }: Admitted): string[] => {
  const [first, second] = ANNOTATION_KEYS;
  const unknown = Object.keys(annotations)
    .filter((key) => key.startsWith(OWN_PREFIX) && !READ.includes(key))
    .slice(0, MAX_WARNINGS);
  const isBoth = Object.hasOwn(annotations, first) && Object.hasOwn(annotations, second);
  return [
    ...unknown.map((key) =>
      key === NAME_LABEL
        ? `annotation ${key} is not read: make it a label`
        : `annotation ${key} is not known to vl3: networks are asked for by ${first}`,
    ),
    ...(isBoth ? [`annotation ${second} is not read beside ${first}`] : []),
  ];
};

const unusableName = (labels: Texts): string[] => {
  const name = Object.hasOwn(labels, NAME_LABEL) ? labels[NAME_LABEL] : undefined;
  if (name === undefined || isName(name.toLowerCase())) return [];
  return [`label ${NAME_LABEL}: "${name}" cannot be a name: use letters, digits and inner hyphens`];
};

const firstLine = (text: string): string => text.split('\n')[0] ?? '';

/** As it may stand in a header. */
const line = (text: string): string => {
  const printable = text.replace(/\p{C}/gu, ' ');
  return printable.length > MAX_WARNING ? `${printable.slice(0, MAX_WARNING - 1)}…` : printable;
};
