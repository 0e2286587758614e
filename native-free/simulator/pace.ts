// How often things happen by themselves. Lively is as in src and made for minutes of virtual time; quiet is for weeks:
// the same work far less often, so that idle time costs next to nothing.

export interface Pace {
  readonly heartbeatMs: number;
  /** Without heartbeats a node counts as gone after this long. */
  readonly livenessTtlMs: number;
  readonly checkpointMs: number;
  readonly sweepMs: number;
  readonly lookAroundMs: number;
  /** A network that nothing is attached to is left after this long. */
  readonly leaveAfterMs: number;
  /** How often the registry looks at liveness, at leases and at streams. */
  readonly registryCheckMs: number;
  readonly progressMs: number;
  /** A stream that says nothing for this long is dead. */
  readonly silenceMs: number;
  readonly backoffCapMs: number;
  readonly pingMs: number;
  /** Until a pod that was refused asks again. */
  readonly askAgainMs: number;
  /** Until one asks again that no rule admits. */
  readonly refusedMs: number;
  /** How often registries ask each other. */
  readonly pollMs: number;
  readonly judgeMs: number;
  /** How often at least an agent looks at what its leases have left. */
  readonly leaseLookMs: number;
  /** The registry writes its time down at least this seldom. */
  readonly registryTickMs: number;
  /** So long a registry that starts waits for those who were alive. */
  readonly hearingMs: number;
  /** How often people look. */
  readonly operatorMs: number;
  /** Of a lease, until a registry said. */
  readonly assumedTermMs: number;
  /** Every pod reaches every other within this time after the last fault. */
  readonly convergenceMs: number;
  /** How often everybody pings everybody then. */
  readonly pingAllMs: number;
  /** Between two steps of a plan, at most. */
  readonly stepMs: number;
  /** Of a fault, at most. */
  readonly longestFaultMs: number;
}

export type PaceName = 'lively' | 'quiet';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

export const PACES: Readonly<Record<PaceName, Pace>> = {
  lively: {
    heartbeatMs: 5000,
    livenessTtlMs: 15_000,
    checkpointMs: 5000,
    sweepMs: 10_000,
    lookAroundMs: 10_000,
    // Far sooner than in src/agent/networks.ts, to leave more often.
    leaveAfterMs: 15_000,
    registryCheckMs: 1000,
    progressMs: 10_000,
    silenceMs: 35_000,
    backoffCapMs: 15_000,
    pingMs: 1500,
    askAgainMs: 1000,
    refusedMs: 15_000,
    // Far sooner than in native-free/federation/bundle-rules.ts.
    pollMs: 5000,
    judgeMs: 5000,
    leaseLookMs: 1000,
    registryTickMs: 0,
    hearingMs: 30_000,
    operatorMs: 10_000,
    assumedTermMs: MINUTE,
    convergenceMs: 240_000,
    pingAllMs: 4000,
    stepMs: 3000,
    longestFaultMs: 40_000,
  },
  quiet: {
    heartbeatMs: 30 * MINUTE,
    livenessTtlMs: 90 * MINUTE,
    checkpointMs: 30 * MINUTE,
    sweepMs: HOUR,
    lookAroundMs: 2 * HOUR,
    leaveAfterMs: 3 * HOUR,
    registryCheckMs: 10 * MINUTE,
    progressMs: 2 * HOUR,
    silenceMs: 7 * HOUR,
    backoffCapMs: 10 * MINUTE,
    pingMs: 3 * HOUR,
    askAgainMs: 10 * MINUTE,
    refusedMs: HOUR,
    pollMs: 30 * MINUTE,
    judgeMs: HOUR,
    leaseLookMs: 2 * MINUTE,
    registryTickMs: 10 * MINUTE,
    hearingMs: HOUR,
    operatorMs: HOUR,
    assumedTermMs: 7 * 24 * HOUR,
    convergenceMs: 12 * HOUR,
    pingAllMs: 5 * MINUTE,
    stepMs: 12 * HOUR,
    longestFaultMs: 8 * HOUR,
  },
};
