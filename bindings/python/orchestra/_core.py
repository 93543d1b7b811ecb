"""The classes of the package, over the functions of orchestra.h (see there for what each one promises).

_signatures is the C header once more, for ctypes. _Handle is what all classes share: it keeps the C handle
alive while a call runs on it, frees children before parents, and makes close() safe from any thread at any
time. Calls into C release the interpreter lock.
"""

from __future__ import annotations

import asyncio
import atexit
import collections
import contextlib
import base64
import ctypes
import json
import os
import select
import threading
import time
import weakref
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Deque, Dict, Iterator, List, Mapping, NamedTuple, Optional
from typing import Tuple, Union, overload
from urllib.parse import urlencode

from .errors import Code, DeadlineExceeded, Invalid, OrchestraError, class_of

Object = Dict[str, Any]
Event = Dict[str, Any]  # {"type": "ADDED", "object": {...}}
Text = Union[str, bytes]
LogSink = Callable[[int, str], None]


class StoreEvent(NamedTuple):
    """One change of a key; `value` is empty for a removal."""

    removed: bool
    key: bytes
    value: bytes
    revision: int


# --- the C side -----------------------------------------------------------------------------------------------
class _Bytes(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]


class _EngineOptions(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("event_threads", c_int), ("log", c_void_p), ("log_user", c_void_p)]


class _Request(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("verb", c_char_p), ("api_version", c_char_p), ("resource", c_char_p),
        ("subresource", c_char_p), ("ns", c_char_p), ("name", c_char_p), ("query", c_char_p),
        ("content_type", c_char_p), ("body", c_char_p), ("body_size", c_size_t), ("timeout_ms", c_int64),
    ]


class _ApplyOptions(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("manager", c_char_p), ("force", c_int), ("dry_run", c_int), ("timeout_ms", c_int64)]


class _InformerOptions(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("api_version", c_char_p), ("resource", c_char_p), ("ns", c_char_p), ("labels", c_char_p),
        ("fields", c_char_p), ("resync_ms", c_int64), ("call", c_void_p), ("user", c_void_p),
    ]


class _StoreEvent(ctypes.Structure):
    _fields_ = [("removed", c_int), ("key", c_void_p), ("key_size", c_size_t), ("value", c_void_p),
                ("value_size", c_size_t), ("revision", c_int64)]


_LogSink = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p)
_StoreEach = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_int64)
_InformerEach = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
_OnEvent = ctypes.CFUNCTYPE(None, c_void_p, POINTER(_StoreEvent))

