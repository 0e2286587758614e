// A signer apart, as its registry sees it: a connection over mutual TLS, what the domain says of itself, kept up to date, and the
// registry's own credential, renewed over that connection. While the signer is away nothing is signed, and all else goes on.

import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { type Client, createClient } from '@connectrpc/connect';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { fromConnectError } from '../api/errors.ts';
import { SignerService } from '../api/generated/vl3/v1/ca_pb.js';
import { isIssuedBy, parseCertificate } from '../identity/certificate.ts';
import { createCertificateRequest } from '../identity/certificate-request.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { bundleOfStatement, verifyAuthorities, verifyStatement } from '../identity/domain-statement.ts';
import { generateKey } from '../identity/key.ts';
import type { GrantContent, SignedGrant, SignedStatement, Signer, SvidEvidence } from '../identity/signer.ts';
import { type Credential, clientTlsOptions } from '../identity/tls.ts';
import { connectRegistry, type RegistryConnection } from '../registry/connection.ts';
import { signedMessage } from './messages.ts';
import {
  type RegistryCredential,
  readRegistryCredential,
  writeRegistryCredential,
} from './registry-credential.ts';

export interface RemoteSignerOptions {
  /** What `vl3 ca registry` made. */
  readonly file: string;
  readonly trustDomain: string;
  readonly pollMs?: number;
}

interface Dependencies {
  readonly logger: Logger;
  /** Unix ms. */
  readonly now: () => number;
}

const POLL_MS = 3_000;
const CALL_TIMEOUT_MS = 10_000;
/** Connections that were replaced get this long to end. */
const LINGER_MS = 15_000;

export class RemoteSigner implements Signer, AsyncDisposable {
  readonly isApart = true;
  readonly #options: RemoteSignerOptions;
  readonly #deps: Dependencies;
  readonly #listeners = new Set<() => void>();
  readonly #stop = new AbortController();
  readonly #reasons = new RepeatedReasons();
  #credential: RegistryCredential;
  #connection: RegistryConnection;
  #problem: Vl3Error | undefined;
  #nodes: number | undefined;
  #polling: Promise<void> = Promise.resolve();

  private constructor(options: RemoteSignerOptions, deps: Dependencies, credential: RegistryCredential) {
    this.#options = options;
    this.#deps = deps;
    this.#credential = credential;
    this.#connection = this.#connect();
  }

  /** The signer need not answer. Throws Vl3Error when the credential does not do. */
  static async open(options: RemoteSignerOptions, deps: Dependencies): Promise<RemoteSigner> {
    const credential = await readRegistryCredential(options.file, options.trustDomain, deps.now());
    const signer = new RemoteSigner(options, deps, credential);
    await signer.#poll();
    signer.#polling = signer.#follow();
    return signer;
  }

  get trustBundle(): TrustBundle {
    return this.#credential.trustBundle;
  }

  /** Why it did not answer last; undefined: it did. */
  get problem(): Vl3Error | undefined {
    return this.#problem;
  }

  /** Whether nodes had enrolled before. Throws Vl3Error('unavailable') while the signer has not said so. */
  get hasNodes(): boolean {
    if (this.#nodes !== undefined) return this.#nodes > 0;
    throw new Vl3Error(
      'unavailable',
      `the signer does not answer, and on an empty store only that can say whether nodes enrolled before: ${this.#problem?.message ?? ''}`,
    );
  }

  async signNodeSvid(
    request: Uint8Array,
    node: string,
    evidence: SvidEvidence = { kind: 'none' },
  ): Promise<Uint8Array[]> {
    const shown =
      evidence.kind === 'token'
        ? { tokenId: evidence.tokenId, tokenProof: evidence.proof }
        : evidence.kind === 'renewal'
          ? {
              renewalProof: {
                signature: evidence.proof.signature,
                certificateChain: [...evidence.proof.certificateChain],
              },
            }
          : {};
    const { certificateChain } = await this.#call((client) =>
      client.signNodeSvid({ certificateRequest: request, node, ...shown }),
    );
    return certificateChain;
  }

  /** Its own, whatever hosts are asked for: those it names were decided where the CA is. */
  async serverCredential(): Promise<Credential> {
    return this.#credential;
  }

