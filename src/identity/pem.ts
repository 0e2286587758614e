// Certificates as PEM text (RFC 7468), which TLS and files want, and back.

import { Vl3Error } from '../../native-free/error.ts';
import { fromBase64, toBase64 } from '../base64.ts';

const BLOCK = /-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----/g;

export const toPem = (certificates: readonly Uint8Array[]): string =>
  certificates
    .map((der) => {
      const lines = toBase64(der).match(/.{1,64}/g) ?? [];
      return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
    })
    .join('');

/** The certificates' DER, unread. `where` names their place. Throws Vl3Error('failed-precondition') if there is none. */
export const fromPem = (text: string, where: string): Uint8Array[] => {
  const found = [...text.matchAll(BLOCK)].map(([, body = '']) => fromBase64(body));
  if (found.length === 0) {
    throw new Vl3Error(
      'failed-precondition',
      `${where} holds no certificate in PEM: restore it from a backup`,
    );
  }
  return found;
};

/** As fromPem, of a file that holds certificates and nothing else: one that is being written, or was cut off, is refused. */
export const fromWholePem = (text: string, where: string): Uint8Array[] => {
  const rest = text.replace(BLOCK, '').trim();
  if (rest !== '' || text.trim() === '')
    throw new Vl3Error(
      'failed-precondition',
      `${where} does not hold whole certificates in PEM and nothing else: is it being written, or cut off?`,
    );
  return fromPem(text, where);
};
