"""Container orchestration as a library: liborchestra for Python.

    import orchestra

    with orchestra.Cluster(data_dir="/tmp/demo", listen="127.0.0.1:0") as cluster:
        client = cluster.client()
        client.apply(open("pod.yaml").read())
        for event in client.watch("v1", "pods", timeout=30):
            print(event["type"], event["object"]["metadata"]["name"])

Only ctypes and the standard library are used. liborchestra.so is found through the environment variable
ORCHESTRA_LIBRARY, beside this package, in the prefix this package is installed in, or by the loader. API
objects are dicts, times are seconds, failures are the exceptions of orchestra.errors. Every object may be used
from any thread, is a context manager, and closes what was made from it when it is closed. Since 0.1.
"""

from ._core import (
    ApiServer,
    Client,
    Cluster,
    Engine,
    Event,
    Informer,
    MemoryStore,
    Node,
    PodStream,
    Process,
    RaftStore,
    Store,
    StoreEvent,
    StoreWatch,
    Watch,
    version,
)
from .errors import (
    AlreadyExists,
    Busy,
    Cancelled,
    Code,
    Compacted,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    Denied,
    Expired,
    Future,
    Internal,
    Invalid,
    Io,
    NoSpace,
    NotFound,
    NotLeader,
    OrchestraError,
    Overloaded,
    ResourceExhausted,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownOutcome,
    Unsupported,
    WouldDeadlock,
)

__all__ = [
    "AlreadyExists", "ApiServer", "Busy", "Cancelled", "Client", "Cluster", "Code", "Compacted", "Conflict",
    "Corrupt", "DeadlineExceeded", "Denied", "Engine", "Event", "Expired", "Future", "Informer", "Internal", "Invalid",
    "Io", "MemoryStore", "NoSpace", "Node", "NotFound", "NotLeader", "OrchestraError", "Overloaded", "PodStream",
    "Process", "RaftStore", "ResourceExhausted", "Store", "StoreEvent", "StoreWatch", "TooLarge", "Unauthenticated", "Unavailable",
    "UnknownOutcome", "Unsupported", "Watch", "WouldDeadlock", "version",
]
