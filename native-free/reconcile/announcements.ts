// What a node still has to tell the registry about one network: its signed record and its attachments. Both are desired
// state: whatever changed is said whole, again until the registry has taken it, and anew when the SVID is. Not here: the
// calls, and how long to wait after one that failed.

/** Something to say now. `Content` is what the record says, but for its sequence. */
export type Due<Content> =
  | { readonly kind: 'record'; readonly content: Content; readonly text: string }
  | { readonly kind: 'attachments' };

export interface AnnouncementsOptions<Content> {
  readonly content: () => Content;
  /** Changes when the SVID is renewed: records are then signed anew. */
  readonly svidId: () => string;
}

export class Announcements<Content> {
  readonly #options: AnnouncementsOptions<Content>;
  /** What the registry took last: the content, and the certificate it was signed under. */
  #announced: string | undefined;
  #recordDue = true;
  #attachmentsDue = true;

  constructor(options: AnnouncementsOptions<Content>) {
    this.#options = options;
  }

  /** The record may have to change. */
  recordMayChange(): void {
    this.#recordDue = true;
  }

  attachmentsChanged(): void {
    this.#attachmentsDue = true;
  }

  /** The registry may have forgotten what it was told: says everything again. */
  sayAgain(): void {
    this.#announced = undefined;
    this.#recordDue = true;
    this.#attachmentsDue = true;
  }

  get isDue(): boolean {
    return this.#recordDue || this.#attachmentsDue;
  }

  /** The next thing to say, taken: say how it went with `taken` or `failed`. Undefined: nothing for now. */
  next(): Due<Content> | undefined {
    if (this.#recordDue) {
      this.#recordDue = false;
      const content = this.#options.content();
      const text = `${this.#options.svidId()} ${JSON.stringify(content)}`;
      if (text !== this.#announced) return { kind: 'record', content, text };
    }
    if (!this.#attachmentsDue) return undefined;
    this.#attachmentsDue = false;
    return { kind: 'attachments' };
  }

  taken(due: Due<Content>): void {
    if (due.kind === 'record') this.#announced = due.text;
  }

  failed(due: Due<Content>): void {
    if (due.kind === 'record') this.#recordDue = true;
    else this.#attachmentsDue = true;
  }
}
