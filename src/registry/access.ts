// Who may call what: every RPC of the schema, by role. What is not in this table is denied, and a test fails for a
// method that is missing. `owns` says what a node's call can touch: its name always comes from its certificate, never
// from the request, and the rules check membership inside the transaction.

import { Vl3Error } from '../../native-free/error.ts';
import type { Caller, Role } from './caller.ts';

export interface Access {
  readonly roles: readonly Role[];
  /** 'domain': everything. 'self': the calling node. 'membership': the calling node's part of a network it is on. */
  readonly owns: 'domain' | 'self' | 'membership';
}

const admin: Access = { roles: ['admin'], owns: 'domain' };
/** Looks, and changes nothing. */
const reader: Access = { roles: ['admin', 'operator'], owns: 'domain' };
const self: Access = { roles: ['node'], owns: 'self' };
const membership: Access = { roles: ['node'], owns: 'membership' };
/** What a node of a federated domain may do as well: the rules ask the federation at each step. */
const selfOrForeign: Access = { roles: ['node', 'foreign-node'], owns: 'self' };
const membershipOrForeign: Access = { roles: ['node', 'foreign-node'], owns: 'membership' };
/** Something in the request is the credential. */
const anyone: Access = { roles: ['anonymous', 'node', 'admin'], owns: 'self' };

export const ACCESS: Readonly<Record<string, Access>> = {
  'vl3.v1.AdminService/CreateNetwork': admin,
  'vl3.v1.AdminService/GetNetwork': reader,
  'vl3.v1.AdminService/ListNetworks': reader,
  'vl3.v1.AdminService/UpdateNetwork': admin,
  'vl3.v1.AdminService/DeleteNetwork': admin,
  'vl3.v1.AdminService/ListNodes': reader,
  'vl3.v1.AdminService/GetNode': reader,
  'vl3.v1.AdminService/DeleteNode': admin,
  'vl3.v1.AdminService/ReadmitNode': admin,
  'vl3.v1.AdminService/ListAttachments': reader,
  'vl3.v1.AdminService/CreateToken': admin,
  'vl3.v1.AdminService/ListTokens': reader,
  'vl3.v1.AdminService/RevokeToken': admin,
  'vl3.v1.AdminService/GetStatus': reader,
  'vl3.v1.AdminService/SettleRegistry': admin,
  'vl3.v1.AdminService/Backup': admin,

  'vl3.v1.AdmissionService/CreateAdmissionRule': admin,
  'vl3.v1.AdmissionService/ListAdmissionRules': reader,
  'vl3.v1.AdmissionService/DeleteAdmissionRule': admin,
  'vl3.v1.AdmissionService/TestAdmission': reader,
  'vl3.v1.AdmissionService/ExportAdmissionLog': reader,

  'vl3.v1.CredentialService/IssueOperator': admin,
  'vl3.v1.CredentialService/ListOperators': reader,
  'vl3.v1.CredentialService/RevokeOperator': admin,

  'vl3.v1.FederationService/InvitePartner': admin,
  'vl3.v1.FederationService/AcceptInvitation': admin,
  'vl3.v1.FederationService/ListPartners': reader,
  'vl3.v1.FederationService/RevokePartner': admin,
  // The invitation's secret, and what follows from it.
  'vl3.v1.FederationService/Federate': anyone,
  'vl3.v1.FederationService/ConfirmFederation': anyone,

  'vl3.v1.AgentService/Heartbeat': selfOrForeign,
  'vl3.v1.AgentService/RenewSvid': self,
  'vl3.v1.AgentService/ListFederations': self,
  'vl3.v1.AgentService/JoinNetwork': selfOrForeign,
  'vl3.v1.AgentService/LeaveNetwork': selfOrForeign,
  'vl3.v1.AgentService/RenewLeases': selfOrForeign,
  'vl3.v1.AgentService/LeasePrefix': membershipOrForeign,
  'vl3.v1.AgentService/ReleasePrefix': membershipOrForeign,
  'vl3.v1.AgentService/TestifyRecords': membership,
  'vl3.v1.AgentService/PutRecord': membershipOrForeign,
  'vl3.v1.AgentService/PutAttachments': membershipOrForeign,
  'vl3.v1.AgentService/WatchNetwork': membershipOrForeign,

  'vl3.v1.DomainService/GetStatement': selfOrForeign,

  'vl3.v1.CaService/GetCa': admin,
  'vl3.v1.CaService/RotateCa': admin,
  'vl3.v1.CaService/RevokeNode': admin,
  'vl3.v1.CaService/RegisterToken': admin,
  'vl3.v1.CaService/WithdrawToken': admin,
  'vl3.v1.CaService/RegisterNetwork': admin,
  'vl3.v1.CaService/WithdrawNetwork': admin,
  'vl3.v1.CaService/RegisterRule': admin,
  'vl3.v1.CaService/WithdrawRule': admin,
  'vl3.v1.CaService/RegisterPartner': admin,
  'vl3.v1.CaService/WithdrawPartner': admin,
  'vl3.v1.CaService/ForgetLog': admin,

  // The token in the request.
  'vl3.v1.EnrollmentService/Enroll': anyone,
};

/** Throws Vl3Error: 'unauthenticated' without a usable certificate, 'permission-denied' with another role's. */
export const mustBeAllowed = (method: string, caller: Caller): void => {
  const access = Object.hasOwn(ACCESS, method) ? ACCESS[method] : undefined;
  if (access?.roles.includes(caller.role)) return;
  if (caller.role === 'anonymous') {
    throw new Vl3Error('unauthenticated', caller.problem);
  }
  throw new Vl3Error(
    'permission-denied',
    `${method.slice(method.indexOf('/') + 1)} is not for the role "${caller.role}" (you are ${caller.role} "${caller.name}")`,
  );
};
