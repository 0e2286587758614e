// What an agent tells of partners, and of what waits.

import { expect, onTestFinished, test } from 'vitest';
import { EventLoop } from '../../../src/metrics/event-loop.ts';
import { Instruments } from '../../../src/metrics/instruments.ts';
import { addPartners } from '../../../src/metrics/partner-metrics.ts';
import { parsePrometheusText, sumOf } from './prometheus-text.ts';

const told = async (observed: Parameters<typeof addPartners>[1]) => {
  const eventLoop = new EventLoop();
  onTestFinished(() => eventLoop[Symbol.dispose]());
  const instruments = new Instruments(eventLoop);
  addPartners(instruments, observed);
  // What Node says of itself before its loop has turned is no number.
  const ours = (await instruments.text()).split('\n').filter((line) => line.includes('vl3_agent_'));
  return parsePrometheusText(`${ours.join('\n')}\n`);
};

const federation = (trustDomain: string, isBelieved: boolean, isRevoked = false) => ({
  trustDomain,
  isRevoked,
  bundle: isBelieved ? { trustDomain, certificates: [] } : undefined,
});
const partner = (trustDomain: string, networks: number, lastContactAt: number, problem?: Error) => ({
  home: { trustDomain, memberships: Array.from({ length: networks }) },
  link: { lastContactAt, problem },
});

test('who is believed, whose registry answers, and what waits for which reason is told by domain and network', async () => {
  const metrics = await told({
    federations: {
      all: [
        federation('good.example', true),
        federation('old.example', false),
        federation('gone.example', true, true),
      ],
    },
    homes: {
      partners: [
        partner('good.example', 1, 1000),
        partner('old.example', 2, 1000, new Error('no answer')),
        partner('new.example', 1, 0),
        partner('unused.example', 0, 0),
      ],
    },
    attachments: {
      upkeep: {
        waiting: [
          { network: 'red@good.example', isRefused: true },
          { network: 'red@good.example', isRefused: true },
          { network: 'red@good.example', isRefused: false },
          { network: 'green', isRefused: false },
        ],
      },
    },
  });
  const of = (name: string) =>
    (metrics.get(name)?.samples ?? []).map(({ labels, value }) => [Object.values(labels).join(' '), value]);
  expect(of('vl3_agent_partner_believed')).toEqual([
    ['good.example', 1],
    ['old.example', 0],
  ]);
  expect(of('vl3_agent_partner_connected')).toEqual([
    ['good.example', 1],
    ['old.example', 0],
    ['new.example', 0],
  ]);
  const waiting = (network: string, reason: string) =>
    sumOf(metrics, 'vl3_agent_attachments_waiting', { network, reason });
  expect([waiting('red@good.example', 'refused'), waiting('red@good.example', 'pending')]).toEqual([2, 1]);
  expect([waiting('green', 'refused'), waiting('green', 'pending')]).toEqual([0, 1]);
});
