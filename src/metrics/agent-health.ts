// Whether an agent works: its timers run, and the packet threads take over what they are told. A process that does not
// has to be started again; what is wrong outside of it (a registry that is gone, a peer that is silent) is no matter here.

export interface HealthParts {
  readonly now: () => number;
  /** When the devices' timers last ran. */
  readonly tickedAt: () => number;
  /** Tells the packet threads something that changes nothing; false: there is no device to tell it of. */
  readonly tell: () => boolean;
  /** Resolves once they have taken over all that they were told. */
  readonly settled: () => Promise<void>;
}

/** Later than this, what is done several times a second is not done. */
const TICK_LIMIT_MS = 5000;
const THREAD_LIMIT_MS = 3000;

/** Sentences; empty: it works. */
export const agentHealth = async ({ now, tickedAt, tell, settled }: HealthParts): Promise<string[]> => {
  const problems: string[] = [];
  const late = now() - tickedAt();
  if (late > TICK_LIMIT_MS)
    problems.push(`the timers of the devices have not run for ${Math.round(late)} ms`);
  if (tell() && !(await inTime(settled()))) problems.push('the packet threads do not answer');
  return problems;
};

const inTime = async (work: Promise<void>): Promise<boolean> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), THREAD_LIMIT_MS);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
};
