"""Migrations of the evidence store, by Alembic. A new one is a file in versions/ and a new tables.SCHEMA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

if TYPE_CHECKING:
    from alembic.config import Config


def migrate(connection: Connection) -> None:
    """Brings the database to the newest schema inside the transaction that `connection` is in."""
    from alembic import command

    configuration = config()
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")


def config() -> Config:
    """Alembic's configuration: no file, for where the scripts are is all there is to say."""
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return configuration
