// Whoever reaches a signer's port and asks for much: strangers are not read, and a registry leaves an admin room.

import { createClient } from '@connectrpc/connect';
import { expect, onTestFinished, test } from 'vitest';
import { fromConnectError } from '../../../src/api/errors.ts';
import { CaService } from '../../../src/api/generated/vl3/v1/ca_pb.js';
import { RemoteSigner } from '../../../src/ca/remote-signer.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import { connectRegistry } from '../../../src/registry/connection.ts';
import { recordingLogger, refusal } from '../registry/fixture.ts';
import { ApartDomain } from './fixture.ts';

test('what a stranger sends is not read to its end', async () => {
  const home = await ApartDomain.start();
  const connection = connectRegistry({
    registries: [home.signerAddress],
    tls: clientTlsOptions((await home.authority()).trustBundle, undefined, 'ca'),
  });
  onTestFinished(() => connection[Symbol.asyncDispose]());
  const client = createClient(CaService, connection.transport);
  const send = async (bytes: number): Promise<string> => {
    try {
      await client.revokeNode({ name: 'n'.repeat(bytes) });
      return 'accepted';
    } catch (error) {
      return fromConnectError(error).message;
    }
  };
  expect(await send(10)).toMatch(/no client certificate was presented/);
  expect(await send(100_000)).toMatch(/larger than configured readMaxBytes 65536/);
});

test('a registry that asks without end keeps no admin waiting, and is answered', async () => {
  const home = await ApartDomain.start();
  const signer = await RemoteSigner.open(
    { file: home.credentialFile, trustDomain: home.trustDomain },
    { logger: recordingLogger().logger, now: Date.now },
  );
  onTestFinished(() => signer[Symbol.asyncDispose]());
  const ca = await home.ca();
  await ca.getCa({});
  let answered = 0;
  const record = new Uint8Array(16 * 1024);
  const asked = Array.from({ length: 200 }, async () => {
    const outcome = await refusal(
      signer.putAttestation('red', 'n1', { record, signature: new Uint8Array(64), certificateChain: [] }),
    );
    answered += 1;
    return outcome;
  });
  await ca.revokeNode({ name: 'n1' });
  // Of the registry's calls only so many are worked on at once.
  expect(answered).toBeLessThan(asked.length);
  expect(new Set(await Promise.all(asked))).toEqual(
    new Set([expect.stringMatching(/no admin registered network "red"/)]),
  );
});
