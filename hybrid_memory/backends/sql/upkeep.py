"""What a store does for its own health, by the functions of `maintenance.py`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select

from hybrid_memory import pruning
from hybrid_memory.backends.sql import disk, maintenance, schema
from hybrid_memory.backends.sql.connections import FILE_NAME, fault, wait_at_most
from hybrid_memory.backends.sql.writes import Writes
from hybrid_memory.errors import StoreBusyError, StoreCorruptError, StoreFullError
from hybrid_memory.limits import microseconds, to_json
from hybrid_memory.protocols import Depth, Draft, Stored
from hybrid_memory.pruning import Size
from hybrid_memory.types import Erased, Kind, Namespace

_HOLDERS = (
    "SELECT labels, checksum FROM namespaces n WHERE EXISTS (SELECT 1 FROM records r "
    "WHERE r.namespace = n.number AND r.kind = ? AND r.source = ? "
    "AND (? IS NULL OR r.expires_at IS NULL OR r.expires_at > ?) "
    "AND (? IS NULL OR r.expires_at <= ?))"
)
_WITHIN = "(labels = ? OR (labels >= ? AND labels < ?))"


class Upkeep(Writes):
    """Looks at itself, mends itself, and leaves nothing behind."""

    @property
    def was_interrupted(self) -> bool:
        """See `RecordStore.was_interrupted`.

        SQLite removes its log when the last connection to the file is closed, so one that is
        there was left by a process that died, or belongs to one that is at work: then a look at
        the store is not needed, and does no harm. A mark of our own would cost two commits for
        each time a store is opened, and would have to know which of several processes are alive.
        """
        return self._interrupted

    def namespaces(self) -> dict[Namespace, int]:
        """See `RecordStore.namespaces`."""
        with self._reading() as connection:
            return maintenance.namespaces(connection)

    def holders(
        self,
        *,
        kind: Kind,
        source: str,
        under: Namespace = (),
        unexpired_at: datetime | None = None,
        expired_at: datetime | None = None,
    ) -> list[Namespace]:
        """See `RecordStore.holders`."""
        alive, gone = (
            None if moment is None else microseconds(moment)
            for moment in (unexpired_at, expired_at)
        )
        # All that begin with these labels lie between two texts, as commas follow all of them.
        start = to_json(under)[:-1]
        within = (f"{start}]", f"{start},", f"{start}-") if under else ()
        statement = f"{_HOLDERS} AND {_WITHIN}" if under else _HOLDERS
        bounds = (kind, source, alive, alive, gone, gone)
        rows = self._rows(f"{statement} ORDER BY number", (*bounds, *within))
        found = [maintenance.labels_of(*row) for row in rows]
        return [namespace for namespace in found if namespace is not None]

    def stored(self, namespace: Namespace, *, after: int = 0, limit: int = 1000) -> list[Stored]:
        """See `RecordStore.stored`."""
        with self._reading() as connection:
            if (number := self._known(connection, namespace)) is None:
                return []
            return maintenance.page(connection, namespace, number, after=after, limit=limit)

    def recent(self, namespace: Namespace, *, limit: int) -> list[Stored]:
        """See `RecordStore.recent`."""
        with self._reading() as connection:
            if (number := self._known(connection, namespace)) is None:
                return []
            return maintenance.recent(connection, namespace, number, limit=limit)

    def refresh(self, namespace: Namespace, rows: Sequence[tuple[Stored, Draft]]) -> int:
        """See `RecordStore.refresh`."""
        with self._writing() as connection:
            number = self._known(connection, namespace)
            same = maintenance.unchanged(connection, rows)
            if number is not None and same:
                self._keep_to_space(connection, [draft for _, draft in same])
                keys = [row.key for row, _ in same]
                before = maintenance.held_by(connection, keys)
                grown = Size(0, sum(pruning.size(draft) for _, draft in same) - before)
                last, _ = self._raise_counter(connection, number, len(same), grown)
                maintenance.refresh(connection, same, change=last - len(same) + 1)
            return len(same)

    def damaged_profile(self, namespace: Namespace) -> list[str]:
        """See `RecordStore.damaged_profile`."""
        with self._reading() as connection:
            rows = self._profile_rows(connection, self._known(connection, namespace))
        return [row.key for row in rows if schema.value(row) is schema.DAMAGED]

    def quarantine(
        self,
        namespace: Namespace,
        *,
        keys: Sequence[int] = (),
        profile_keys: Sequence[str] = (),
        at: datetime,
    ) -> int:
        """See `RecordStore.quarantine`."""
        moment = microseconds(at)
        with self._writing() as connection:
            if (number := self._known(connection, namespace)) is None:
                return 0
            moved = maintenance.quarantine_records(connection, namespace, number, keys, at=moment)
            self._removed(connection, number, moved, size=0)
            if moved:  # what a damaged row said of its size is not to be trusted
                maintenance.recount(connection, number)
            values = maintenance.quarantine_profile(connection, number, profile_keys, at=moment)
            return len(moved) + len(values)

    def quarantined(self) -> int:
        """See `RecordStore.quarantined`."""
        with self._reading() as connection:
            statement = select(func.count()).select_from(schema.quarantine)
            return int(connection.execute(statement).scalar_one())

    def integrity(self, depth: Depth) -> list[str]:
        """See `RecordStore.integrity`."""
        try:
            with self._reading() as connection:
                return maintenance.integrity(connection, depth)
        except StoreCorruptError as error:
            return [str(error)]

    def lost(self) -> list[tuple[Namespace, str]]:
        """See `RecordStore.lost`."""
        with self._reading() as connection:
            return maintenance.lost(connection)

    def mend(self, *, at: datetime) -> None:
        """See `RecordStore.mend`."""
        with suppress(StoreCorruptError), self._writing() as connection:
            maintenance.mend(connection, at=microseconds(at))
        if self.integrity("quick"):
            # What the indexes could not be made of in place, they are in a file written anew.
            with self._alone() as connection:
                connection.execute("VACUUM")
            with self._writing() as again:
                maintenance.mend(again, at=microseconds(at))

    def purge(self, *, timeout_s: float) -> Erased:
        """See `RecordStore.purge`.

        `secure_delete` has overwritten what was deleted, but a row that was moved to another page
        may have left a copy behind, and the log has the old pages: so the file is written anew,
        and the log is cut.
        """
        deadline = time.monotonic() + timeout_s
        before = self._sizes()
        unfinished = []
        with self._alone() as connection:
            wait_at_most(connection, timeout_s)
            try:
                connection.execute("VACUUM")
            except sqlite3.OperationalError as error:
                reason = fault(error, self._path)
                if not isinstance(reason, StoreBusyError | StoreFullError):
                    raise
                why = "it is in use" if isinstance(reason, StoreBusyError) else "disk is full"
                unfinished.append(
                    f"{self._path} could not be written anew ({why}); "
                    "what was deleted is overwritten, but copies may lie in it: purge again"
                )
        obstacle = (
            f"a reader, of this or another process, has kept it for over {timeout_s:g} s; end it"
        )
        try:
            is_log_cut = self._is_log_cut(deadline)
        except StoreFullError:
            is_log_cut, obstacle = False, "the disk is full; free some space"
        if not is_log_cut:
            unfinished.append(
                f"{self._path}-wal still has what was deleted: {obstacle} and purge again"
            )
        disk.keep_reserve(self._path.parent)
        after = self._sizes()
        return Erased(
            files=tuple(str(path) for path in after if path.name.startswith(FILE_NAME)),
            bytes=sum(before.values()) - sum(after.values()),
            unfinished=tuple(unfinished),
        )

    def files(self) -> list[Path]:
        """See `RecordStore.files`."""
        return sorted(path for path in self._path.parent.rglob("*") if path.is_file())

    def _sizes(self) -> dict[Path, int]:
        return {path: path.stat().st_size for path in disk.database_files(self._path)}
