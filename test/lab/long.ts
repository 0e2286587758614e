// Whether this is `npm run test:long`: what is sampled otherwise is then done wholly, and what is done a few times many times.

export const isLong = Boolean(process.env['VL3_LONG_TESTS']);
