import { expect, test } from 'vitest';
import { Endpoints } from '../../../native-free/device/endpoints.ts';

const at = (port: number) => ({ address: '192.0.2.1', port });

const initiations = (endpoints: Endpoints, count: number): (number | undefined)[] =>
  Array.from({ length: count }, () => {
    const port = endpoints.forInitiation?.port;
    endpoints.unanswered();
    return port;
  });

test('candidates take turns, best first', () => {
  expect(initiations(new Endpoints([at(1), at(2), at(3)], undefined), 7)).toEqual([1, 2, 3, 1, 2, 3, 1]);
});

test('what was learned gets three tries, then its turn among the candidates', () => {
  const endpoints = new Endpoints([at(1), at(2)], at(9));
  expect(initiations(endpoints, 9)).toEqual([9, 9, 9, 1, 2, 9, 1, 2, 9]);
  expect(endpoints.current).toEqual(at(9));
});

test('a candidate that is also the learned one has one turn, not two', () => {
  expect(initiations(new Endpoints([at(1), at(9)], at(9)), 7)).toEqual([9, 9, 9, 1, 9, 1, 9]);
});

test('an answer starts the count anew', () => {
  const endpoints = new Endpoints([at(1)], at(9));
  initiations(endpoints, 5);
  expect(endpoints.learn(at(9))).toBe(false);
  expect(initiations(endpoints, 4)).toEqual([9, 9, 9, 1]);
});

test('without any endpoint there is nowhere to go', () => {
  const endpoints = new Endpoints([], undefined);
  expect(endpoints.current).toBeUndefined();
  expect(initiations(endpoints, 2)).toEqual([undefined, undefined]);
});

test('announcements change the candidates and never what was learned', () => {
  const endpoints = new Endpoints([at(1)], undefined);
  expect(endpoints.learn(at(5))).toBe(true);
  endpoints.announce([at(2)]);
  expect(endpoints.current).toEqual(at(5));
  expect(initiations(endpoints, 5)).toEqual([5, 5, 5, 2, 5]);
});
