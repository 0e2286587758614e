// What a registry answers on its port: each service behind the guard, which knows its caller from the connection, and the
// domain's bundle.

import { type ConnectRouter, createContextValues } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { OwnEnrolment } from '../../native-free/registry/own-identity-rules.ts';
import { AdminService } from '../api/generated/vl3/v1/admin_pb.js';
import { AdmissionService } from '../api/generated/vl3/v1/admission_pb.js';
import { AgentService } from '../api/generated/vl3/v1/agent_pb.js';
import { CaService, DomainService } from '../api/generated/vl3/v1/ca_pb.js';
import { CredentialService } from '../api/generated/vl3/v1/credential_pb.js';
import { EnrollmentService } from '../api/generated/vl3/v1/enrollment_pb.js';
import { FederationService } from '../api/generated/vl3/v1/federation_pb.js';
import { caService } from '../ca/ca-service.ts';
import type { CertificateAuthority } from '../identity/ca.ts';
import { adminService } from './admin-service.ts';
import { admissionService } from './admission-service.ts';
import { agentService } from './agent-service.ts';
import { Callers, callerKey } from './caller.ts';
import type { RegistryContext } from './context.ts';
import { credentialService } from './credential-service.ts';
import { enrollmentService } from './enrollment-service.ts';
import { federationService } from './federation-service.ts';
import { guard } from './guard.ts';
import type { ListenerOptions, RequestHandler } from './listener.ts';
import { domainService } from './own-statement.ts';
import { streamKey } from './watch-network.ts';

const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** From whoever has shown no certificate: an enrolment is far smaller, and parsing megabytes would hold all others up. */
const MAX_ANONYMOUS_BYTES = 64 * 1024;

/** `ca`: the one in this process, if it is there. */
export const handlerOf = (
  context: RegistryContext,
  ca: CertificateAuthority | undefined,
  enrolment: OwnEnrolment | undefined,
): { readonly handler: RequestHandler; readonly isKnown: NonNullable<ListenerOptions['isKnown']> } => {
  const { transactor, logger, now, signer, stopping, partners, ownBundle, ownStatement } = context;
  const callers = new Callers({
    trustDomain: signer.trustBundle.trustDomain,
    bundleFor: (domain) => partners.bundleFor(domain),
    changes: () => partners.changes + ownStatement.sequence,
    now,
  });
  const reading = (readMaxBytes: number): RequestHandler =>
    connectNodeAdapter({
      routes: (router: ConnectRouter) => {
        router.service(AdminService, adminService(context));
        router.service(AdmissionService, admissionService(context));
        router.service(AgentService, agentService(context));
        router.service(EnrollmentService, enrollmentService(context));
        router.service(FederationService, federationService(context));
        router.service(CredentialService, credentialService(context, ca));
        router.service(DomainService, domainService(ownStatement));
        if (ca !== undefined) router.service(CaService, caService({ ca, logger }));
      },
      interceptors: [
        guard({
          ...{ transactor, now, logger, stopping, counters: context.counters },
          trustDomain: signer.trustBundle.trustDomain,
          enrolment,
        }),
      ],
      contextValues: (request) =>
        createContextValues()
          .set(callerKey, callers.of(request))
          .set(streamKey, 'stream' in request ? request.stream : undefined),
      readMaxBytes,
      // Signatures and keys do not compress, each watcher would pay for it, and no request can be a bomb.
      acceptCompression: [],
    });
  const known = reading(MAX_MESSAGE_BYTES);
  const anonymous = reading(MAX_ANONYMOUS_BYTES);
  return {
    handler: (request, response) => {
      if (ownBundle.answer(request, response)) return;
      (callers.of(request).role === 'anonymous' ? anonymous : known)(request, response);
    },
    isKnown: (session) => callers.hasKnown(session),
  };
};
