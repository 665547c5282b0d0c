"""`python -m memcube_gateway`: the HTTP door of MemCube, until SIGTERM."""

from __future__ import annotations

from memcube_common import frame
from memcube_common.settings import read_settings
from memcube_gateway.app import build_app
from memcube_gateway.room import open_room
from memcube_gateway.settings import GatewaySettings


async def run(settings: GatewaySettings) -> None:
    """Open the room, serve it, close it."""
    async with open_room(settings) as room:
        await frame.serve(build_app(room), settings, stopping=room.changes.close)


def main() -> None:
    """Run the gateway with what the environment tells it."""
    settings = read_settings(GatewaySettings)
    frame.run_room("gateway", settings, lambda: run(settings))


if __name__ == "__main__":
    main()
