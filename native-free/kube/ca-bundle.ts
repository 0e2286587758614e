// The certificates by which API servers know the webhook's replicas (caBundle): every replica puts in its own and takes out
// what is of no use any more. Replicas agree on nothing else; who writes second reads first. Not here: reading certificates.

export interface Anchor {
  readonly pem: string;
  /** The replica that it is of; undefined: it was put there by somebody else. */
  readonly holder: string | undefined;
  /** Unix ms. */
  readonly notAfter: number;
}

/** Of replicas; what somebody else put there is not counted. Each is 0.6 KB of an object that may have 1.5 MB. */
const MAX_ANCHORS = 64;

export interface BundleView {
  /** In the order they are in. */
  readonly seen: readonly Anchor[];
  /** Those that this replica needs in it, and no others of its own. */
  readonly mine: readonly Anchor[];
  readonly holder: string;
  /** Unix ms. */
  readonly now: number;
}

/** What is to be in the bundle; undefined: it is as it should be. */
export const planBundle = ({ seen, mine, holder, now }: BundleView): readonly Anchor[] | undefined => {
  const wanted = new Set(mine.map(({ pem }) => pem));
  const kept = seen.filter(
    (one, i) =>
      seen.findIndex(({ pem }) => pem === one.pem) === i &&
      (one.holder === undefined || (one.notAfter >= now && (one.holder !== holder || wanted.has(one.pem)))),
  );
  const missing = mine.filter(({ pem }) => !kept.some((one) => one.pem === pem));
  const planned = withoutOldest([...kept, ...missing], wanted);
  const isSame = planned.length === seen.length && planned.every(({ pem }, i) => pem === seen[i]?.pem);
  return isSame ? undefined : planned;
};

/** When there are too many, those of replicas that end first go: they began first. */
const withoutOldest = (all: readonly Anchor[], wanted: ReadonlySet<string>): readonly Anchor[] => {
  const ours = all.filter(({ holder }) => holder !== undefined);
  const surplus = Math.max(0, ours.length - MAX_ANCHORS);
  const oldest = ours
    .filter(({ pem }) => !wanted.has(pem))
    .toSorted((a, b) => a.notAfter - b.notAfter)
    .slice(0, surplus);
  return all.filter((one) => !oldest.includes(one));
};
