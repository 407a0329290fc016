"""A model as its folder describes it: spec, kind of task, own tests, and a scaffold for a new one."""
