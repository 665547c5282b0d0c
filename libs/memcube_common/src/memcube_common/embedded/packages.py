"""Find a file that an installed package carries, such as a server's binary."""

from importlib import metadata
from pathlib import Path

from memcube_common.embedded.process import CannotStart


def packaged_file(distribution: str, name: str) -> Path:
    """Return the absolute path of the file called `name` in an installed distribution, never one found on PATH.

    Raises CannotStart when the package is not installed or does not carry the file.
    """
    try:
        carried = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        raise CannotStart(
            f"the package {distribution} is not installed: install memcube-common[embedded],"
            " or set MEMCUBE_POSTGRES_DSN and MEMCUBE_NATS_URL to servers of your own"
        ) from None
    for file in carried.files or ():
        if file.name == name and not any(part.endswith(".dist-info") for part in file.parts):
            return Path(str(carried.locate_file(file))).resolve()
    raise CannotStart(f"the package {distribution} carries no file called {name} for this machine")
