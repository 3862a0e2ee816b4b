"""`python -m hybrid_memory.demo STORE`: the second half of the demo, in a process of its own."""

import sys

from hybrid_memory.demo.run import recall_main

sys.exit(recall_main(sys.argv[1:]))
