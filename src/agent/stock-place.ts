// Where a stock WireGuard peer is, in place of a network namespace: nowhere on this node. No path begins so.

const PREFIX = 'stock-peer:';

export const stockPlace = (name: string): string => `${PREFIX}${name}`;

export const isStockPlace = (place: string): boolean => place.startsWith(PREFIX);
