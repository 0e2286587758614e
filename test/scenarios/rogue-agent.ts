// Loaded before an agent's program: from then on that ignores whatever a registry decides of its attachments, and that a
// federation has ended. It attaches without waiting, and takes nothing down.

import { Federations } from '../../src/agent/federations.ts';
import { Homes } from '../../src/agent/homes.ts';
import { Verdicts } from '../../src/agent/verdicts.ts';

Verdicts.prototype.mustBeAdmitted = async () => {};
Verdicts.prototype.decided = () => {};
Homes.prototype.refused = async () => {};

const heard = Federations.prototype.heard;
Federations.prototype.heard = function (...said) {
  if (this.all.length === 0) heard.apply(this, said);
};
