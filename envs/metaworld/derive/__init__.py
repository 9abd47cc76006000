"""From upstream's source to a `Program`: what a task class computes after each physics step.

Upstream's own methods (`_get_obs`, `evaluate_state` and all that they call) are run once with symbolic numbers.
Constants, names and shapes are computed on the spot; numbers of the simulation, the action and attributes that change
from task to task or step to step become leaves of the program. Both sides of an `if` on such numbers are kept and
joined by `select`. Attributes that upstream writes but never reads are left out.
Code that would raise is taken to be never reached: such a branch counts for nothing, and assertions hold.
Anything that is not understood raises ConfigError with file, line and construct.
"""

from .program import derive_program

__all__ = ["derive_program"]