_handle, _out, _error, _result = c_void_p, POINTER(c_void_p), POINTER(c_void_p), POINTER(_Bytes)
_signatures: Dict[str, Tuple[Any, List[Any]]] = {
    "orc_version": (c_char_p, []),
    "orc_bytes_free": (None, [_result]),
    "orc_error_message": (c_char_p, [_handle]),
    "orc_error_http_code": (c_int, [_handle]),
    "orc_error_status_json": (c_char_p, [_handle]),
    "orc_error_retry_after_ms": (c_int64, [_handle]),
    "orc_error_free": (None, [_handle]),
    "orc_engine_new": (c_int, [POINTER(_EngineOptions), _out, _error]),
    "orc_engine_free": (None, [_handle]),
    "orc_cluster_new": (c_int, [_handle, c_char_p, _out, _error]),
    "orc_cluster_start": (c_int, [_handle, _error]),
    "orc_cluster_stop": (None, [_handle]),
    "orc_cluster_down": (c_int, [_handle, c_int64, _error]),
    "orc_cluster_info": (c_int, [_handle, _result, _error]),
    "orc_cluster_metrics": (c_int, [_handle, c_char_p, _result, _error]),
    "orc_cluster_client": (c_int, [_handle, _out, _error]),
    "orc_cluster_free": (None, [_handle]),
    "orc_store_memory": (c_int, [_handle, _out, _error]),
    "orc_store_open": (c_int, [_handle, c_char_p, _out, _error]),
    "orc_store_free": (None, [_handle]),
    "orc_store_put": (c_int, [_handle, c_char_p, c_size_t, c_char_p, c_size_t, c_int64, c_int64, POINTER(c_int64), _error]),
    "orc_store_get": (c_int, [_handle, c_char_p, c_size_t, c_int64, _result, POINTER(c_int64), _error]),
    "orc_store_remove": (c_int, [_handle, c_char_p, c_size_t, c_int64, POINTER(c_uint64), _error]),
    "orc_store_txn": (c_int, [_handle, c_char_p, c_int64, _result, _error]),
    "orc_store_lease_grant": (c_int, [_handle, c_int64, c_int64, POINTER(c_int64), _error]),
    "orc_store_lease_keep_alive": (c_int, [_handle, c_int64, c_int64, _error]),
    "orc_store_lease_revoke": (c_int, [_handle, c_int64, c_int64, _error]),
    "orc_store_range": (c_int, [_handle, c_char_p, c_size_t, c_size_t, c_int64, _StoreEach, c_void_p, _error]),
    "orc_store_watch_new": (c_int, [_handle, c_char_p, c_size_t, c_int64, _out, _error]),
    "orc_store_watch_next": (c_int, [_handle, c_int64, _OnEvent, c_void_p, _error]),
    "orc_store_watch_fd": (c_int, [_handle]),
    "orc_store_watch_free": (None, [_handle]),
    "orc_api_server_new": (c_int, [_handle, _handle, c_char_p, _out, _error]),
    "orc_api_server_start": (c_int, [_handle, _error]),
    "orc_api_server_stop": (None, [_handle]),
    "orc_api_server_client": (c_int, [_handle, _out, _error]),
    "orc_api_server_kubeconfig": (c_int, [_handle, _result, _error]),
    "orc_api_server_metrics": (c_int, [_handle, c_char_p, _result, _error]),
    "orc_api_server_free": (None, [_handle]),
    "orc_node_new": (c_int, [_handle, _handle, c_char_p, _out, _error]),
    "orc_node_start": (c_int, [_handle, _error]),
    "orc_node_stop": (None, [_handle]),
    "orc_node_down": (c_int, [_handle, c_int64, _error]),
    "orc_node_free": (None, [_handle]),
    "orc_client_request": (c_int, [_handle, POINTER(_Request), _result, _error]),
    "orc_client_apply": (c_int, [_handle, c_char_p, c_size_t, POINTER(_ApplyOptions), _result, POINTER(c_size_t), _error]),
    "orc_client_watch": (c_int, [_handle, POINTER(_Request), _out, _error]),
    "orc_watch_next": (c_int, [_handle, c_int64, _result, _error]),
    "orc_watch_fd": (c_int, [_handle]),
    "orc_watch_free": (None, [_handle]),
    "orc_client_free": (None, [_handle]),
    "orc_client_connect": (c_int, [_handle, c_char_p, c_char_p, _out, _error]),
    "orc_informer_new": (c_int, [_handle, _handle, POINTER(_InformerOptions), _out, _error]),
    "orc_informer_wait_synced": (c_int, [_handle, c_int64, _error]),
    "orc_informer_wait_for": (c_int, [_handle, c_char_p, c_int64, _error]),
    "orc_informer_get": (c_int, [_handle, c_char_p, c_char_p, _result, _error]),
    "orc_informer_list": (c_int, [_handle, c_char_p, c_char_p, _InformerEach, c_void_p, _error]),
    "orc_informer_find": (c_int, [_handle, c_char_p, c_char_p, _InformerEach, c_void_p, _error]),
    "orc_informer_next": (c_int, [_handle, c_int64, _result, _error]),
    "orc_informer_fd": (c_int, [_handle]),
    "orc_informer_resync": (c_int, [_handle, _error]),
    "orc_informer_last_error": (c_int, [_handle, _result, _error]),
    "orc_informer_stop": (c_int, [_handle, _error]),
    "orc_informer_free": (None, [_handle]),
    "orc_client_stream": (c_int, [_handle, POINTER(_Request), _out, _error]),
    "orc_stream_next": (c_int, [_handle, c_int64, POINTER(c_int), POINTER(c_int), _result, _error]),
    "orc_stream_fd": (c_int, [_handle]),
    "orc_stream_write": (c_int, [_handle, c_char_p, c_size_t, c_int64, _error]),
    "orc_stream_close_write": (c_int, [_handle, _error]),
    "orc_stream_resize": (c_int, [_handle, ctypes.c_uint16, ctypes.c_uint16, _error]),
    "orc_stream_free": (None, [_handle]),
}

_loaded: Optional[ctypes.CDLL] = None
_loading = threading.Lock()


def _candidates() -> List[str]:
    chosen = os.environ.get("ORCHESTRA_LIBRARY")
    if chosen:
        return [chosen]
    here = Path(__file__).resolve().parent
    names = ("liborchestra.so.0", "liborchestra.so")
    # Beside the package, then PREFIX/lib above PREFIX/lib/python3/dist-packages/orchestra, then the loader's.
    found = [str(folder / name) for folder in (here, *here.parents[1:3]) for name in names if (folder / name).exists()]
    return found + list(names)


def _library() -> ctypes.CDLL:
    global _loaded
    with _loading:
        if _loaded is None:
            tried = []
            for candidate in _candidates():
                try:
                    library = ctypes.CDLL(candidate)
                except OSError as failure:
                    tried.append(str(failure))
                    continue
                for name, (result, arguments) in _signatures.items():
                    function = getattr(library, name)
                    function.restype, function.argtypes = result, arguments
                _loaded = library
                break
            else:
                raise ImportError("liborchestra was not found (" + "; ".join(tried) + "); set ORCHESTRA_LIBRARY to its path")
        return _loaded


def version() -> str:
    """Of liborchestra: "0.1.0"."""
    return _library().orc_version().decode()


def _call(name: str, *arguments: Any) -> None:
    """Calls a function whose last parameter is the error, and raises what it answers."""
    library = _library()
    error = c_void_p()
    code = getattr(library, name)(*arguments, byref(error))
    if code == 0:
        return
    if not error:  # a wait that ended with its time says so by the code alone
        raise class_of(code)("nothing came in time" if code == Code.DEADLINE_EXCEEDED else f"{name}: code {code}")
    try:
        raise class_of(code)(library.orc_error_message(error).decode("utf-8", "replace"), library.orc_error_http_code(error),
                             library.orc_error_status_json(error).decode("utf-8", "replace"),
                             library.orc_error_retry_after_ms(error) / 1000)
    finally:
        library.orc_error_free(error)


def _take(answer: _Bytes) -> bytes:
    try:
        return ctypes.string_at(answer.data, answer.size) if answer.data else b""
    finally:
        _library().orc_bytes_free(byref(answer))


def _ms(seconds: float) -> int:
    return max(0, int(seconds * 1000))


