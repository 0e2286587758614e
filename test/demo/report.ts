// What the demo prints while it runs: one line per step, with whether it held and how long it took.

export interface Line {
  step: string;
  held: boolean;
  /** What was found: of a step that held, a detail; of one that did not, why. */
  detail: string;
  seconds: number;
}

const WIDTH = 96;

export class Report {
  readonly lines: Line[] = [];
  readonly #out: NodeJS.WriteStream;
  readonly #begun = performance.now();

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  say(text = ''): void {
    this.#out.write(`${text}\n`);
  }

  /** A heading, for what follows. */
  chapter(title: string): void {
    this.say(`\n${this.#paint('1', title)}`);
  }

  /** Something that has to work for the rest to make sense: when it fails, so does the demo. */
  async build(step: string, work: () => Promise<string>): Promise<void> {
    if (!(await this.prove(step, work))) throw new Unfinished();
  }

  /** A claim, and the work that shows it: it held unless `work` throws. What it returns is printed beside it. */
  async prove(step: string, work: () => Promise<string>): Promise<boolean> {
    const start = performance.now();
    if (this.#out.isTTY) this.#out.write(`  … ${step}`);
    let line: Line;
    try {
      line = { step, held: true, detail: await work(), seconds: 0 };
    } catch (error) {
      line = {
        step,
        held: false,
        detail: error instanceof Error ? error.message : String(error),
        seconds: 0,
      };
    }
    line.seconds = (performance.now() - start) / 1000;
    this.lines.push(line);
    this.#print(line);
    return line.held;
  }

  get held(): boolean {
    return this.lines.length > 0 && this.lines.every((line) => line.held);
  }

  get seconds(): number {
    return (performance.now() - this.#begun) / 1000;
  }

  #print({ step, held, detail, seconds }: Line): void {
    const mark = held ? this.#paint('32', '✓') : this.#paint('31', '✗');
    const [first = '', ...more] = detail.split('\n');
    const text = held && first !== '' ? `${step}: ${first}` : step;
    const time = `${seconds.toFixed(1)} s`.padStart(7);
    if (this.#out.isTTY) this.#out.write('\r\x1b[K');
    this.say(`  ${mark} ${text.padEnd(WIDTH)}${this.#paint('2', time)}`);
    for (const line of held ? more : [first, ...more]) this.say(`      ${line}`);
  }

  #paint(code: string, text: string): string {
    return this.#out.isTTY ? `\x1b[${code}m${text}\x1b[0m` : text;
  }
}

/** Thrown once a step without which nothing goes on has failed and been reported. */
export class Unfinished extends Error {
  constructor() {
    super('a step failed without which the others make no sense');
    this.name = 'Unfinished';
  }
}

/** States what must be so; otherwise the proof fails with this sentence. */
export function holds(condition: boolean, otherwise: string): void {
  if (!condition) throw new Error(otherwise);
}

/** Runs `work` for every item, at most `limit` at a time, and returns the results in order. */
export async function forEach<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const worker = async () => {
    for (const [index, item] of queue) results[index] = await work(item);
  };
  await Promise.all(Array.from({ length: limit }, worker));
  return results;
}

/** Calls `look` until it returns something; after `timeoutMs` it gives up, and says what `otherwise` says then. */
export async function until<T>(
  look: () => Promise<T | undefined>,
  timeoutMs: number,
  otherwise: () => string,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(otherwise());
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
