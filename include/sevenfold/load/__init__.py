"""Load with an open workload: requests leave on a schedule, whether or not earlier ones have been answered.

`generate` runs Locust in a process of its own (importing it patches every socket of a process) and gives back
each request's time from the moment it was meant to leave, so a server that stalls cannot hide its queue.
"""

from sevenfold.load.generator import Kind, LoadError, Schedule, generate
from sevenfold.load.result import LoadResult

__all__ = ["Kind", "LoadError", "LoadResult", "Schedule", "generate"]
