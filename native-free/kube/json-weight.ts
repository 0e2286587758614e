// How heavy a JSON text will be once it is parsed, by what it is made of: text that consists of brackets and commas takes fifty
// times as much memory as it is long, and whoever sends it shall not choose that. Strings count for nothing, they take no
// more than they are. Whether it is JSON at all, the parser says.

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
/** [ and {, with bit 0x20 set. */
const OPENING = 0x7b;

/** Whether it has more values than `most`. UTF-8. */
export const isHeavyJson = (text: Uint8Array, most: number): boolean => {
  let values = 1;
  for (let i = 0; i < text.length; i++) {
    const byte = text[i] ?? 0;
    if (byte === QUOTE) i = endOfString(text, i + 1);
    else if ((byte === COMMA || (byte | 0x20) === OPENING) && ++values > most) return true;
  }
  return false;
};

/** Where the quote is that ends it. */
const endOfString = (text: Uint8Array, from: number): number => {
  for (let i = from; i < text.length; i++) {
    const byte = text[i];
    if (byte === QUOTE) return i;
    if (byte === BACKSLASH) i++;
  }
  return text.length;
};
