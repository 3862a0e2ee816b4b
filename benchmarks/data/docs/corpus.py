"""A retrieval corpus made of the docstrings of the running interpreter's standard library."""

import builtins
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType

MIN_CHARS, MAX_CHARS = 60, 4000
_NAMES = """
abc argparse array ast asyncio base64 bisect calendar cmd codecs collections collections.abc
concurrent.futures configparser contextlib contextvars copy csv ctypes.util dataclasses datetime
decimal difflib dis email email.header email.message email.policy email.utils enum filecmp
fileinput fnmatch fractions ftplib functools gc getopt getpass gettext glob graphlib gzip hashlib
heapq hmac html html.parser http.client http.cookiejar http.cookies http.server imaplib importlib
importlib.metadata importlib.util inspect io ipaddress itertools json keyword linecache locale
logging logging.config logging.handlers lzma bz2 math mailbox mimetypes mmap multiprocessing
multiprocessing.pool multiprocessing.shared_memory operator optparse os os.path pathlib pdb pickle
pickletools pkgutil platform plistlib poplib pprint profile pstats py_compile queue quopri random
re reprlib runpy sched secrets select selectors shelve shlex shutil signal site smtplib socket
socketserver sqlite3 ssl stat statistics string stringprep struct subprocess symtable sys
sysconfig tarfile tempfile textwrap threading time timeit token tokenize trace traceback
tracemalloc types typing unicodedata unittest unittest.mock urllib.error urllib.parse
urllib.request urllib.robotparser uuid venv warnings wave weakref webbrowser wsgiref.simple_server
xml.dom.minidom xml.etree.ElementTree xml.sax.saxutils xmlrpc.client zipapp zipfile zlib zoneinfo
"""
MODULES = _NAMES.split()


def _kind(obj: object) -> str | None:
    if inspect.isclass(obj):
        return "class"
    return "function" if inspect.isroutine(obj) or inspect.isfunction(obj) else None


def _members(name: str, module: ModuleType) -> Iterator[tuple[str, str, object]]:
    """Yield (id, kind, object) for the module and for what is public in it and its own."""
    yield name, "module", module
    public = getattr(module, "__all__", None)
    classes: list[tuple[str, type]] = []
    for attr in sorted(set(vars(module) if public is None else public)):
        obj = getattr(module, attr, None)
        kind = _kind(obj)
        owner = getattr(obj, "__module__", None) or name
        if attr.startswith("_") or kind is None or (owner != name and owner in MODULES):
            continue
        if inspect.isclass(obj) and getattr(builtins, obj.__name__, None) is obj:
            continue  # an alias, such as typing.Text for str
        if public is None and owner.removeprefix("_").split(".")[0] != name.split(".")[0]:
            continue
        yield f"{name}.{attr}", kind, obj
        if inspect.isclass(obj):
            classes.append((attr, obj))
    for attr, cls in classes:  # last, so that random.sample comes before random.Random.sample
        for method, raw in sorted(vars(cls).items()):
            func = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
            if not method.startswith("_") and _kind(func) == "function":
                yield f"{name}.{attr}.{method}", "method", func


def stdlib_corpus() -> dict[str, tuple[str, str]]:
    """Map the qualified name of each documented public object to its (title, docstring)."""
    corpus: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:  # an optional extension, not built here
            continue
        for ident, kind, obj in _members(name, module):
            doc = getattr(obj, "__doc__", None)
            text = inspect.cleandoc(doc)[:MAX_CHARS].strip() if isinstance(doc, str) else ""
            if len(text) >= MIN_CHARS and text not in seen:
                seen.add(text)
                corpus.setdefault(ident, (f"{ident} ({kind})", text))
    return corpus
