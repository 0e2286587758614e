// A partner whose bundle is made to break this domain's TLS: CAs that look like this domain's own to whoever goes by names, or whose
// names are enormous. TLS of the home registry knows all of them; nobody of the home domain may notice.

import { createClient } from '@connectrpc/connect';
import { expect, onTestFinished, test } from 'vitest';
import { FederationService } from '../../../src/api/generated/vl3/v1/federation_pb.js';
import { parseCertificate } from '../../../src/identity/certificate.ts';
import { keepBundle } from '../../../native-free/registry/federation-rules.ts';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import { parseInvitation } from '../../../native-free/federation/invitation.ts';
import { connectRegistry } from '../../../src/registry/connection.ts';
import { type Issued, issueCa } from '../identity/fixture.ts';
import { type Companies, companies, invite, PARTNER } from './companies.ts';
import { refusal } from './fixture.ts';

const federateBy = async ({ home }: Companies, invitation: string, cas: readonly Issued[]): Promise<string> => {
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

test('CAs of a partner that are called as ours keep none of our nodes out', async () => {
  const both = await companies();
  const [own] = both.home.registry.observed.context.signer.trustBundle.certificates;
  const { x509 } = parseCertificate(own ?? new Uint8Array());
  console.log(x509.subject);
  const cas = await Promise.all(Array.from({ length: 12 }, () => issueCa({ uris, subject: x509.subject })));
  expect(await federateBy(both, await invite(both), cas)).toBe('accepted');
  const { networks } = await (await both.home.admin()).listNetworks({});
  expect(networks).toHaveLength(1);
  const n1 = await both.home.enrol('n1');
  expect(await refusal(n1.client.heartbeat({}))).toBe('accepted');
});

test('CAs of a partner with enormous names keep none of our nodes out', async () => {
  const both = await companies();
  const root = await issueCa({ uris });
  const long = Array.from({ length: 95 }, (_, i) => `OU=${String(i).padStart(60, 'x')}`).join(', ');
  const cas = await Promise.all(
    Array.from({ length: 12 }, (_, i) => issueCa({ uris, issuer: root, subject: `CN=c${i}, ${long}` })),
  );
  console.log(cas[0]?.der.length);
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
