"""The second engine beside `workers`: Ray does the same job on the machines of a cluster."""

import os

# Ray reads these when it is imported: no data about the use of Ray is sent; its own messages, which it writes to stdout
# at that, stay away from ours, and are in its logs; and a thread that is left behind when a run is stopped does not
# connect to the cluster anew.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
