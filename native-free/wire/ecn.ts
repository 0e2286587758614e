// Explicit congestion notification across the tunnel (RFC 6040): the outer header takes over the inner mark on the way in,
// and what routers on the way marked reaches the inner header on the way out. Marks are the two low bits of a traffic class.

export const ECN_MASK = 0x03;
export const NOT_ECT = 0;
export const ECT_1 = 1;
export const ECT_0 = 2;
export const CE = 3;

/** Section 4.1, normal mode: the mark of the outer header. */
export const enterTunnel = (inner: number): number => inner;

/**
 * Section 4.2, figure 4: the mark of the inner header once the outer one is gone. -1: drop the packet, since a router
 * marked congestion and the sender would not understand.
 */
export const leaveTunnel = (inner: number, outer: number): number => {
  if (outer === CE) return inner === NOT_ECT ? -1 : CE;
  return outer === ECT_1 && inner === ECT_0 ? ECT_1 : inner;
};