  async signGrant(content: GrantContent, notAfter: number): Promise<SignedGrant> {
    const { network, networkUid, node, nodeDomain, prefixes = [], storeId, sequence } = content;
    const answer = await this.#call((client) =>
      client.signGrant({
        ...{ network, networkUid, node, nodeDomain, prefixes, storeId },
        sequence: BigInt(sequence),
        notAfter: timestampFromMs(notAfter),
      }),
    );
    if (answer.grant === undefined || answer.notAfter === undefined) throw noAnswer();
    return {
      ...answer.grant,
      sequence: Number(answer.sequence),
      notAfter: timestampMs(answer.notAfter),
    };
  }

  async signLogHead(head: Uint8Array): Promise<SignedRecord> {
    const answer = await this.#call((client) => client.signLogHead({ head }));
    if (answer.head === undefined) throw noAnswer();
    return answer.head;
  }

  /** What a node signed of its attachments. */
  async putAttestation(network: string, node: string, attestation: SignedRecord): Promise<void> {
    await this.#call((client) =>
      client.putAttestation({ network, node, attestation: signedMessage(attestation) }),
    );
  }

  /** What another domain signed of its CAs. */
  async putPartner(trustDomain: string, signed: SignedRecord, proof?: Uint8Array): Promise<void> {
    await this.#call((client) =>
      client.putPartner({
        trustDomain,
        authorities: signedMessage(signed),
        ...(proof !== undefined && { proof }),
      }),
    );
  }

  async statement(): Promise<SignedStatement> {
    return this.#credential.statement;
  }

  async ownAuthorities(): Promise<SignedStatement | undefined> {
    return this.#credential.authorities;
  }

  onChange(listener: () => void, signal: AbortSignal): void {
    this.#listeners.add(listener);
    signal.addEventListener('abort', () => this.#listeners.delete(listener), { once: true });
  }

  async secretFor(purpose: string): Promise<Uint8Array> {
    const kept = this.#credential.secrets[purpose];
    if (kept !== undefined) return new Uint8Array(Buffer.from(kept, 'base64'));
    throw new Vl3Error(
      'failed-precondition',
      `the registry's credential ${this.#options.file} is of an earlier version: make another with \`vl3 ca registry\``,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#connection[Symbol.asyncDispose]();
    await this.#polling;
  }

  #connect(): RegistryConnection {
    const { signers, trustBundle } = this.#credential;
    return connectRegistry({
      registries: signers,
      who: 'signer',
      tls: clientTlsOptions(trustBundle, this.#credential, 'ca'),
      callTimeoutMs: CALL_TIMEOUT_MS,
    });
  }

  async #call<T>(ask: (client: Client<typeof SignerService>) => Promise<T>): Promise<T> {
    try {
      return await ask(createClient(SignerService, this.#connection.transport));
    } catch (error) {
      const { code, message } = fromConnectError(error);
      throw new Vl3Error(code, code === 'unavailable' ? `the signer: ${message}` : message, { cause: error });
    }
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await pause(this.#options.pollMs ?? POLL_MS, signal);
      if (!signal.aborted) await this.#poll();
    }
  }

  /** Hears what the domain says of itself, and renews the credential when that is due. Never throws. */
  async #poll(): Promise<void> {
    const { logger } = this.#deps;
    try {
      const { sequence, certificateChain } = this.#credential.statement;
      // The same is asked for anew once who signed it has not long to go.
      const isComplete = this.#credential.authorities !== undefined;
      const known = this.#isHalfOver(certificateChain) || !isComplete ? 0n : BigInt(sequence);
      const answer = await this.#call((client) => client.getDomain({ knownSequence: known }));
      this.#nodes = answer.nodes;
      if (answer.statement !== undefined) await this.#take(answer.statement, answer.authorities);
      if (this.#isDue()) await this.#renew();
      if (this.#problem !== undefined) logger.info('the signer answers again');
      this.#problem = undefined;
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      const problem = fromConnectError(error);
      this.#problem = problem;
      const again = this.#reasons.take(problem.message, performance.now());
      if (again !== undefined)
        logger.warn({ code: problem.code, reason: problem.message, again }, 'the signer does not answer');
    }
  }

  async #take(signed: SignedRecord, said: SignedRecord | undefined): Promise<void> {
    const wall = this.#deps.now();
    const statement = verifyStatement(signed, this.trustBundle, wall);
    const authorities = said && {
      ...said,
      sequence: verifyAuthorities(said, this.trustBundle, wall).sequence,
    };
    const { sequence } = statement;
    if (sequence < this.#credential.statement.sequence)
      throw new Vl3Error(
        'failed-precondition',
        'the signer went back: was its state restored from a backup?',
      );
    const { record, signature, certificateChain } = signed;
    await this.#replace({
      ...this.#credential,
      trustBundle: bundleOfStatement(statement),
      statement: { record, signature, certificateChain, sequence },
      ...(authorities !== undefined && { authorities }),
    });
    for (const listener of this.#listeners) listener();
  }

  /** Half of its term is over, or another CA signs by now. */
  #isDue(): boolean {
    const [leaf] = this.#credential.certificateChain;
    const [signing] = this.trustBundle.certificates;
    if (leaf === undefined || signing === undefined) return false;
    const isOfAnother = !isIssuedBy(parseCertificate(leaf), parseCertificate(signing));
    return isOfAnother || this.#isHalfOver(this.#credential.certificateChain);
  }

  #isHalfOver([leaf]: readonly Uint8Array[]): boolean {
    if (leaf === undefined) return true;
    const { notBefore, notAfter } = parseCertificate(leaf);
    return this.#deps.now() > (notBefore + notAfter) / 2;
  }

  async #renew(): Promise<void> {
    const privateKey = await generateKey();
    const certificateRequest = await createCertificateRequest(privateKey);
    const { certificateChain } = await this.#call((client) =>
      client.signServerCertificate({ certificateRequest }),
    );
    await this.#replace({ ...this.#credential, privateKey, certificateChain });
    this.#deps.logger.info("the registry's certificate was renewed");
    for (const listener of this.#listeners) listener();
  }

  async #replace(credential: RegistryCredential): Promise<void> {
    await writeRegistryCredential(this.#options.file, credential);
    const old = this.#connection;
    this.#credential = credential;
    this.#connection = this.#connect();
    void pause(LINGER_MS, this.#stop.signal).then(() => old[Symbol.asyncDispose]());
  }
}

const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
  });

const noAnswer = (): Vl3Error => new Vl3Error('unavailable', 'the signer has not answered yet');
