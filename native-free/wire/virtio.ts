// struct virtio_net_hdr, which a TUN with IFF_VNET_HDR puts before every packet in both directions
// (virtio 1.2, section 5.1.6; linux/virtio_net.h). Ten bytes in the byte order of the host.
//
//    0        1          2         4          6            8
//   +--------+----------+---------+----------+------------+-------------+
//   | flags  | gso_type | hdr_len | gso_size | csum_start | csum_offset |
//   +--------+----------+---------+----------+------------+-------------+

import { HOST_IS_LITTLE_ENDIAN } from './packet-memory.ts';

export const VNET_HEADER_LENGTH = 10;

export const VNET_FLAGS_OFFSET = 0;
export const VNET_GSO_TYPE_OFFSET = 1;
export const VNET_HEADER_LENGTH_OFFSET = 2;
export const VNET_GSO_SIZE_OFFSET = 4;
export const VNET_CHECKSUM_START_OFFSET = 6;
export const VNET_CHECKSUM_OFFSET_OFFSET = 8;

/** The transport checksum field holds the pseudo-header's sum only; whoever sends it on must complete it. */
export const VNET_NEEDS_CHECKSUM = 1;

export const VNET_GSO_NONE = 0;
export const VNET_GSO_TCP_V4 = 1;
export const VNET_GSO_TCP_V6 = 4;
export const VNET_GSO_UDP = 5;
/** A flag on top of the TCP types: the packet carries CWR. */
export const VNET_GSO_ECN = 0x80;

export const vnetFlags = (view: DataView, offset: number): number =>
  view.getUint8(offset + VNET_FLAGS_OFFSET);
export const vnetGsoType = (view: DataView, offset: number): number =>
  view.getUint8(offset + VNET_GSO_TYPE_OFFSET);
export const vnetGsoSize = (view: DataView, offset: number): number =>
  view.getUint16(offset + VNET_GSO_SIZE_OFFSET, HOST_IS_LITTLE_ENDIAN);
export const vnetChecksumStart = (view: DataView, offset: number): number =>
  view.getUint16(offset + VNET_CHECKSUM_START_OFFSET, HOST_IS_LITTLE_ENDIAN);
export const vnetChecksumOffset = (view: DataView, offset: number): number =>
  view.getUint16(offset + VNET_CHECKSUM_OFFSET_OFFSET, HOST_IS_LITTLE_ENDIAN);

/** Writes the header of an ordinary packet: nothing to complete, nothing to cut. */
export const writePlainVnetHeader = (view: DataView, offset: number): void => {
  view.setUint32(offset, 0);
  view.setUint32(offset + 4, 0);
  view.setUint16(offset + 8, 0);
};

/** Writes the header of a super-packet whose transport checksum the kernel completes. Counts from the IP header. */
export const writeVnetHeader = (
  view: DataView,
  offset: number,
  gsoType: number,
  headerLength: number,
  gsoSize: number,
  checksumStart: number,
  checksumOffset: number,
): void => {
  view.setUint8(offset + VNET_FLAGS_OFFSET, VNET_NEEDS_CHECKSUM);
  view.setUint8(offset + VNET_GSO_TYPE_OFFSET, gsoType);
  view.setUint16(offset + VNET_HEADER_LENGTH_OFFSET, headerLength, HOST_IS_LITTLE_ENDIAN);
  view.setUint16(offset + VNET_GSO_SIZE_OFFSET, gsoSize, HOST_IS_LITTLE_ENDIAN);
  view.setUint16(offset + VNET_CHECKSUM_START_OFFSET, checksumStart, HOST_IS_LITTLE_ENDIAN);
  view.setUint16(offset + VNET_CHECKSUM_OFFSET_OFFSET, checksumOffset, HOST_IS_LITTLE_ENDIAN);
};
