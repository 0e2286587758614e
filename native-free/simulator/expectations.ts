// What must be so: of the pods that an agent said it has attached, after each of its starts; and of all, once every fault is over.

import type { Machine } from './machine.ts';
import type { Place } from './pods.ts';
import type { Simulation } from './simulator.ts';

/** What is not yet as it should be: who was not answered after `since`, and who is not where he is wanted and admitted. */
export const missingSince = ({ pods, internet, admission, plan }: Simulation, since: number): string[] => {
  const missing: string[] = [];
  const name = ({ pod }: Place): string => `${pod.name} on ${pod.machine.name}`;
  for (const pod of pods.all)
    for (const place of pod.places.values()) {
      const isAdmitted = admission.isAdmitted(place);
      if (!isAdmitted && pod.machine.isRogue && place.isWanted) continue;
      const isToBe = place.isWanted && isAdmitted;
      if (isToBe !== (place.acknowledged !== undefined) || (!place.isWanted && place.mayExist))
        missing.push(`${name(place)} is not ${isToBe ? 'on' : 'off'} ${place.network}`);
    }
  for (const network of plan.networks) {
    const places = pods.on(network).filter((place) => admission.isAdmitted(place));
    for (const from of places)
      for (const to of places) {
        if (from === to || pods.answeredAt(network, from.pod.name, to.pod.name) >= since) continue;
        if (!internet.canMeet(from.pod.machine.name, to.pod.machine.name)) continue;
        missing.push(`${name(from)} does not reach ${name(to)} on ${network}`);
      }
  }
  return missing;
};

/** What an agent said is attached must be so after each of its starts. */
export const judgeAttached = ({ pods, invariants }: Simulation, machine: Machine): void => {
  for (const pod of pods.all) {
    if (pod.machine !== machine) continue;
    for (const { network, acknowledged } of pod.places.values()) {
      if (acknowledged === undefined) continue;
      const found = [...machine.kernel.interfaces(network).values()].find(
        ({ namespace }) => namespace === pod.namespace,
      );
      invariants.judge(
        'no acknowledged write lost',
        found?.addresses.join() === acknowledged.join(),
        () =>
          `${pod.name} was told it is on ${network} as ${acknowledged.join(', ')}, and after a start of its agent it is ${found?.addresses.join(', ') ?? 'not there'}`,
      );
    }
  }
};
