// What is said to the registry, when, and how often.

import { expect, test } from 'vitest';
import { Announcements } from '../../../native-free/reconcile/announcements.ts';

const start = () => {
  const node = { content: { endpoints: 1 }, svid: 'a' };
  const announcements = new Announcements({ content: () => node.content, svidId: () => node.svid });
  /** Says everything that is due, with this outcome. */
  const say = (outcome: 'taken' | 'failed'): string[] => {
    const said: string[] = [];
    for (let due = announcements.next(); due !== undefined; due = announcements.next()) {
      said.push(due.kind);
      announcements[outcome](due);
      if (outcome === 'failed') break;
    }
    return said;
  };
  return { node, announcements, say };
};

test('a start says everything, and then nothing', () => {
  const { announcements, say } = start();
  expect(say('taken')).toEqual(['record', 'attachments']);
  expect(announcements.isDue).toBe(false);
  expect(say('taken')).toEqual([]);
});

test('what failed is said again', () => {
  const { say } = start();
  expect(say('failed')).toEqual(['record']);
  expect(say('failed')).toEqual(['record']);
  expect(say('taken')).toEqual(['record', 'attachments']);
});

test('a record is said again only when it or the SVID is another one', () => {
  const { node, announcements, say } = start();
  say('taken');
  announcements.recordMayChange();
  expect(say('taken')).toEqual([]);
  node.content = { endpoints: 2 };
  announcements.recordMayChange();
  expect(say('taken')).toEqual(['record']);
  node.svid = 'b';
  announcements.recordMayChange();
  expect(say('taken')).toEqual(['record']);
});

test('a change while it is being said is said as well', () => {
  const { node, announcements } = start();
  const due = announcements.next();
  node.content = { endpoints: 2 };
  announcements.recordMayChange();
  if (due !== undefined) announcements.taken(due);
  expect(announcements.next()).toMatchObject({ kind: 'record', content: { endpoints: 2 } });
});

test('a registry that may have forgotten is told everything again', () => {
  const { announcements, say } = start();
  say('taken');
  announcements.sayAgain();
  expect(say('taken')).toEqual(['record', 'attachments']);
});
