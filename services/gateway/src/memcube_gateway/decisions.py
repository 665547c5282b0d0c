"""What projects decided about what is written into them, remembered for three seconds at most."""

from __future__ import annotations

import time
from collections.abc import Callable

from memcube_common.db import Database
from memcube_common.projects.domain import ProjectSettings
from memcube_common.projects.store import read_settings
from memcube_gateway.admission import Caller
from memcube_gateway.patience import Patience
from memcube_gateway.remembering import REMEMBERED_MAX, Remembered


class Decisions:
    """The settings of the projects that were written into lately; at most `most` of them.

    clock: monotonic seconds.
    """

    def __init__(
        self, db: Database, *, clock: Callable[[], float] = time.monotonic, most: int = REMEMBERED_MAX
    ) -> None:
        self._db = db
        self._known = Remembered[ProjectSettings](clock, most=most)

    async def of(self, caller: Caller, patience: Patience) -> ProjectSettings:
        """The settings of the caller's project, three seconds old at most. Raises TryAgain."""

        async def look(patience: Patience) -> ProjectSettings:
            async with patience.transaction(self._db, caller.principal) as tx:
                return await read_settings(tx, project=caller.project)

        found = await self._known.get(caller.project, look, patience)
        assert found is not None
        return found

    def forget(self, project: str) -> None:
        """Read the settings of `project` anew: they were just set."""
        self._known.forget(project)
