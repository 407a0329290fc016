"""Load with an open workload: requests leave on a schedule, whether or not earlier ones have been answered.

`generate` runs Locust in a process of its own (importing it patches every socket of a process) and gives back
each request's time from the moment it was meant to leave, so a server that stalls cannot hide its queue. A
`Schedule` is made of steps, each with one offered rate; `carried` says what came back of each, and `knee` how
much the service carries. `sevenfold.load.report.load_page` shows it as a page with pictures, and
`sevenfold.load.replay.replayed` makes requests of a model's newest rows.
"""

from sevenfold.load.generator import Kind, LoadError, Schedule, Step, generate
from sevenfold.load.ramp import Carried, carried, knee
from sevenfold.load.result import LoadResult

__all__ = ["Carried", "Kind", "LoadError", "LoadResult", "Schedule", "Step", "carried", "generate", "knee"]
