"""Reads the text of PDF files with pypdf."""

from __future__ import annotations

from pathlib import Path

from pypdf import PdfReader

from hybrid_memory.errors import DocumentError


class PdfDocumentReader:
    """A DocumentReader for the text layer of PDF files; it does not recognise images of text."""

    def read(self, path: Path) -> list[str]:
        """Return the text page by page.

        Raises:
            DocumentError: missing, damaged, under a password, or without any text.
        """
        path = Path(path)
        try:
            reader = PdfReader(path)
            locked = reader.is_encrypted and not reader.decrypt("")
            pages = [] if locked else [_storable(page.extract_text()) for page in reader.pages]
        except OSError as error:
            raise DocumentError(f"cannot read {path}: {error.strerror or error}") from error
        except Exception as error:
            # A damaged file surfaces as pypdf's own errors and as KeyError, TypeError and others.
            raise DocumentError(
                f"{path} is not a PDF that can be read ({type(error).__name__}); "
                "save it again with a PDF program"
            ) from error
        if locked:
            raise DocumentError(f"{path} is under a password; save a copy without one")
        if not any(page.strip() for page in pages):
            raise DocumentError(
                f"{path} has {len(pages)} pages and no text; scanned pages need OCR first"
            )
        return pages


def _storable(text: str) -> str:
    # Broken font tables yield NULs and lone surrogates, which no store takes.
    return text.replace("\0", "").encode("utf-8", "replace").decode()
