"""For all tests: imports and fixtures make many objects that stay, so garbage is looked for less often."""

import gc

gc.set_threshold(50_000, 20, 20)
