"""What lies under a database: its files, whose they are, the file system, and space for need."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from hybrid_memory.errors import StorePathError

RESERVE_NAME = "memory.reserve"
RESERVE_BYTES = 2**20
MOUNTS = Path("/proc/self/mountinfo")  # of Linux; elsewhere nothing can be told
# Where locks, or the memory that SQLite's log is shared through, may not reach all who write.
NETWORKS = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.ceph-fuse", "fuse.davfs", "fuse.gcsfuse",
        "fuse.glusterfs", "fuse.mount-s3", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs",
    }
)  # fmt: skip


def database_files(path: Path) -> list[Path]:
    """Return the file of a database, its log and the index of that, as far as they are there."""
    paths = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    return [one for one in paths if one.exists()]


def has_log(path: Path) -> bool:
    """Tell whether SQLite has changes in its log that are not in the file of a database yet."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def reading_uri(path: Path) -> str:
    """Return the address by which a database can be read where nothing can be written."""
    # With a log somebody may be at work, or may have been. Without, SQLite would want to make one.
    is_logged = path.with_name(f"{path.name}-wal").exists()
    return f"{path.as_uri()}?mode=ro" if is_logged else f"{path.as_uri()}?mode=ro&immutable=1"


def network_file_system(directory: Path) -> str | None:
    """Return the type of the file system of a directory if others may reach it by a network."""
    try:
        device = directory.stat().st_dev
        mounts = MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for mount in mounts:  # "36 35 0:98 / /home rw,noatime shared:1 - nfs4 server:/home rw"
        place, _, kind = mount.partition(" - ")
        if place.split()[2:3] == [number] and (name := kind.split(" ")[0]) in NETWORKS:
            return name
    return None


def keep_private(path: Path) -> None:
    """Make the file of a database if it is missing, and what is there its owner's alone.

    SQLite gives its log and the index of that the mode which the database has when they are made.
    """
    try:
        path.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
    except OSError as error:
        raise StorePathError(f"cannot make {path}: {error.strerror}") from error
    for one in database_files(path):
        with suppress(OSError):  # of another owner, whose choice it is; or just removed
            one.chmod(stat.S_IRUSR | stat.S_IWUSR)


def keep_reserve(directory: Path) -> None:
    """Take up the space that `release_reserve` gives back; where there is none, do without."""
    path = directory / RESERVE_NAME
    try:
        if path.exists() and path.stat().st_size == RESERVE_BYTES:
            return
        opened = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR)
        with open(opened, "wb") as file:
            # A file system that compresses would keep zeros in no space at all.
            file.write(os.urandom(RESERVE_BYTES))
    except OSError:
        release_reserve(directory)


def release_reserve(directory: Path) -> None:
    """Give the space back, if it was taken."""
    with suppress(OSError):
        (directory / RESERVE_NAME).unlink()
