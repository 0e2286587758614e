import { Writable } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { expect, onTestFinished, test } from 'vitest';
import { WatchNetworkResponseSchema } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { Pace } from '../../../src/registry/pace.ts';
import { Rounds } from '../../../src/registry/rounds.ts';
import { SharedMessage } from '../../../src/registry/shared-message.ts';
import { sharedFrames } from '../../../src/registry/watch-stream.ts';

/** A network that is at a revision, and a stream that takes a frame only when it is told to. */
class World {
  readonly rounds = new Rounds({ tickMs: 60_000, watchers: () => 1 }, new Pace());
  readonly stop = new AbortController();
  readonly taken: Uint8Array[] = [];
  readonly #messages = new Map<number, SharedMessage>();
  #take: () => void = () => {};
  revision = 1;
  deletedAt = 0;
  problem: Error | undefined;
  readonly stream = new Writable({
    highWaterMark: 1,
    write: (frame: Uint8Array, _encoding, done) => {
      this.taken.push(frame);
      this.#take = done;
    },
  });
  readonly ended: Promise<void>;

  constructor(progressMs = 60_000) {
    onTestFinished(() => {
      this.stop.abort();
      this.rounds[Symbol.dispose]();
    });
    const source = {
      next: (seen: number) => (seen < this.revision ? this.message : undefined),
      signOfLife: () => this.message,
      mustStill: () => {
        if (this.problem !== undefined) throw this.problem;
      },
    };
    const from = { seen: 1, progressMs };
    this.ended = sharedFrames(this.stream, from, source, this.rounds, this.stop.signal);
  }

  get message(): SharedMessage {
    let shared = this.#messages.get(this.revision);
    if (shared === undefined) {
      const networkDeleted = this.deletedAt === this.revision;
      const step = { case: 'delta', value: { networkDeleted } } as const;
      shared = new SharedMessage(
        create(WatchNetworkResponseSchema, { revision: BigInt(this.revision), step }),
      );
      this.#messages.set(this.revision, shared);
    }
    return shared;
  }

  async change(): Promise<void> {
    this.revision++;
    await this.round();
  }

  async round(): Promise<void> {
    this.rounds.want();
    await this.rounds.next(this.stop.signal);
  }

  async take(): Promise<void> {
    this.#take();
    await this.round();
  }
}

test('a stream is given the very frame that all share', async () => {
  const world = new World();
  await world.change();
  expect(world.taken).toHaveLength(1);
  expect(world.taken[0]?.buffer).toBe(world.message.frame.buffer);
});

test('one that takes nothing is given nothing more, and then everything since in one step', async () => {
  const world = new World();
  await world.change();
  for (let i = 0; i < 50; i++) await world.change();
  expect(world.taken).toHaveLength(1);
  expect(world.stream.writableLength).toBe(world.taken[0]?.length);
  await world.take();
  expect(world.taken).toHaveLength(2);
  expect(Buffer.from(world.taken[1] ?? [])).toEqual(Buffer.from(world.message.frame));
  await world.take();
  expect(world.taken).toHaveLength(2);
});

test('one that is quiet hears a sign of life', async () => {
  const world = new World(0);
  await world.round();
  expect(world.taken).toHaveLength(1);
});

test('it ends with the reason for which it must, and is told nothing more', async () => {
  const world = new World();
  world.problem = new Error('deleted');
  const refused = expect(world.ended).rejects.toThrow('deleted');
  await world.change();
  await refused;
  world.problem = undefined;
  await world.change();
  expect(world.taken).toHaveLength(0);
});

test('it ends after it has said that the network is gone', async () => {
  const world = new World();
  world.deletedAt = 2;
  await world.change();
  await world.ended;
  expect(world.taken).toHaveLength(1);
});

test('a stream that is destroyed is not written to', async () => {
  const world = new World();
  world.stream.destroy();
  await world.change();
  expect(world.taken).toHaveLength(0);
  world.stop.abort();
  await world.ended;
});
