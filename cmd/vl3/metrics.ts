// Opens the listener for metrics and health checks where the settings ask for one: before anything else, so that an
// address that is taken is refused while nothing is made yet.

import type { Host } from '../../src/config/fields.ts';
import type { MetricsListener } from '../../src/metrics/listener.ts';

export const openMetrics = async (
  at: (Host & { readonly port: number }) | undefined,
): Promise<MetricsListener | undefined> => {
  if (at === undefined) return undefined;
  const { MetricsListener } = await import('../../src/metrics/listener.ts');
  return await MetricsListener.open(at);
};
