// The annotation by which a pod, or a namespace for all its pods, asks for networks. One grammar, two dialects:
//
//   networks  = [ item *( "," item ) ]                             blanks around items mean nothing; empty: none
//   item      = [ scheme ] name [ "@" domain ] [ "/" interface ] [ "?" pair *( "&" pair ) ]
//   scheme    = "kernel://"                                        networkservicemesh.io: always; vl3.io/networks: never
//   name      = 1*63 of a-z 0-9 and inner "-"                      the network
//   domain    = 1*255 of a-z 0-9 "." "-" "_"                       whose network; absent: this domain's
//   interface = 1*15 of A-Z a-z 0-9 "-" "_" ".", begun by a letter or digit; not lo, eth0, all, default
//   pair      = "address=" ip                                      vl3.io/networks only: this address, one of each family
//             | key "=" value                                      a label, as Kubernetes has them
//
// Parsing stops at the first error and points at it. Which annotation is asked, asked.ts; whether networks and addresses
// exist is told when they are attached.

import { Vl3Error } from '../error.ts';
import { interfaceNameProblem, MAX_INTERFACE_NAME } from '../interface-name.ts';
import { formatAddress, parseAddress } from '../ipam/prefix.ts';
import { LABEL_KEY, LABEL_VALUE } from '../registry/model.ts';
import { formatNetworkKey } from '../registry/network-key.ts';
import { isName, isTrustDomain } from '../registry/spiffe-id.ts';
import { AnnotationError } from './annotation-error.ts';
import type { AnnotationKey } from './asked.ts';

export const MAX_ANNOTATION_LENGTH = 16_384;
export const MAX_NETWORKS = 32;
const MAX_LABELS = 32;

/** One network that is asked for. */
export interface WantedNetwork {
  readonly network: string;
  /** Undefined: none was named. */
  readonly domain: string | undefined;
  /** Undefined: named after the network. */
  readonly interfaceName: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  /** Canonical, one of a family at most. */
  readonly addresses: readonly string[];
  /** Where it begins in the text. */
  readonly at: number;
}

const SCHEME = 'kernel://';
/** The networks in the order written. Throws AnnotationError('invalid-argument'). */
export const parseAnnotation = (key: AnnotationKey, text: string): WantedNetwork[] =>
  new Parser(key, text).networks();

/** Which domains' networks can be asked for: this node's own, and those that is federated with. */
export interface Domains {
  readonly home: string;
  readonly partners: ReadonlySet<string>;
}

/** As nodes call it: with its domain, unless that is the own. */
export const keyOf = (
  { network, domain }: Pick<WantedNetwork, 'network' | 'domain'>,
  { home }: Domains,
): string => formatNetworkKey({ network, domain: domain === home ? undefined : domain });

/** Throws AnnotationError('failed-precondition') at the first network of a domain that is not federated. */
export const refuseForeign = (
  key: AnnotationKey,
  text: string,
  networks: readonly WantedNetwork[],
  { home, partners }: Domains,
): void => {
  const foreign = networks.find(
    ({ domain }) => domain !== undefined && domain !== home && !partners.has(domain),
  );
  if (foreign === undefined) return;
  const { network, domain } = foreign;
  const at = text.indexOf('@', foreign.at) + 1;
  const sentence = `"${domain}" is not federated with this domain, ${home}: its network "${network}" cannot be reached; name one of ${home}`;
  throw new AnnotationError('failed-precondition', { key, text, at }, sentence);
};

class Parser {
  readonly #key: AnnotationKey;
  readonly #text: string;
  #at = 0;

  constructor(key: AnnotationKey, text: string) {
    this.#key = key;
    this.#text = text;
  }

  networks(): WantedNetwork[] {
    const found: WantedNetwork[] = [];
    if (this.#text.length > MAX_ANNOTATION_LENGTH)
      this.#fail(
        MAX_ANNOTATION_LENGTH,
        `it is longer than ${MAX_ANNOTATION_LENGTH} characters: ask for less`,
      );
    this.#skipBlanks();
    if (this.#isOver) return found;
    for (;;) {
      if (found.length === MAX_NETWORKS) this.#fail(this.#at, `ask for at most ${MAX_NETWORKS} networks`);
      const item = this.#item();
      this.#refuseTwice(item, found);
      found.push(item);
      this.#skipBlanks();
      if (this.#isOver) return found;
      if (!this.#takes(',')) this.#unexpected('a comma is missing between two networks');
      this.#skipBlanks();
    }
  }

  #item(): WantedNetwork {
    const at = this.#at;
    this.#scheme();
    const network = this.#word(
      'a network',
      isName,
      'use lowercase letters, digits and inner hyphens, at most 63',
    );
    const domain = this.#takes('@')
      ? this.#word('a domain', isTrustDomain, 'use lowercase letters, digits, dots and hyphens')
      : undefined;
    const interfaceName = this.#takes('/') ? this.#interface() : undefined;
    const isShort = interfaceName === undefined && network.length <= MAX_INTERFACE_NAME;
    const problem = isShort ? interfaceNameProblem(network) : undefined;
    if (problem !== undefined) this.#fail(at, `${problem} after a slash, as in ${network}/${network}1`);
    const labels: Record<string, string> = {};
    const addresses: string[] = [];
    if (this.#takes('?')) {
      do this.#pair(labels, addresses);
      while (this.#takes('&'));
    }
    return { network, domain, interfaceName, labels, addresses, at };
  }

  #scheme(): void {
    const at = this.#at;
    const [scheme] = this.#match(/[A-Za-z][A-Za-z0-9+.-]*:\/\//y) ?? [];
    if (this.#key === 'vl3.io/networks') {
      if (scheme !== undefined) this.#fail(at, `write the network without "${scheme}"`);
    } else if (scheme === undefined) this.#fail(at, `write the network as ${SCHEME}network`);
    else if (scheme !== SCHEME) this.#fail(at, `"${scheme}" is not served: only ${SCHEME} is`);
  }

  #interface(): string {
    const at = this.#at;
    const name = this.#run();
    if (name === '') this.#fail(at, "an interface's name is missing after the slash");
    const problem = interfaceNameProblem(name);
    // At the first character that is too much, when it is that.
    const isLong = name.length > MAX_INTERFACE_NAME && /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name);
    if (problem !== undefined) this.#fail(at + (isLong ? MAX_INTERFACE_NAME : 0), problem);
    return name;
  }

  #pair(labels: Record<string, string>, addresses: string[]): void {
    const at = this.#at;
    const [key = ''] = this.#match(/[^=&,\s?]*/y) ?? [];
    if (key === '') this.#fail(at, 'a label is missing: write key=value');
    if (!this.#takes('=')) this.#unexpected(`a value is missing: write ${key}=value`);
    const valueAt = this.#at;
    const [value = ''] = this.#match(/[^&,\s]*/y) ?? [];
    if (key === 'address' && this.#key === 'vl3.io/networks') {
      addresses.push(this.#address(valueAt, value, addresses));
      return;
    }
    if (!LABEL_KEY.test(key)) this.#fail(at, `"${key}" is not the key of a Kubernetes label`);
    if (Object.hasOwn(labels, key)) this.#fail(at, `the label "${key}" is given twice`);
    if (!LABEL_VALUE.test(value))
      this.#fail(valueAt, `"${value}" is not the value of a label: use at most 63 letters, digits, ".-_"`);
    if (Object.keys(labels).length === MAX_LABELS) this.#fail(at, `give at most ${MAX_LABELS} labels`);
    labels[key] = value;
  }

  #address(at: number, text: string, others: readonly string[]): string {
    let address: string;
    try {
      address = formatAddress(parseAddress(text));
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      this.#fail(at, error.message);
    }
    if (others.some((other) => other.includes(':') === address.includes(':')))
      this.#fail(at, `give one IPv${address.includes(':') ? 6 : 4} address at most`);
    return address;
  }

  /** Two interfaces of one name, or one network twice, can never be. */
  #refuseTwice(item: WantedNetwork, others: readonly WantedNetwork[]): void {
    const { network, domain, at } = item;
    if (others.some((other) => other.network === network && other.domain === domain))
      this.#fail(at, `the network "${network}" is asked for twice`);
    const other = others.find((one) => interfaceOf(one) === interfaceOf(item));
    if (other !== undefined)
      this.#fail(
        at,
        `its interface would be called "${interfaceOf(item)}" as that of "${other.network}" is: name it after a slash`,
      );
  }

  #word(what: string, isGood: (word: string) => boolean, remedy: string): string {
    const at = this.#at;
    const word = this.#run();
    if (word === '') this.#unexpected(`the name of ${what} is missing`);
    if (!isGood(word)) this.#fail(at, `"${word}" is not the name of ${what}: ${remedy}`);
    return word;
  }

  /** Up to the next delimiter. */
  #run(): string {
    return this.#match(/[^,@/?&=\s]*/y)?.[0] ?? '';
  }

  #skipBlanks(): void {
    this.#match(/[ \t\r\n]*/y);
  }

  #takes(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #match(sticky: RegExp): RegExpExecArray | undefined {
    sticky.lastIndex = this.#at;
    const match = sticky.exec(this.#text) ?? undefined;
    if (match !== undefined) this.#at = sticky.lastIndex;
    return match;
  }

  get #isOver(): boolean {
    return this.#at === this.#text.length;
  }

  #unexpected(sentence: string): never {
    this.#fail(this.#at, sentence);
  }

  #fail(at: number, sentence: string): never {
    const whole = sentence.length > 400 ? `${sentence.slice(0, 400)}…` : sentence;
    throw new AnnotationError('invalid-argument', { key: this.#key, text: this.#text, at }, whole);
  }
}

/** As it will be called; for one whose name is made by shortening the network's, something that meets no other. */
const interfaceOf = ({ network, interfaceName }: WantedNetwork): string =>
  interfaceName ?? (network.length <= MAX_INTERFACE_NAME ? network : `${network} shortened`);
