// A partner whose bundle is made to break this domain's TLS. A server names the CAs that it knows in each handshake, and more than 64 KiB
// of names end it: for everybody, the admin who would revoke that partner included.

import { createClient } from '@connectrpc/connect';
import { expect, onTestFinished, test } from 'vitest';
import { parseInvitation } from '../../../native-free/federation/invitation.ts';
import { keepBundle } from '../../../native-free/registry/federation-rules.ts';
import { FederationService } from '../../../src/api/generated/vl3/v1/federation_pb.js';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import { connectRegistry } from '../../../src/registry/connection.ts';
import { type Issued, issueCa } from '../identity/fixture.ts';
import { type Companies, companies, invite, PARTNER } from './companies.ts';
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
