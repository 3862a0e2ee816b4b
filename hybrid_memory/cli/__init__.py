"""The command `hybrid-memory`: the public API from a shell, and the only use of typer.

What a user can get wrong ends in one line on stderr and exit code 2. The library itself is
imported inside the commands, so that `--help` does not wait for it.

```
app.py          the command, its subcommands and its exit codes
remembering.py  add, learn                    recalling.py  search, why, context, stats
answering.py    ask, chat                     forgetting.py delete, forget, erase, purge, prune
carrying.py     export, import, backup        checking.py   check, repair
evaluating.py   eval ...                      opening.py    the store    options.py  shared options
```
"""

from hybrid_memory.cli.app import main

__all__ = ["main"]
