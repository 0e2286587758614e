// A partner whose bundle is made to break this domain's TLS. A server names the CAs that it knows in each handshake, and more
// than 64 KiB of names end it: for everybody, the admin who would revoke that partner included.

import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { createClient } from '@connectrpc/connect';
import { expect, onTestFinished, test } from 'vitest';
import { parseInvitation } from '../../../native-free/federation/invitation.ts';
import { keepBundle } from '../../../native-free/registry/federation-rules.ts';
import { FederationService } from '../../../src/api/generated/vl3/v1/federation_pb.js';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import { connectRegistry } from '../../../src/registry/connection.ts';
import { type Issued, issueCa } from '../identity/fixture.ts';
import { abroad, admit, type Companies, companies, federate, invite, PARTNER } from './companies.ts';
import { refusal } from './fixture.ts';

const federateBy = async (
  { home }: Companies,
  invitation: string,
  cas: readonly Issued[],
): Promise<string> => {
  const connection = connectRegistry({
    registries: home.registry.registries,
    tls: clientTlsOptions(home.registry.observed.context.signer.trustBundle),
  });
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return await refusal(
    createClient(FederationService, connection.transport).federate({
      trustDomain: PARTNER,
      secret: parseInvitation(invitation).secret,
      bundle: encodeSpiffeBundle({ trustDomain: PARTNER, certificates: cas.map(({ der }) => der) }),
      bundleLocation: { url: 'https://127.0.0.1:1/bundle.json', profile: 'https_spiffe' },
      registries: ['127.0.0.1:1'],
    }),
  );
};

const uris = [`spiffe://${PARTNER}`];

test('CAs of a partner with enormous names keep nobody out', async () => {
  const both = await companies();
  const root = await issueCa({ uris });
  const long = Array.from({ length: 95 }, (_, i) => `OU=${String(i).padStart(60, 'x')}`).join(', ');
  const cas = await Promise.all(
    Array.from({ length: 12 }, (_, i) => issueCa({ uris, issuer: root, subject: `CN=c${i}, ${long}` })),
  );
  expect(await federateBy(both, await invite(both), [root])).toBe('accepted');
  const { transactor, partners } = both.home.registry.observed.context;
  // As its endpoint would have it.
  const text = encodeSpiffeBundle({ trustDomain: PARTNER, certificates: cas.map(({ der }) => der) });
  const bundle = decodeSpiffeBundle(text, PARTNER);
  const { answer } = await transactor.run(keepBundle({ bundle, confirmedAt: Date.now() }));
  expect(answer).toBe(true);
  await partners.reload();
  const { networks } = await (await both.home.admin()).listNetworks({});
  expect(networks).toHaveLength(1);
  const n1 = await both.home.enrol('n1');
  expect(await refusal(n1.client.heartbeat({}))).toBe('accepted');
});

test('connections of nodes of a partner last, and those of strangers do not', async () => {
  const both = await companies({ unknownClientMs: 300 });
  await federate(both);
  await admit(both.home);
  const client = abroad(both, await both.partner.enrol('n1'));
  await client.joinNetwork({ network: 'red' });
  const stop = new AbortController();
  const { signal } = stop;
  const watching = client.watchNetwork({ network: 'red' }, { signal })[Symbol.asyncIterator]();
  await watching.next();
  const ended = watching.next().then(
    () => 'told',
    () => 'ended',
  );
  // Meanwhile strangers come, who are sent away one after another.
  for (let i = 0; i < 3; i++) {
    const [host = '', port = ''] = (both.home.registry.registries[0] ?? '').split(':');
    const session = connectHttp2(`https://${host}:${port}`, { rejectUnauthorized: false });
    await once(session, 'connect');
    await once(session, 'close');
  }
  expect(await Promise.race([ended, Promise.resolve('goes on')])).toBe('goes on');
  stop.abort();
  await ended;
});
