"""The player: real rows of the past, asked of the gateway in the order in which they happened.

`batches` makes requests of rows and feedback of labels, `client` sends them, `progress` remembers how far it
came, `playing` does it all.
"""

from sevenfold.demo.player.playing import Played, play

__all__ = ["Played", "play"]
