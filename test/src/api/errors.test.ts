import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { ERROR_CODES, Vl3Error } from '../../../native-free/error.ts';
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
