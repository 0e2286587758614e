// A domain whose signer is apart, over TLS on 127.0.0.1: the CA in one state directory, the registry in another, and an admin
// who knows both. What the registry asks can be changed on its way, as by somebody who took it over.

import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type CaClient, connectSigner } from '../../../src/ca/client.ts';
import { createRegistryCredential, writeRegistryCredential } from '../../../src/ca/registry-credential.ts';
import { caDirectory, type RunningSigner, startSigner } from '../../../src/ca/server.ts';
import { createAdminCredential } from '../../../src/identity/admin-credential.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { fingerprint } from '../../../src/identity/certificate.ts';
import { enroll } from '../../../src/identity/enroll.ts';
import { writeIdentity } from '../../../src/identity/identity-file.ts';
import { makePrivateDirectory } from '../../../src/identity/private-file.ts';
import { tokenKey } from '../../../src/identity/svid-proofs.ts';
import { createTokenSecret, hashSecret, type JoinToken } from '../../../src/identity/token.ts';
import {
  type AdminClient,
  type AdmissionClient,
  connectAdmin,
  connectAdmission,
  connectFederation,
  type FederationClient,
} from '../../../src/registry/client.ts';
import { type RunningRegistry, startRegistry } from '../../../src/registry/server.ts';
import { unusedPort } from '../../lab/unused-port.ts';
import {
  agentOf,
  recordingLogger,
  type TestNode,
  TRUST_DOMAIN,
  temporaryDirectory,
} from '../registry/fixture.ts';

export class ApartDomain {
  readonly caState = temporaryDirectory();
  readonly registryState = temporaryDirectory();
  readonly log = recordingLogger();
  readonly outageBudgetMs: number | undefined;
  readonly trustDomain: string;
  #signer: RunningSigner | undefined;
  #registry: RunningRegistry | undefined;
  #caPort = 0;
  #port = 0;

  private constructor(outageBudgetMs: number | undefined, trustDomain: string) {
    this.outageBudgetMs = outageBudgetMs;
    this.trustDomain = trustDomain;
    onTestFinished(async () => {
      await this.stopRegistry();
      await this.stopSigner();
    });
  }

  static async start(outageBudgetMs?: number, trustDomain = TRUST_DOMAIN): Promise<ApartDomain> {
    const domain = new ApartDomain(outageBudgetMs, trustDomain);
    domain.#caPort = await unusedPort();
    domain.#port = await unusedPort();
    await makePrivateDirectory(domain.caState);
    const ca = await domain.authority(true);
    const credential = await createRegistryCredential(ca, {
      signers: [domain.signerAddress],
      hosts: ['127.0.0.1'],
    });
    await writeRegistryCredential(domain.credentialFile, credential);
    await domain.renewAdmin();
    await domain.startSigner();
    await domain.startRegistry();
    return domain;
  }

  /** As `vl3 ca admin`: by the CA that signs at present. */
  async renewAdmin(): Promise<void> {
    const admin = await createAdminCredential(await this.authority(), 'admin', [this.registryAddress]);
    await writeIdentity(this.adminFile, { ...admin, signers: [this.signerAddress] });
  }

  /** The CA itself, as whoever holds its key opens it. */
  async authority(mayCreate = false): Promise<CertificateAuthority> {
    const directory = caDirectory(this.caState);
    return await CertificateAuthority.open({
      directory,
      trustDomain: this.trustDomain,
      mayCreate,
      leases: true,
    });
  }

  get signerAddress(): string {
    return `127.0.0.1:${this.#caPort}`;
  }
  get registryAddress(): string {
    return `127.0.0.1:${this.#port}`;
  }
  get credentialFile(): string {
    return join(this.registryState, 'registry.json');
  }
  get adminFile(): string {
    return join(this.caState, 'admin.json');
  }
  get signer(): RunningSigner {
    if (this.#signer === undefined) throw new Error('the signer is not running');
    return this.#signer;
  }
  get registry(): RunningRegistry {
    if (this.#registry === undefined) throw new Error('the registry is not running');
    return this.#registry;
  }

  async startSigner(): Promise<void> {
    const { outageBudgetMs, caState: stateDirectory } = this;
    this.#signer = await startSigner(
      {
        stateDirectory,
        trustDomain: this.trustDomain,
        listen: { host: '127.0.0.1', port: this.#caPort },
        ...(outageBudgetMs !== undefined && { outageBudgetMs }),
      },
      { logger: this.log.logger },
    );
  }
  async stopSigner(): Promise<void> {
    await this.#signer?.[Symbol.asyncDispose]();
    this.#signer = undefined;
  }

  async startRegistry(): Promise<void> {
    const { outageBudgetMs, registryState: stateDirectory } = this;
    this.#registry = await startRegistry(
      {
        stateDirectory,
        trustDomain: this.trustDomain,
        listen: { host: '127.0.0.1', port: this.#port },
        signerFile: this.credentialFile,
        signerPollMs: 200,
        partnerLinks: { standingMs: 200 },
        ...(outageBudgetMs !== undefined && { outageBudgetMs }),
      },
      { logger: this.log.logger },
    );
  }
  async stopRegistry(): Promise<void> {
    await this.#registry?.[Symbol.asyncDispose]();
    this.#registry = undefined;
  }

  async admin(): Promise<AdminClient> {
    const connection = await connectAdmin(this.adminFile);
    onTestFinished(() => connection[Symbol.asyncDispose]());
    return connection.client;
  }

  async admission(): Promise<AdmissionClient> {
    const connection = await connectAdmission(this.adminFile);
    onTestFinished(() => connection[Symbol.asyncDispose]());
    return connection.client;
  }

  async federation(): Promise<FederationClient> {
    const connection = await connectFederation(this.adminFile);
    onTestFinished(() => connection[Symbol.asyncDispose]());
    return connection.client;
  }

  async ca(): Promise<CaClient> {
    const connection = await connectSigner(this.adminFile);
    if (connection === undefined) throw new Error('the credential names no signer');
    onTestFinished(() => connection[Symbol.asyncDispose]());
    return connection.client;
  }

  /** As `vl3 token create`. */
  async token(node = ''): Promise<JoinToken> {
    const secret = createTokenSecret();
    const id = hashSecret(secret);
    const expiresAt = { seconds: BigInt(Math.floor(Date.now() / 1000) + 600), nanos: 0 };
    await (await this.ca()).registerToken({ id, key: tokenKey(secret), node, expiresAt });
    await (await this.admin()).createToken({ node, secretHash: id });
    const [signing] = (await this.authority()).trustBundle.certificates;
    if (signing === undefined) throw new Error('no CA');
    return {
      secret,
      isProven: true,
      registries: [this.registryAddress],
      trustDomain: this.trustDomain,
      caFingerprint: fingerprint(signing),
    };
  }

  async enrol(name: string): Promise<TestNode> {
    const token = await this.token(name);
    const identity = await enroll({ token, node: name, directory: temporaryDirectory() });
    return { name, identity, client: agentOf(identity) };
  }

  /** As `vl3 network create`; its uid. */
  async createNetwork(name: string, poolV4: string): Promise<string> {
    const { network } = await (await this.admin()).createNetwork({ network: { name, poolV4 } });
    const uid = network?.uid ?? '';
    await (await this.ca()).registerNetwork({ name, uid, pools: [poolV4] });
    return uid;
  }
}
