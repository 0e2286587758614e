// Text of nodes that people are shown: terminals obey control characters, and eyes the marks that turn writing around.

/** At most `length` characters, all of them printable ASCII. */
export const printable = (text: string, length: number): string =>
  text.slice(0, length).replace(/[^\x20-\x7e]/g, '?');