def _bytes(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def _options(given: Mapping[str, Any]) -> bytes:
    """As JSON, without what was left out; paths become text."""
    return json.dumps({name: value for name, value in given.items() if value is not None}, default=os.fspath).encode()


# --- handles --------------------------------------------------------------------------------------------------
class _Handle:
    """A C handle. close() ends children first and waits for the calls that run on it."""

    _free = ""

    def __init__(self, handle: c_void_p, *parents: "_Handle") -> None:
        self._changed = threading.Condition()
        self._pointer: Optional[c_void_p] = handle
        self._users = 0
        self._closed = False
        self._parents = parents  # keeps them alive
        self._children: "weakref.WeakSet[_Handle]" = weakref.WeakSet()
        for parent in parents:
            parent._children.add(self)

    def close(self) -> None:
        """Frees everything behind this object and what was made from it. Again: nothing happens."""
        for child in list(self._children):
            child.close()
        with self._changed:
            first, self._closed = not self._closed, True
            if first:
                self._wake()
                self._changed.wait_for(lambda: self._users == 0)
                pointer = self._pointer
            else:  # returns when it is gone, so that the parent may go
                self._changed.wait_for(lambda: self._pointer is None)
                return
        getattr(_library(), self._free)(pointer)
        with self._changed:
            self._pointer = None
            self._changed.notify_all()

    def _wake(self) -> None:
        """Ends waits of running calls, where there are such."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[c_void_p]:
        """The handle for the length of a `with`; close() waits for its end."""
        with self._changed:
            if self._closed or self._pointer is None:
                raise Invalid(f"this {type(self).__name__} is closed")
            self._users += 1
            pointer = self._pointer
        try:
            yield pointer
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()


class Engine(_Handle):
    """The threads of everything else. `log` is called with (level, line), one call at a time."""

    _free = "orc_engine_free"
    _all: "weakref.WeakSet[Engine]" = weakref.WeakSet()

    def __init__(self, event_threads: int = 0, log: Optional[LogSink] = None) -> None:
        self._sink = _LogSink(lambda _user, level, line: log(level, line.decode("utf-8", "replace"))) if log else None
        options = _EngineOptions(ctypes.sizeof(_EngineOptions), event_threads,
                                 ctypes.cast(self._sink, c_void_p) if self._sink else None, None)
        out = c_void_p()
        _call("orc_engine_new", byref(options), byref(out))
        super().__init__(out)
        Engine._all.add(self)


@atexit.register
def _close_engines() -> None:
    """No thread of the library may call into an interpreter that is gone."""
    for engine in list(Engine._all):
        engine.close()



class Cluster(_Handle):
    """What `orchestra up` runs. `with` starts it, and at the end stops its servers: pods run on until down().

    Without `engine` it has its own. Options that are left out are those of ClusterOptions in cluster.hpp.
    """

    _free = "orc_cluster_free"

    def __init__(self, engine: Optional[Engine] = None, *, data_dir: Union[str, os.PathLike, None] = None,
                 listen: Optional[str] = None, insecure_http: Optional[str] = None, dns: Optional[str] = None,
                 ingress: Optional[str] = None, ingress_tls: Optional[str] = None, node_name: Optional[str] = None,
                 node: Optional[bool] = None, isolation: Optional[str] = None, pod_cidr: Optional[str] = None,
                 service_cidr: Optional[str] = None, pod_network: Optional[str] = None,
                 preload: Optional[List[str]] = None,
                 dns_forward: Optional[List[str]] = None, memory_store: Optional[bool] = None,
                 serve_http: Optional[bool] = None) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "engine", "__class__")}
        self._own = None if engine is not None else Engine()
        engine = engine or self._own
        assert engine is not None
        out = c_void_p()
        with engine._use() as handle:
            _call("orc_cluster_new", handle, _options(options), byref(out))
        super().__init__(out, engine)

    def start(self) -> "Cluster":
        """Returns when the cluster is ready. A failed start leaves nothing running."""
        with self._use() as handle:
            _call("orc_cluster_start", handle)
        return self

    def stop(self) -> None:
        """Ends the servers; pods run on and are adopted by the next start."""
        with self._use() as handle:
            _library().orc_cluster_stop(handle)

    def down(self, timeout: float = 60.0) -> None:
        """Ends the pods and takes everything of the instance off the machine; the data stay."""
        with self._use() as handle:
            _call("orc_cluster_down", handle, _ms(timeout))

    @property
    def info(self) -> Dict[str, Any]:
        """api_address, kubeconfig, ingress_address, isolation, ready_ms, ..."""
        answer = _Bytes()
        with self._use() as handle:
            _call("orc_cluster_info", handle, byref(answer))
        return json.loads(_take(answer))

    def metrics(self, accept: str = "") -> str:
        """The page of /metrics: Prometheus text, or OpenMetrics where the Accept header asks for it."""
        answer = _Bytes()
        with self._use() as handle:
            _call("orc_cluster_metrics", handle, accept.encode(), byref(answer))
        return _take(answer).decode()

    def client(self) -> "Client":
        out = c_void_p()
        with self._use() as handle:
            _call("orc_cluster_client", handle, byref(out))
        return Client(out, self)

    def close(self) -> None:
        super().close()
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def __enter__(self) -> "Cluster":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise


# --- store ----------------------------------------------------------------------------------------------------
class Store(_Handle):
    """Keys and values with one revision. Made by MemoryStore or RaftStore."""

    _free = "orc_store_free"

    def put(self, key: Text, value: Text, *, if_mod_revision: Optional[int] = None, timeout: float = 30.0) -> int:
        """The revision of the write. if_mod_revision: Conflict unless the key is at it; 0: must not exist."""
        key, value, revision = _bytes(key), _bytes(value), c_int64()
        expected = -1 if if_mod_revision is None else if_mod_revision
        with self._use() as handle:
            _call("orc_store_put", handle, key, len(key), value, len(value), expected, _ms(timeout), byref(revision))
        return revision.value

    def get(self, key: Text, *, timeout: float = 30.0) -> bytes:
        """The value; NotFound if there is no such key."""
        return self.get_with_revision(key, timeout=timeout)[0]

    def get_with_revision(self, key: Text, *, timeout: float = 30.0) -> Tuple[bytes, int]:
        key, answer, revision = _bytes(key), _Bytes(), c_int64()
        with self._use() as handle:
            _call("orc_store_get", handle, key, len(key), _ms(timeout), byref(answer), byref(revision))
        return _take(answer), revision.value

    def remove(self, key: Text, *, timeout: float = 30.0) -> bool:
        """Whether the key was there."""
        key, removed = _bytes(key), c_uint64()
        with self._use() as handle:
            _call("orc_store_remove", handle, key, len(key), _ms(timeout), byref(removed))
        return removed.value != 0

    def txn(self, text: str, *, timeout: float = 30.0) -> Dict[str, Any]:
        """A transaction in lines, as `orchestra store txn` reads them: `if mod KEY = 7`, `put KEY VALUE [lease=ID]`,
        `get KEY`, `del KEY`, `else`, `txn` ... `end`. succeeded, revision, and ops with their kvs (key and value as
        bytes) or, of a transaction within it, its succeeded and ops."""
        answer = _Bytes()
        with self._use() as handle:
            _call("orc_store_txn", handle, text.encode(), _ms(timeout), byref(answer))
        result = json.loads(_take(answer))

        def decode(ops: List[Dict[str, Any]]) -> None:
            for operation in ops:
                for kv in operation.get("kvs", []):
                    kv["key"], kv["value"] = base64.b64decode(kv["key"]), base64.b64decode(kv.get("value", ""))
                decode(operation.get("ops", []))

        decode(result["ops"])
        return result

    def grant_lease(self, ttl: int, *, timeout: float = 30.0) -> int:
        """Keys put with the lease (`put KEY VALUE lease=ID` of txn) go `ttl` seconds after it was kept alive last."""
        lease = c_int64()
        with self._use() as handle:
            _call("orc_store_lease_grant", handle, ttl, _ms(timeout), byref(lease))
        return lease.value

    def keep_lease_alive(self, lease: int, *, timeout: float = 30.0) -> None:
        with self._use() as handle:
            _call("orc_store_lease_keep_alive", handle, lease, _ms(timeout))

    def revoke_lease(self, lease: int, *, timeout: float = 30.0) -> None:
        """Removes its keys in one revision."""
        with self._use() as handle:
            _call("orc_store_lease_revoke", handle, lease, _ms(timeout))

    def range(self, prefix: Text = b"", *, limit: int = 0, timeout: float = 30.0) -> List[Tuple[bytes, bytes, int]]:
        """(key, value, mod_revision) of all keys with the prefix, in order; `limit` 0 = all."""
        items: List[Tuple[bytes, bytes, int]] = []

        def each(_user: Any, key: int, key_size: int, value: int, value_size: int, revision: int) -> int:
            items.append((ctypes.string_at(key, key_size), ctypes.string_at(value, value_size) if value_size else b"", revision))
            return 0

        prefix = _bytes(prefix)
        with self._use() as handle:
            _call("orc_store_range", handle, prefix, len(prefix), limit, _ms(timeout), _StoreEach(each), None)
        return items

    def watch(self, prefix: Text = b"", *, after: int = 0, timeout: Optional[float] = None) -> "StoreWatch":
        """Changes after the revision `after` (0: from now on); the iteration ends after `timeout` seconds."""
        prefix, out = _bytes(prefix), c_void_p()
        with self._use() as handle:
            _call("orc_store_watch_new", handle, prefix, len(prefix), after, byref(out))
        return StoreWatch(out, self, timeout)


class MemoryStore(Store):
    """A store that ends with the process."""

    def __init__(self, engine: Engine) -> None:
        out = c_void_p()
        with engine._use() as handle:
            _call("orc_store_memory", handle, byref(out))
        super().__init__(out, engine)


class RaftStore(Store):
    """One peer on disk. Busy names the process that holds the folder, Corrupt file and offset."""

    def __init__(self, engine: Engine, data_dir: Union[str, os.PathLike]) -> None:
        out = c_void_p()
        with engine._use() as handle:
            _call("orc_store_open", handle, os.fsencode(data_dir), byref(out))
        super().__init__(out, engine)


# --- streams --------------------------------------------------------------------------------------------------
class _Stream(_Handle):
    """What the two watches share: `for`, `async for`, next(), fileno(). It waits on the eventfd of the watch, so
    that signals, asyncio and close() from another thread all end a wait."""

    _fd = ""

    def __init__(self, handle: c_void_p, parent: _Handle, timeout: Optional[float]) -> None:
        super().__init__(handle, parent)
        self._descriptor: int = getattr(_library(), self._fd)(handle)
        self._ends_at = None if timeout is None else time.monotonic() + timeout
        self._buffer: Deque[Any] = collections.deque()

    def fileno(self) -> int:
        """Readable when there is something (select, asyncio); -1 after close()."""
        return -1 if self._closed else self._descriptor

    def _wake(self) -> None:
        os.write(self._descriptor, (1).to_bytes(8, "little"))

    def _pull(self, handle: c_void_p) -> List[Any]:
        """The batch that is there now; DeadlineExceeded if there is none."""
        raise NotImplementedError

    def _poll(self) -> bool:
        """Fills the buffer with what is there now."""
        if self._buffer:
            return True
        with self._use() as handle:
            try:
                self._buffer.extend(self._pull(handle))
            except DeadlineExceeded:
                pass
        return bool(self._buffer)

    def next(self, timeout: Optional[float] = None) -> Any:
        """The next event; DeadlineExceeded if none came in `timeout` seconds, Expired: list again."""
        ends_at = None if timeout is None else time.monotonic() + timeout
        with self._use():
            ready = select.poll()
            ready.register(self._descriptor, select.POLLIN)
            while not self._poll():
                if self._closed:  # while _poll ran: it may have taken the wake of close() off the eventfd
                    raise Invalid(f"this {type(self).__name__} is closed")
                left = None if ends_at is None else ends_at - time.monotonic()
                if left is not None and left <= 0:
                    raise DeadlineExceeded(f"no event came in {timeout} s")
                ready.poll(None if left is None else left * 1000 + 1)
        return self._buffer.popleft()

    def _left(self) -> Optional[float]:
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._closed:
            raise StopIteration
        try:
            return self.next(self._left())
        except DeadlineExceeded:
            raise StopIteration from None
        except Invalid:
            if self._closed:  # by another thread, while this one waited
                raise StopIteration from None
            raise

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            while not self._poll():
                if not await self._readable(self._left()):
                    raise StopAsyncIteration
        except Invalid:
            if self._closed:
                raise StopAsyncIteration from None
            raise
        return self._buffer.popleft()

    async def _readable(self, seconds: Optional[float]) -> bool:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        # A copy: close() in between wakes this wait, and leaves no reused number with the loop.
        with self._use():
            descriptor = os.dup(self._descriptor)
        loop.add_reader(descriptor, lambda: ready.done() or ready.set_result(None))
        try:
            await asyncio.wait_for(ready, seconds)
            return True
        except asyncio.TimeoutError:
            return False
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


class StoreWatch(_Stream):
    """StoreEvents in the order of their revisions."""

    _free, _fd = "orc_store_watch_free", "orc_store_watch_fd"

    def _pull(self, handle: c_void_p) -> List[StoreEvent]:
        batch: List[StoreEvent] = []

        def on_event(_user: Any, pointer: Any) -> None:
            event = pointer.contents
            value = ctypes.string_at(event.value, event.value_size) if event.value_size else b""
            batch.append(StoreEvent(bool(event.removed), ctypes.string_at(event.key, event.key_size), value, event.revision))

        _call("orc_store_watch_next", handle, 0, _OnEvent(on_event), None)
        return batch


class Watch(_Stream):
    """Events of API objects: {"type": "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK", "object": {...}}."""

    _free, _fd = "orc_watch_free", "orc_watch_fd"

    def _pull(self, handle: c_void_p) -> List[Event]:
        answer = _Bytes()
        _call("orc_watch_next", handle, 0, byref(answer))
        return json.loads(_take(answer))


class Informer(_Stream):
    """A current copy of the objects of one resource. Reads do not ask the server; get(), list(), find() may be called at
    any time, wait_synced() says when the first list is there.

    The iteration tells changes: {"type": "ADDED" | "MODIFIED" | "DELETED", "object": {...}, "old": {...} when modified}.
    What happened to an object between two turns is one change; nobody has to iterate.
    """

    _free, _fd = "orc_informer_free", "orc_informer_fd"

    def _pull(self, handle: c_void_p) -> List[Event]:
        answer = _Bytes()
        _call("orc_informer_next", handle, 0, byref(answer))
        return json.loads(_take(answer))

    def wait_synced(self, timeout: float = 30.0) -> "Informer":
        """Returns when the first list is there; DeadlineExceeded says what hindered it."""
        with self._use() as handle:
            _call("orc_informer_wait_synced", handle, _ms(timeout))
        return self

    def wait_for(self, resource_version: str, timeout: float = 30.0) -> None:
        """Returns when everything up to that version is there: what you wrote, you read."""
        with self._use() as handle:
            _call("orc_informer_wait_for", handle, resource_version.encode(), _ms(timeout))

    def get(self, name: str, namespace: Optional[str] = None) -> Object:
        """NotFound if there is none. namespace None: cluster scope."""
        answer = _Bytes()
        with self._use() as handle:
            _call("orc_informer_get", handle, _encoded(namespace), name.encode(), byref(answer))
        return json.loads(_take(answer))

    def list(self, namespace: Optional[str] = None, *, labels: Optional[str] = None) -> List[Object]:
        """In the order of namespace and name. namespace None: all."""
        return self._each("orc_informer_list", _encoded(namespace), _encoded(labels))

    def find(self, index: str, value: str) -> List[Object]:
        """By the index "owner" (the UID of an owner) or "node" (spec.nodeName)."""
        return self._each("orc_informer_find", index.encode(), value.encode())

    def _each(self, function: str, *arguments: Optional[bytes]) -> List[Object]:
        texts: List[bytes] = []

        def each(_user: Any, text: int, size: int) -> int:
            texts.append(ctypes.string_at(text, size))
            return 0

        with self._use() as handle:
            _call(function, handle, *arguments, _InformerEach(each), None)
        return [json.loads(text) for text in texts]

    def resync(self) -> None:
        """Tells all objects once more, as MODIFIED with themselves as "old"."""
        with self._use() as handle:
            _call("orc_informer_resync", handle)

    @property
    def last_error(self) -> str:
        """Why list or watch fail at present; empty when all is well."""
        answer = _Bytes()
        with self._use() as handle:
            _call("orc_informer_last_error", handle, byref(answer))
        return _take(answer).decode("utf-8", "replace")


_OUT, _ERR, _END = 1, 2, 3


class PodStream(_Stream):
    """Bytes of a pod, piece by piece: a log, or a connection to a port (then also write())."""

    _free, _fd = "orc_stream_free", "orc_stream_fd"

    def _take_piece(self, handle: c_void_p) -> Tuple[int, int, bytes]:
        channel, exit_code, answer = c_int(), c_int(), _Bytes()
        _call("orc_stream_next", handle, 0, byref(channel), byref(exit_code), byref(answer))
        return channel.value, exit_code.value, _take(answer)

    def _piece(self, channel: int, exit_code: int, data: bytes) -> Any:
        return data

    def _pull(self, handle: c_void_p) -> List[Any]:
        channel, exit_code, data = self._take_piece(handle)
        if channel == _END:
            self._finish(exit_code)
            raise EOFError("the stream has ended")
        return [self._piece(channel, exit_code, data)]

    def _finish(self, exit_code: int) -> None:
        """The last piece came."""

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except EOFError:
            raise StopIteration from None

    async def __anext__(self) -> Any:
        try:
            return await super().__anext__()
        except EOFError:
            raise StopAsyncIteration from None

    def write(self, data: Text, *, timeout: float = 30.0) -> None:
        """Returns when the bytes were taken."""
        data = _bytes(data)
        with self._use() as handle:
            _call("orc_stream_write", handle, data, len(data), max(1, _ms(timeout)))

    def close_write(self) -> None:
        """No more input."""
        with self._use() as handle:
            _call("orc_stream_close_write", handle)


class Process(PodStream):
    """A command in a container: (1, data) of its output, (2, data) of its errors; afterwards `exit_code` is set."""

    exit_code: Optional[int] = None

    def _piece(self, channel: int, exit_code: int, data: bytes) -> Any:
        return channel, data

    def _finish(self, exit_code: int) -> None:
        self.exit_code = exit_code

    def resize(self, columns: int, rows: int) -> None:
        """The size of its terminal (tty=True)."""
        with self._use() as handle:
            _call("orc_stream_resize", handle, columns, rows)

    def communicate(self, data: Text = b"") -> Tuple[bytes, bytes]:
        """Writes all input, reads to the end: output and errors. `exit_code` is set then."""

        def feed() -> None:
            with contextlib.suppress(OrchestraError):  # the command may end without reading it
                if data:
                    self.write(data)
                self.close_write()

        # Beside the reading: a command that answers while it reads would wait for us for ever.
        feeder = threading.Thread(target=feed)
        feeder.start()
        pieces = list(self)
        feeder.join()
        return tuple(b"".join(data for channel, data in pieces if channel == wanted) for wanted in (_OUT, _ERR))  # type: ignore


# --- API ------------------------------------------------------------------------------------------------------
_PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
Body = Union[Object, List[Any], str, bytes, None]


def _body(body: Body) -> Optional[bytes]:
    if body is None or isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _encoded(text: Optional[str]) -> Optional[bytes]:
    return None if text is None else text.encode()


class Client(_Handle):
    """Requests on the API, by the same pipeline as over HTTPS. An error status raises with its Status object.

    `namespace` None: cluster scope, or all namespaces for lists and watches. Made by Cluster.client() and
    ApiServer.client().
    """

    _free = "orc_client_free"

    @classmethod
    def connect(cls, engine: Engine, kubeconfig: Union[str, os.PathLike], *, context: Optional[str] = None) -> "Client":
        """A client over HTTPS, of any Kubernetes."""
        out = c_void_p()
        with engine._use() as handle:
            _call("orc_client_connect", handle, os.fspath(kubeconfig).encode(), _encoded(context), byref(out))
        return cls(out, engine)

    @property
    def _engine(self) -> Engine:
        parent: _Handle = self
        while not isinstance(parent, Engine):
            parent = parent._parents[0]
        return parent

    def _stream(self, kind: Any, verb: str, pod: str, namespace: str, options: Mapping[str, Any], timeout: Optional[float]) -> Any:
        given = {key: value for key, value in options.items() if value not in (None, False)}
        request = self._request_of(verb, "v1", "pods", pod, namespace, None, None, given, None, 30.0)
        out = c_void_p()
        with self._use() as handle:
            _call("orc_client_stream", handle, byref(request), byref(out))
        return kind(out, self, timeout)

    def logs(self, pod: str, namespace: str = "default", *, container: Optional[str] = None, follow: bool = False,
             previous: bool = False, timestamps: bool = False, since_seconds: Optional[int] = None,
             tail_lines: Optional[int] = None, timeout: Optional[float] = None) -> PodStream:
        """The log as pieces of bytes, for `for` and `async for`; not cut at lines."""
        options = {"container": container, "follow": follow, "previous": previous, "timestamps": timestamps,
                   "sinceSeconds": since_seconds, "tailLines": tail_lines}
        return self._stream(PodStream, "log", pod, namespace, options, timeout)

    def exec(self, pod: str, command: List[str], namespace: str = "default", *, container: Optional[str] = None,
             stdin: bool = False, tty: bool = False, timeout: Optional[float] = None) -> Process:
        """Starts a command. With `stdin` it reads what write() gives it, until close_write()."""
        options = {"container": container, "command": list(command), "stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
        return self._stream(Process, "exec", pod, namespace, options, timeout)

    def attach(self, pod: str, namespace: str = "default", *, container: Optional[str] = None, stdin: bool = False,
               tty: bool = False, timeout: Optional[float] = None) -> Process:
        """Joins the main process of a container."""
        options = {"container": container, "stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
        return self._stream(Process, "attach", pod, namespace, options, timeout)

    def port_forward(self, pod: str, port: int, namespace: str = "default", *, timeout: Optional[float] = None) -> PodStream:
        """One connection to a port of the pod."""
        return self._stream(PodStream, "portforward", pod, namespace, {"ports": [port]}, timeout)

    @staticmethod
    def _request_of(verb: str, api_version: Optional[str], resource: Optional[str], name: Optional[str],
                    namespace: Optional[str], subresource: Optional[str], query: Optional[Mapping[str, Any]],
                    body: Body, content_type: Optional[str], timeout: float) -> _Request:
        parameters = {key: value for key, value in (query or {}).items() if value not in (None, "", False)}
        parameters = {key: "true" if value is True else value for key, value in parameters.items()}
        data = _body(body)
        return _Request(ctypes.sizeof(_Request), verb.encode(), _encoded(api_version), _encoded(resource), _encoded(subresource),
                        _encoded(namespace), _encoded(name), urlencode(parameters).encode() or None, _encoded(content_type),
                        data, len(data or b""), max(1, _ms(timeout)))

    def request(self, verb: str, api_version: Optional[str] = None, resource: Optional[str] = None,
                name: Optional[str] = None, namespace: Optional[str] = None, *, subresource: Optional[str] = None,
                query: Optional[Mapping[str, Any]] = None, body: Body = None, content_type: Optional[str] = None,
                timeout: float = 30.0) -> Object:
        """Any request: get list create update patch delete deletecollection. The answer's object or list."""
        request = self._request_of(verb, api_version, resource, name, namespace, subresource, query, body, content_type, timeout)
        answer = _Bytes()
        with self._use() as handle:
            _call("orc_client_request", handle, byref(request), byref(answer))
        text = _take(answer)
        return json.loads(text) if text else {}

    def create(self, obj: Body, *, dry_run: bool = False, field_manager: Optional[str] = None,
               timeout: float = 30.0) -> Object:
        """Resource and namespace come from the object: a dict, or its JSON."""
        query = {"dryRun": "All" if dry_run else None, "fieldManager": field_manager}
        return self.request("create", body=obj, query=query, timeout=timeout)

    def get(self, api_version: str, resource: str, name: str, namespace: Optional[str] = None, *,
            timeout: float = 30.0) -> Object:
        return self.request("get", api_version, resource, name, namespace, timeout=timeout)

    def list(self, api_version: str, resource: str, namespace: Optional[str] = None, *, labels: Optional[str] = None,
             fields: Optional[str] = None, limit: int = 0, continue_token: Optional[str] = None,
             timeout: float = 30.0) -> Object:
        """The list object: "items", and in "metadata" resourceVersion and continue."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": limit or None, "continue": continue_token}
        return self.request("list", api_version, resource, None, namespace, query=query, timeout=timeout)

    def update(self, obj: Body, *, subresource: Optional[str] = None, timeout: float = 30.0) -> Object:
        """Replaces; a resourceVersion in the object is the precondition (Conflict)."""
        return self.request("update", subresource=subresource, body=obj, timeout=timeout)

    def patch(self, api_version: str, resource: str, name: str, patch: Body, namespace: Optional[str] = None, *,
              type: str = "merge", subresource: Optional[str] = None, field_manager: Optional[str] = None,
              force: bool = False, timeout: float = 30.0) -> Object:
        """type: merge, json, strategic, or apply (server-side, needs field_manager)."""
        if type not in _PATCHES:
            raise Invalid(f"patch type {type!r} does not exist; there are {', '.join(_PATCHES)}")
        query = {"fieldManager": field_manager, "force": force}
        return self.request("patch", api_version, resource, name, namespace, subresource=subresource, query=query,
                            body=patch, content_type=_PATCHES[type], timeout=timeout)

    def delete(self, api_version: str, resource: str, name: str, namespace: Optional[str] = None, *,
               grace_period_seconds: Optional[int] = None, propagation: Optional[str] = None,
               timeout: float = 30.0) -> Object:
        """propagation: Background, Foreground or Orphan. The answer: a Status, or the object that is ending."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        return self.request("delete", api_version, resource, name, namespace, body=options, timeout=timeout)

    @overload
    def apply(self, obj: Object, *, manager: str = ..., force: bool = ..., dry_run: bool = ..., timeout: float = ...) -> Object: ...

    @overload
    def apply(self, obj: Text, *, manager: str = ..., force: bool = ..., dry_run: bool = ..., timeout: float = ...) -> int: ...

    def apply(self, obj: Union[Object, Text], *, manager: str = "orchestra-python", force: bool = False,
              dry_run: bool = False, timeout: float = 30.0) -> Union[Object, int]:
        """Server-side apply: `manager` owns the fields that are given, and gives up those that it does not name any more.
        Conflict where another manager owns one with another value, unless `force` takes it.

        A dict: the object as it is now. A YAML or JSON text: how many documents it has, which are applied in order up to the
        first failure."""
        text, applied, answer = _body(obj) or b"", c_size_t(), _Bytes()
        options = _ApplyOptions(ctypes.sizeof(_ApplyOptions), manager.encode(), force, dry_run, max(1, _ms(timeout)))
        with self._use() as handle:
            _call("orc_client_apply", handle, text, len(text), byref(options), byref(answer), byref(applied))
        objects = json.loads(_take(answer))
        return objects[0] if isinstance(obj, dict) else len(objects)

    def informer(self, api_version: str, resource: str, namespace: Optional[str] = None, *, labels: Optional[str] = None,
                 fields: Optional[str] = None, resync: float = 0.0, timeout: Optional[float] = None) -> Informer:
        """A current copy of these objects. `resync`: every so many seconds all are told once more; `timeout` ends the
        iteration."""
        options = _InformerOptions(ctypes.sizeof(_InformerOptions), api_version.encode(), resource.encode(), _encoded(namespace),
                                   _encoded(labels), _encoded(fields), _ms(resync), None, None)
        out = c_void_p()
        with self._engine._use() as engine, self._use() as handle:
            _call("orc_informer_new", engine, handle, byref(options), byref(out))
        return Informer(out, self, timeout)

    def watch(self, api_version: str, resource: str, namespace: Optional[str] = None, *, labels: Optional[str] = None,
              fields: Optional[str] = None, resource_version: Optional[str] = None,
              timeout: Optional[float] = None) -> Watch:
        """For `for` and `async for`. Without resource_version it starts with what exists, as ADDED. The iteration
        ends after `timeout` seconds, and raises Expired when the caller must list again."""
        query = {"labelSelector": labels, "fieldSelector": fields, "resourceVersion": resource_version}
        request = self._request_of("watch", api_version, resource, None, namespace, None, query, None, None, 30.0)
        out = c_void_p()
        with self._use() as handle:
            _call("orc_client_watch", handle, byref(request), byref(out))
        return Watch(out, self, timeout)


class ApiServer(_Handle):
    """A Kubernetes-compatible API over a store; without `listen` in this process only. `with` starts it."""

    _free = "orc_api_server_free"

    def __init__(self, engine: Engine, store: Store, *, listen: Optional[str] = None, insecure_http: Optional[str] = None,
                 data_directory: Union[str, os.PathLike, None] = None, service_cidr: Optional[str] = None) -> None:
        options = {"listen": listen, "insecure_http": insecure_http, "data_directory": data_directory, "service_cidr": service_cidr}
        out = c_void_p()
        with engine._use() as engine_handle, store._use() as store_handle:
            _call("orc_api_server_new", engine_handle, store_handle, _options(options), byref(out))
        super().__init__(out, engine, store)

    def start(self) -> "ApiServer":
        with self._use() as handle:
            _call("orc_api_server_start", handle)
        return self

    def stop(self) -> None:
        with self._use() as handle:
            _library().orc_api_server_stop(handle)

    def client(self) -> Client:
        out = c_void_p()
        with self._use() as handle:
            _call("orc_api_server_client", handle, byref(out))
        return Client(out, self)

    def kubeconfig(self) -> str:
        """With the administrator's client certificate."""
        answer = _Bytes()
        with self._use() as handle:
            _call("orc_api_server_kubeconfig", handle, byref(answer))
        return _take(answer).decode()

    def metrics(self, accept: str = "") -> str:
        """As Cluster.metrics()."""
        answer = _Bytes()
        with self._use() as handle:
            _call("orc_api_server_metrics", handle, accept.encode(), byref(answer))
        return _take(answer).decode()

    def __enter__(self) -> "ApiServer":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise


class Node(_Handle):
    """Runs the pods that a control plane gives it. `with` starts it; pods outlive it until down()."""

    _free = "orc_node_free"

    def __init__(self, engine: Engine, client: Client, *, data_dir: Union[str, os.PathLike], node_name: Optional[str] = None,
                 isolation: Optional[str] = None, pod_cidr: Optional[str] = None, service_cidr: Optional[str] = None,
                 pod_network: Optional[str] = None, dns: Optional[str] = None, ingress: Optional[str] = None,
                 preload: Optional[List[str]] = None, dns_forward: Optional[List[str]] = None) -> None:
        options = {"data_dir": data_dir, "node_name": node_name, "isolation": isolation, "pod_cidr": pod_cidr,
                   "service_cidr": service_cidr, "pod_network": pod_network, "dns": dns, "ingress": ingress,
                   "preload": preload, "dns_forward": dns_forward}
        out = c_void_p()
        with engine._use() as engine_handle, client._use() as client_handle:
            _call("orc_node_new", engine_handle, client_handle, _options(options), byref(out))
        super().__init__(out, engine, client)

    def start(self) -> "Node":
        with self._use() as handle:
            _call("orc_node_start", handle)
        return self

    def stop(self) -> None:
        with self._use() as handle:
            _library().orc_node_stop(handle)

    def down(self, timeout: float = 60.0) -> None:
        """Ends the pods of this node and takes everything of it off the machine."""
        with self._use() as handle:
            _call("orc_node_down", handle, _ms(timeout))

    def __enter__(self) -> "Node":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise
