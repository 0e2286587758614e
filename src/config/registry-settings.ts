// Every setting of `vl3 registry`. Adding one here makes its key in the file, its environment variable and its flag.

import { z } from 'zod';
import { ENROLMENTS } from '../../native-free/registry/own-identity-rules.ts';
import { SVID_FILE_NAMES } from '../identity/svid-files.ts';
import { LOG_LEVELS, METRICS_DESCRIPTION } from './common.ts';
import {
  advertised,
  choice,
  directory,
  duration,
  host,
  hostWithPort,
  identityPlace,
  listOf,
  namespacedName,
  reservedRange,
  svidFileNames,
  text,
  trustDomain,
} from './fields.ts';
import { type ProgramSettings, setting } from './setting.ts';

const schema = z.strictObject({
  'trust-domain': setting(trustDomain(), {
    placeholder: '<name>',
    description: "the domain's name, e.g. aws-prod.example",
  }),
  listen: setting(host().prefault('0.0.0.0:7443'), {
    placeholder: '<address:port>',
    description: 'where to listen',
  }),
  advertise: setting(listOf(advertised({ loopback: true })).prefault([]), {
    placeholder: '<host:port>',
    description: 'an address that nodes reach it by',
    otherwise: 'the listen address',
  }),
  'reserved-range': setting(listOf(reservedRange()).prefault([]), {
    placeholder: '<prefix>',
    description: "range that no network's pool should overlap, e.g. a cluster's pods or services",
  }),
  identity: setting(identityPlace().optional(), {
    placeholder: '<socket|directory>',
    description:
      "SVIDs of another issuer, e.g. SPIRE, in place of a CA of the registry's own: the socket of the Workload API (unix:///run/spire/agent.sock) or a directory of files, with that of spiffe://<trust-domain>/registry",
    otherwise: 'the registry is the CA',
  }),
  'admission-identity': setting(identityPlace().optional(), {
    placeholder: '<socket|directory>',
    description: 'where the SVID of spiffe://<trust-domain>/admission is, which signs what the domain grants',
    otherwise: 'the same socket',
  }),
  'identity-files': setting(svidFileNames().optional(), {
    placeholder: '<certificate,key,bundle>',
    description: 'names of the three files in those directories',
    otherwise: Object.values(SVID_FILE_NAMES).join(','),
  }),
  'own-enrolment': setting(choice(ENROLMENTS).prefault('open'), {
    placeholder: '<how>',
    description:
      'with an identity of another issuer: whether nodes that are unknown here are taken in by their SVIDs, or only those that are known (open, closed)',
  }),
  'given-bundle': setting(listOf(trustDomain()).prefault([]), {
    placeholder: '<domain>',
    description:
      "a partner whose bundle is the one that the Workload API gives with the registry's identity (SPIRE federates with it); its own endpoint is not asked",
  }),
  'kubernetes-clusters': setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description:
      'the Kubernetes clusters whose nodes enrol without join tokens, see deploy/examples/clusters.yaml',
  }),
  'publish-domain': setting(namespacedName().optional(), {
    placeholder: '<namespace/name>',
    description:
      'ConfigMap of the cluster that the registry is a pod of, into which it writes where it is, for the nodes there',
  }),
  'bundle-listen': setting(hostWithPort().optional(), {
    placeholder: '<address:port>',
    description:
      "where to serve the domain's SPIFFE bundle as well, at /bundle.json; anyway it is on the port above",
  }),
  'bundle-url': setting(text(1024).optional(), {
    placeholder: '<url>',
    description: 'where partners are told that the bundle is',
    otherwise: 'where it is served',
  }),
  'bundle-certificate': setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description: "certificate chain in PEM for bundle-listen, of the web's CAs (profile https_web)",
    otherwise: "the registry's SVID (https_spiffe)",
  }),
  'bundle-key': setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description: "the certificate's key in PEM",
  }),
  'partner-web-ca': setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description: "CAs in PEM by which partners' https_web endpoints are known",
    otherwise: 'the usual ones',
  }),
  'state-dir': setting(directory().prefault('/var/lib/vl3/registry'), {
    placeholder: '<directory>',
    isPath: true,
    description: 'where the store, the CA and the admin credential live',
  }),
  signer: setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description:
      "the signer is apart, and this is the registry's credential for it (`vl3 ca registry` makes it); without, the CA is in this process",
  }),
  'outage-budget': setting(
    duration()
      .refine((seconds) => seconds >= 60 && seconds <= 60 * 86_400, 'write a duration from 1m to 60d')
      .prefault('6d'),
    {
      placeholder: '<duration>',
      description: 'how long nodes can do without the registry: SVIDs and leases last a sixth longer',
    },
  ),
  'log-level': setting(choice(LOG_LEVELS).prefault('info'), {
    placeholder: '<level>',
    description: `least severe level that is logged: ${LOG_LEVELS.join(', ')}`,
  }),
  'metrics-listen': setting(hostWithPort().optional(), METRICS_DESCRIPTION),
});

export const registrySettings: ProgramSettings<typeof schema> = {
  program: 'registry',
  environmentPrefix: 'VL3_REGISTRY_',
  file: '/etc/vl3/registry.yaml',
  schema,
};
