"""Search for hyperparameters: many trainings on a sample, bad ones stopped early, every one recorded.

`carry_out` is the whole of it as an activity needs it. Below it: `space` is what may be tried, `study` where
the trials are kept and who may run the next one, `trials` how one is run, `outcome` what came of them, and
`record` what is left for people.
"""

from sevenfold.search.activity import carry_out, found
from sevenfold.search.outcome import Outcome
from sevenfold.search.space import Space
from sevenfold.search.study import Budget, Study
from sevenfold.search.trials import Problem, search

__all__ = ["Budget", "Outcome", "Problem", "Space", "Study", "carry_out", "found", "search"]
