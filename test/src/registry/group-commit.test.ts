import { expect, test } from 'vitest';
import { type Committer, GroupCommit, Refusal } from '../../../src/registry/group-commit.ts';

/** A transaction that writes into an array, and a log of what was done with it. */
class Fake implements Committer {
  readonly log: string[] = [];
  readonly written: string[] = [];
  #mark = 0;
  /** How many more commits fail. */
  failing = 0;

  begin(): void {
    this.log.push('begin');
    this.#mark = this.written.length;
  }
  commit(): void {
    if (this.failing > 0) {
      this.failing--;
      throw new Error('disk full');
    }
    this.log.push('commit');
  }
  rollback(): void {
    this.log.push('rollback');
    this.written.length = this.#mark;
  }
  failure(cause: unknown): Error {
    return new Error('cannot write', { cause });
  }
  write(text: string): () => string {
    return () => {
      this.written.push(text);
      return text;
    };
  }
}

test('what is asked for at once is committed once, in order, and nobody is answered before', async () => {
  const fake = new Fake();
  const commits = new GroupCommit(fake);
  const answers = ['a', 'b', 'c'].map(async (text) => {
    const answer = await commits.run(fake.write(text));
    expect(fake.log).toEqual(['begin', 'commit']);
    return answer;
  });
  expect(await Promise.all(answers)).toEqual(['a', 'b', 'c']);
  expect(fake.written).toEqual(['a', 'b', 'c']);
});

test('one that is refused leaves the others alone, and hears of it only after the commit', async () => {
  const fake = new Fake();
  const commits = new GroupCommit(fake);
  const refused = commits.run(() => {
    throw new Refusal(new RangeError('no'));
  });
  const after = refused.catch((error: unknown) => [error, [...fake.log]]);
  const [a, b] = await Promise.all([commits.run(fake.write('a')), after]);
  expect(a).toBe('a');
  expect(b).toEqual([expect.any(RangeError), ['begin', 'commit']]);
});

test('when the commit of a group fails, each is tried on its own', async () => {
  const fake = new Fake();
  fake.failing = 2;
  const commits = new GroupCommit(fake);
  const results = await Promise.allSettled(['a', 'b', 'c'].map((text) => commits.run(fake.write(text))));
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
  expect(results[0]).toMatchObject({ reason: { message: 'cannot write', cause: { message: 'disk full' } } });
  expect(fake.written).toEqual(['b', 'c']);
});

test('one that cannot be carried out fails alone', async () => {
  const fake = new Fake();
  const commits = new GroupCommit(fake);
  const tooLarge = () => {
    throw new Error('too large');
  };
  const results = await Promise.allSettled([
    commits.run(fake.write('a')),
    commits.run(tooLarge),
    commits.run(fake.write('b')),
  ]);
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(fake.written).toEqual(['a', 'b']);
});

test('a long queue is done in several transactions, with turns of the event loop between', async () => {
  const fake = new Fake();
  const commits = new GroupCommit(fake);
  let turns = 0;
  const turn = () => {
    turns++;
    if (fake.written.length < 1000) setImmediate(turn);
  };
  setImmediate(turn);
  await Promise.all(Array.from({ length: 1000 }, (_, i) => commits.run(fake.write(String(i)))));
  expect(fake.log.filter((line) => line === 'commit').length).toBeGreaterThan(2);
  expect(turns).toBeGreaterThan(2);
  expect(fake.written).toEqual(Array.from({ length: 1000 }, (_, i) => String(i)));
});
