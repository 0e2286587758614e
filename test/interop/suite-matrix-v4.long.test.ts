// The steps of the suite for all pairs of makers, IPv4 outside.

import { matrix } from './suite-matrix.ts';

matrix('v4');
