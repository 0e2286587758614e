// The steps of the suite for all pairs of makers, IPv6 outside.

import { matrix } from './suite-matrix.ts';

matrix('v6');
