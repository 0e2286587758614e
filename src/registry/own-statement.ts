// What the domain says of itself, as this registry has it from its signer: the registry passes it on, and cannot change a
// byte of it.

import type { ServiceImpl } from '@connectrpc/connect';
import type { Logger } from 'pino';
import type { DomainService } from '../api/generated/vl3/v1/ca_pb.js';
import type { SignedStatement, Signer } from '../identity/signer.ts';

export class OwnStatement {
  readonly #signer: Signer;
  #present: SignedStatement | undefined;

  private constructor(signer: Signer) {
    this.#signer = signer;
  }

  /** Follows the signer until `signal` aborts. One apart need not answer. */
  static async open(signer: Signer, logger: Logger, signal: AbortSignal): Promise<OwnStatement> {
    const own = new OwnStatement(signer);
    const read = () =>
      own
        .#read()
        .catch((error: unknown) =>
          logger.warn({ err: error }, 'what the domain says of itself is not known'),
        );
    await read();
    signer.onChange(() => void read(), signal);
    return own;
  }

  /** 0: it is not known. */
  get sequence(): number {
    return this.#present?.sequence ?? 0;
  }

  /** Signed by who signs at present. */
  async present(): Promise<SignedStatement | undefined> {
    await this.#read();
    return this.#present;
  }

  async #read(): Promise<void> {
    this.#present = await this.#signer.statement();
  }
}

export const domainService = (own: OwnStatement): ServiceImpl<typeof DomainService> => ({
  async getStatement({ knownSequence }) {
    const present = await own.present();
    const sequence = BigInt(own.sequence);
    if (present === undefined || knownSequence === sequence) return { sequence };
    const { record, signature, certificateChain } = present;
    return { statement: { record, signature, certificateChain: [...certificateChain] }, sequence };
  },
});
