"""For all tests: they import much, and garbage is looked for less often."""

from sevenfold.light_imports import without_much_garbage

without_much_garbage()
