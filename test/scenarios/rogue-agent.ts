// Loaded before an agent's program: from then on that ignores whatever the registry decides of its attachments. It attaches
// without waiting, and takes nothing down.

import { Verdicts } from '../../src/agent/verdicts.ts';

Verdicts.prototype.mustBeAdmitted = async () => {};
Verdicts.prototype.decided = () => {};
