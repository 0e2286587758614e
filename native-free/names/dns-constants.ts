// Numbers of the DNS: RFC 1035 (section 3.2, 4.1.1), RFC 3596 (AAAA), RFC 6891 (EDNS), RFC 8482 (ANY).

export const TYPE_A = 1;
export const TYPE_NS = 2;
export const TYPE_SOA = 6;
export const TYPE_PTR = 12;
export const TYPE_AAAA = 28;
export const TYPE_OPT = 41;
export const TYPE_IXFR = 251;
export const TYPE_AXFR = 252;
export const TYPE_ANY = 255;

export const CLASS_IN = 1;

export const NOERROR = 0;
export const FORMERR = 1;
export const SERVFAIL = 2;
export const NXDOMAIN = 3;
export const NOTIMP = 4;
export const REFUSED = 5;
/** Extended: its upper bits are in the OPT record. */
export const BADVERS = 16;

export const MAX_LABEL_BYTES = 63;
/** Of a name as it is sent, with the root label. */
export const MAX_NAME_BYTES = 255;
/** What every asker takes by UDP. */
export const PLAIN_UDP_BYTES = 512;
/** No more is sent by UDP, whatever the asker says it takes: it fits the smallest MTU of IPv6, so nothing is fragmented. */
export const MAX_UDP_BYTES = 1232;
export const MAX_TCP_BYTES = 65_535;
