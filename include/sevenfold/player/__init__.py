"""The player: real rows of the past, asked of the gateway in the order in which they happened.

`batches` makes requests of rows and feedback of labels, `client` sends them, `progress` remembers how far it
came, `play` does it all.
"""

from sevenfold.player.play import Played, play

__all__ = ["Played", "play"]
