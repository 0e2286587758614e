// What keeps grants in step, beside nodes that do not keep still.

import { join as pathOf } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { readGrant } from '../../../native-free/admission/grant.ts';
import { createAdmissionRule, deleteAdmissionRule } from '../../../native-free/registry/admission-rules.ts';
import { putAttachments } from '../../../native-free/registry/announcement-rules.ts';
import { keys, one } from '../../../native-free/registry/keys.ts';
import { leaseTerms } from '../../../native-free/registry/lease-terms.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { AdmissionKeeper } from '../../../src/registry/admission-keeper.ts';
import {
  attachment,
  beginAnew,
  enrolled,
  join,
  red,
  run,
  store,
  transactor,
} from '../../native-free/registry/rules-world.ts';
import { TRUST_DOMAIN, temporaryDirectory } from './fixture.ts';

beforeEach(beginAnew);

test('a node that changes what it attaches all the time neither keeps what was taken from it nor holds up the others', async () => {
  await red();
  await enrolled('n1', 'n2');
  await join('n1');
  await join('n2');
  const by = { admin: 'admin', now: Date.now(), trustDomain: TRUST_DOMAIN };
  const rule = { network: 'red', trustDomain: TRUST_DOMAIN, isDryRun: false, createdAt: 0 };
  await run(createAdmissionRule({ ...rule, name: 'web', workload: 'labels.app == "web"' }, by));
  await run(deleteAdmissionRule('red', 'home', by));

  const ca = await CertificateAuthority.open({
    directory: pathOf(temporaryDirectory(), 'ca'),
    trustDomain: TRUST_DOMAIN,
  });
  let turn = 0;
  const flip = () => {
    const another = attachment(`p${++turn}`, `10.60.0.${20 + (turn % 200)}`);
    return run(putAttachments('red', 'n1', [another], Date.now(), TRUST_DOMAIN));
  };
  await flip();
  // However long signing takes: what n1 has is another by then.
  const signGrant = ca.signGrant.bind(ca);
  vi.spyOn(ca, 'signGrant').mockImplementation(async (content, notAfter) => {
    if (content.node === 'n1') await flip();
    await sleep(5);
    return signGrant(content, notAfter);
  });
  const keeper = new AdmissionKeeper({
    store,
    transactor,
    signer: ca,
    terms: leaseTerms(),
    now: Date.now,
    logger: pino({ level: 'silent' }),
  });
  onTestFinished(() => keeper[Symbol.asyncDispose]());
  const started = keeper.start();
  onTestFinished(() => started);
  const seen = async () => {
    const state = await transactor.read([
      one(keys.ruleset('red')),
      one(keys.grant('red', 'n1')),
      one(keys.grant('red', 'n2')),
    ]);
    const grant = state.grant('red', 'n1')?.value.grant;
    return {
      inForce: state.ruleset('red')?.value.isInForce,
      n1: grant && readGrant(Buffer.from(grant, 'base64'))?.addresses.length,
      n2: state.grant('red', 'n2') !== undefined,
    };
  };
  await vi.waitFor(async () => expect(await seen()).toEqual({ inForce: true, n1: 1, n2: true }), {
    timeout: 20_000,
  });
});
