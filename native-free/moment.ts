// A moment on both of a machine's clocks: the wall clock, which is comparable across reboots and may jump, and
// CLOCK_BOOTTIME, which never jumps but begins anew with every boot. What has to be measured is measured on the latter.

import { z } from 'zod';

export const momentSchema = z.object({
  /** Names the boot that `boot` counts from. */
  bootId: z.string(),
  /** Milliseconds since that boot (CLOCK_BOOTTIME). */
  boot: z.number(),
  /** Milliseconds since the Unix epoch, as the wall clock had it. */
  wall: z.number(),
});

export type Moment = Readonly<z.infer<typeof momentSchema>>;

/**
 * Milliseconds that passed from an earlier moment until `now`: exact within one boot. After a reboot the wall clock is all
 * there is, but never less than what this boot has lasted; `isCertain` is false when it says that `now` came first.
 */
export const elapsedSince = (
  earlier: Moment,
  now: Moment,
): { readonly ms: number; readonly isCertain: boolean } => {
  if (earlier.bootId === now.bootId) return { ms: now.boot - earlier.boot, isCertain: true };
  const byWall = now.wall - earlier.wall;
  return { ms: Math.max(byWall, now.boot), isCertain: byWall >= 0 };
};
