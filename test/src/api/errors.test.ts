import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { ERROR_CODES, NotEnrolled, Vl3Error } from '../../../native-free/error.ts';
import { fromConnectError, toConnectError } from '../../../src/api/errors.ts';

test.each(ERROR_CODES)('the code %s and its sentence cross the wire and come back', (code) => {
  const back = fromConnectError(toConnectError(new Vl3Error(code, 'a sentence')));
  expect([back.code, back.message]).toEqual([code, 'a sentence']);
});

test('every code of Connect has a meaning here', () => {
  const codes = Object.values(Code).filter((code) => typeof code === 'number');
  for (const code of codes) {
    expect(ERROR_CODES).toContain(fromConnectError(new ConnectError('x', code)).code);
  }
  expect(codes).toHaveLength(16);
});

test('what went wrong inside the server stays there', () => {
  const error = toConnectError(new TypeError('secret detail'));
  expect(error.code).toBe(Code.Internal);
  expect(error.message).not.toContain('secret');
});

test('a connection that breaks under a call is unavailable, whatever the framework calls it', () => {
  const cause = Object.assign(new Error('Session closed'), { code: 'ERR_HTTP2_SESSION_ERROR' });
  for (const error of [
    new ConnectError('x', Code.Internal, undefined, undefined, cause),
    new ConnectError('http/2 stream closed with error code CANCEL (0x8)', Code.Canceled),
  ]) {
    expect(fromConnectError(error).code).toBe('unavailable');
  }
});

test('a call that took too long is unavailable, in a sentence', () => {
  const cause = new DOMException('The operation was aborted due to timeout', 'TimeoutError');
  for (const error of [cause, new ConnectError('x', Code.Canceled, undefined, undefined, cause)]) {
    const { code, message } = fromConnectError(error);
    expect([code, message]).toEqual(['unavailable', 'the registry did not answer in time: try again']);
  }
});

test('that a node is not enrolled passes the wire, and no other refusal is taken for it', () => {
  for (const why of ['deleted', 'unknown'] as const) {
    const received = fromConnectError(toConnectError(new NotEnrolled(why, 'start it with a new token')));
    expect(received).toBeInstanceOf(NotEnrolled);
    expect(received).toMatchObject({ why, code: 'unauthenticated', message: 'start it with a new token' });
  }
  for (const other of [
    new Vl3Error('unauthenticated', 'node "n1" was deleted'),
    new ConnectError('forged', Code.Unavailable, { 'vl3-not-enrolled': 'deleted' }),
    new ConnectError('strange', Code.Unauthenticated, { 'vl3-not-enrolled': 'eaten' }),
  ])
    expect(fromConnectError(toConnectError(other))).not.toBeInstanceOf(NotEnrolled);
});
