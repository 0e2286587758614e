// The P-256 keys of identities: making them, writing them as PKCS #8 PEM, reading them back strictly.

import { createPrivateKey, generateKeyPair, type KeyObject, webcrypto } from 'node:crypto';
import { promisify } from 'node:util';
import { Vl3Error } from '../../native-free/error.ts';

const CURVE = 'prime256v1';
/** WebCrypto's name of what all keys here do. */
export const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

const generate = promisify(generateKeyPair);

export const generateKey = async (): Promise<KeyObject> =>
  (await generate('ec', { namedCurve: CURVE })).privateKey;

export const isP256 = (key: KeyObject): boolean =>
  key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === CURVE;

export const formatKey = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();

/** Reads a PEM private key. `where` names its place in errors. Throws Vl3Error('failed-precondition'). */
export const parseKey = (pem: string, where: string): KeyObject => {
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: pem, format: 'pem' });
  } catch (cause) {
    throw new Vl3Error(
      'failed-precondition',
      `${where} holds no readable private key: restore it from a backup`,
      {
        cause,
      },
    );
  }
  if (!isP256(key))
    throw new Vl3Error('failed-precondition', `${where} holds a key of another kind than P-256`);
  return key;
};

/** The same key pair for WebCrypto. */
export const webKeys = async (key: KeyObject): Promise<webcrypto.CryptoKeyPair> => {
  const { subtle } = webcrypto;
  const privateKey = await subtle.importKey(
    'pkcs8',
    key.export({ type: 'pkcs8', format: 'der' }),
    ECDSA,
    true,
    ['sign'],
  );
  const { d: _, key_ops: __, ...jwk } = key.export({ format: 'jwk' });
  const publicKey = await subtle.importKey('jwk', jwk, ECDSA, true, ['verify']);
  return { privateKey, publicKey };
};
