import { noblePrimitives } from '../../../native-free/noise/noble-primitives.ts';
import { primitivesContract } from './primitives-contract.ts';

primitivesContract(noblePrimitives);
