"""Postgres refuses to run as root: decide under which identity its processes run, without touching a parent folder."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memcube_common.embedded.process import CannotStart


@dataclass(frozen=True, slots=True)
class Identity:
    """How a command is started so that Postgres accepts it.

    `prefix` goes in front of the command; `user` and `group` are what the child becomes before it runs (None: as we
    are); `owner` is the (uid, gid) that its files have on disk.
    """

    name: str
    owner: tuple[int, int]
    prefix: tuple[str, ...] = field(default=())
    user: int | None = None
    group: int | None = None

    def run(self, *command: str | Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a short command under this identity and return its outcome; blocks, at most five minutes."""
        return subprocess.run(
            [*self.prefix, *map(str, command)],
            env=environment,
            cwd="/",
            user=self.user,
            group=self.group,
            extra_groups=[] if self.user is not None else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
            check=False,
        )


def choose_identity(home: Path, binary: Path, *, death_signal: signal.Signals) -> Identity:
    """Return an identity that can write in `home` and run `binary`, giving it `home` and all below if it must.

    An ordinary user is itself. Root goes down a ladder and takes the first rung that works here: a user namespace in
    which root's own files belong to `nobody`; `nobody` with the one capability that opens closed parent folders;
    plain `nobody`. A folder that belongs to an ordinary account is used as that account. Blocks; raises CannotStart.
    """
    if os.geteuid() != 0:
        return _ordinary_user(home)
    tried: list[str] = []
    for identity in _ladder(home, death_signal):
        _give(home, identity.owner)
        outcome = _probe(identity, home, binary)
        if outcome is None:
            return identity
        tried.append(f"  {identity.name}: {outcome}")
    raise CannotStart(
        "Postgres does not run as root, and no other identity works here:\n"
        + "\n".join(tried)
        + f"\nStart MemCube as an ordinary user, move the checkout out of a closed folder ({home}),"
        " or set MEMCUBE_POSTGRES_DSN to a server of your own."
    )


def _ordinary_user(home: Path) -> Identity:
    try:
        account = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise CannotStart(
            f"the user id {os.geteuid()} has no entry in /etc/passwd, and Postgres needs one:"
            " add the entry, use another user, or set MEMCUBE_POSTGRES_DSN to a server of your own"
        ) from None
    owner = home.stat().st_uid
    if owner != os.geteuid():
        raise CannotStart(
            f"{home} belongs to user id {owner} and you are {account.pw_name}:"
            " start MemCube as its owner, remove the folder, or set MEMCUBE_HOME to another one"
        )
    return Identity(account.pw_name, (account.pw_uid, account.pw_gid))


def _ladder(home: Path, death_signal: signal.Signals) -> Iterator[Identity]:
    account = _account_for(home)
    uid, gid = account.pw_uid, account.pw_gid
    tied = ("--pdeathsig", death_signal.name.removeprefix("SIG"))  # a change of identity clears what the parent has set
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    unshare = shutil.which("unshare") if sys.platform == "linux" else None
    if setpriv and unshare and home.stat().st_uid in (0, _nobody().pw_uid):
        yield Identity(
            "user namespace",
            owner=(0, 0),
            prefix=(unshare, "--user", f"--map-user={uid}", f"--map-group={gid}", "--", setpriv, *tied, "--"),
        )
    if setpriv:
        become = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
        # Postgres looks for itself with access(2), which heeds capabilities only under this securebit.
        reach = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup")
        yield Identity(
            f"{account.pw_name} with dac_override",
            owner=(uid, gid),
            prefix=(setpriv, *become, *reach, *tied, "--"),
        )
    yield Identity(account.pw_name, owner=(uid, gid), user=uid, group=gid)


def _account_for(home: Path) -> pwd.struct_passwd:
    """The account that owns the folder already, unless that is root; else nobody."""
    owner = home.stat().st_uid
    if owner != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            pass
    return _nobody()


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise CannotStart(
            "Postgres does not run as root, and this machine has no account `nobody` to run it under:"
            " add one, start MemCube as an ordinary user, or set MEMCUBE_POSTGRES_DSN"
        ) from None


def _give(home: Path, owner: tuple[int, int]) -> None:
    """Make `home` and all below it belong to the owner; nothing outside is touched and no link is followed."""
    if home.stat().st_uid == owner[0]:
        return
    for folder, _, files, descriptor in os.fwalk(home):
        for name in files:
            os.chown(name, *owner, dir_fd=descriptor, follow_symlinks=False)
        if Path(folder) != home:
            os.fchown(descriptor, *owner)
    os.chown(home, *owner)  # last, so that an interrupted change is taken up again


def _probe(identity: Identity, home: Path, binary: Path) -> str | None:
    """What goes wrong when this identity writes in the folder and runs the server's programs; None if nothing does."""
    script = 'test -w "$1" || { echo "cannot write in $1" >&2; exit 1; }; exec "$2" --bindir'
    finds_itself = binary.with_name("pg_config")  # as the server must; `postgres --version` does not try
    try:
        outcome = identity.run("/bin/sh", "-c", script, "sh", home, finds_itself, environment={"PATH": os.defpath})
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if outcome.returncode == 0 else (outcome.stderr.strip() or f"ended with {outcome.returncode}")
