"""Every error this library raises on purpose: one base, each with the value and the way out.

No message holds a text that a user stored: ids, sizes, names of fields and paths only.
"""


class HybridMemoryError(Exception):
    """The base of all errors below."""


class InvalidInputError(HybridMemoryError, ValueError):
    """An argument that cannot be accepted; nothing was written."""


class TextError(InvalidInputError):
    """A text that is empty, too long, or holds what cannot be stored."""


class MetadataError(InvalidInputError):
    """Metadata or data that is not JSON, too large or too deep."""


class NamespaceError(InvalidInputError):
    """A namespace that is not a tuple of proper labels."""


class TimeError(InvalidInputError):
    """A time without a zone, or outside of what can be stored."""


class FilterError(InvalidInputError):
    """A `where` with an unknown operator, a malformed key or a value that does not fit."""


class VectorError(InvalidInputError):
    """A vector with a wrong shape, a NaN or an infinity."""


class DimensionMismatchError(VectorError):
    """A vector whose dimension is not that of the store."""


class DocumentError(InvalidInputError):
    """A document that cannot be read or has no text."""


class TransferError(InvalidInputError):
    """A file of an export or import that cannot be read or written, or is not as expected.

    The message names the line, row or item, and what it lacks.
    """


class SourceError(InvalidInputError):
    """A source that may not write what it tried to write."""


class NotFoundError(HybridMemoryError, KeyError):
    """No record with this id in the scope. A record of another namespace answers the same."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a sentence reads better without quotes.
        return str(self.args[0]) if self.args else ""


class ConflictError(HybridMemoryError):
    """The id is taken by other content, or the record is at another version than expected."""


class QuotaExceededError(HybridMemoryError):
    """The namespace is full: a write would exceed its quota, and nothing was written."""


class EmbedderMismatchError(HybridMemoryError):
    """The store was written in another vector space than the embedder's."""


class EmbedderUnavailableError(HybridMemoryError):
    """The embeddings server could not be reached, or refused, after retries."""


class SourcesUnavailableError(HybridMemoryError):
    """None of the outside sources that were asked could answer; the message says why of each."""


class ClosedError(HybridMemoryError):
    """The memory was closed."""


class StoreError(HybridMemoryError):
    """The record store could not do what was asked."""


class StorePathError(StoreError, OSError):
    """The path cannot hold a store: a file, not writable, or not a directory."""


class StoreReadOnlyError(StorePathError):
    """The store was opened for reading, because it cannot be written."""


class SchemaVersionError(StoreError):
    """The store was written by a newer version of this library."""


class StoreBusyError(StoreError):
    """Another process held the write lock for longer than the time limit."""


class StoreFullError(StoreError):
    """No space is left on the device."""


class StoreCorruptError(StoreError):
    """The database, or a row in it, is damaged."""


class ForkError(StoreError):
    """The store was in use while this process was forked from another."""


class ModelFileError(HybridMemoryError):
    """A model file is missing or damaged."""


class MissingExtraError(HybridMemoryError, ImportError):
    """An optional library is not installed; the message has the pip line."""


class ChatModelError(HybridMemoryError):
    """The chat model did not answer."""


class ChatModelNotConfiguredError(ChatModelError):
    """No chat model was given and none can be made from the environment."""


class ChatModelUnavailableError(ChatModelError):
    """The chat model could not be reached, or refused, after retries."""
