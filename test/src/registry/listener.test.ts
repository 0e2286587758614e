import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { createServerCredential, serverTlsOptions } from '../../../src/identity/tls.ts';
import { Listener } from '../../../src/registry/listener.ts';
import { TRUST_DOMAIN, temporaryDirectory } from './fixture.ts';

const PING_INTERVAL_MS = 100;

const listening = async (): Promise<number> => {
  const signer = await CertificateAuthority.open(
    {
      mayCreate: true,
      directory: join(temporaryDirectory(), 'ca'),
      trustDomain: TRUST_DOMAIN,
      svidValidityMs: 60_000,
    },
    { now: Date.now },
  );
  const tls = serverTlsOptions(await createServerCredential(signer, ['127.0.0.1']), signer.trustBundle);
  const options = { host: '127.0.0.1', port: 0, tls, pingIntervalMs: PING_INTERVAL_MS };
  const listener = await Listener.open(options, () => {});
  onTestFinished(() => listener[Symbol.asyncDispose]());
  return listener.port;
};

test('a connection on which nobody answers any more is dropped', async () => {
  const port = await listening();
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
  onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, 'secureConnect');
  // An HTTP/2 client up to its settings, and from then on silent.
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  socket.resume();
  await once(socket, 'close');
});

test('a connection that is quiet but answers stays', async () => {
  const session = connectHttp2(`https://127.0.0.1:${await listening()}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  await once(session, 'connect');
  let pinged = 0;
  session.on('ping', () => pinged++);
  while (pinged < 6) await once(session, 'ping');
  expect(session.destroyed).toBe(false);
});
