"""The Container Runtime Interface as functions, over gRPC on a Unix socket (layer 1, + grpcio and protobuf).

The messages are generated from cri.proto beside this file into a folder that a worker is told, so they have no types
that a checker knows. grpcio is imported when a client is made, and by nobody who plans no pods.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

RUNTIME, IMAGES = "runtime.v1.RuntimeService", "runtime.v1.ImageService"
STUBS = "cri_pb2"
"""Name of the generated module."""
LARGEST = 16 << 20
"""Bytes of a message, as the engine sends them (ExecSync)."""
_OF_IMAGES = frozenset({"ImageStatus"})


class Refused(Exception):
    """The engine answered a call with an error: the status code of gRPC by its name, and its own words."""

    def __init__(self, verb: str, code: str, words: str) -> None:
        """Keep what was called and what was answered."""
        self.verb, self.code, self.words = verb, code, words
        super().__init__(f"{verb}: {code}: {words}")


class Client:
    """A connection to an engine; `close` it."""

    def __init__(self, socket: Path, *, stubs: Path) -> None:
        """Prepare a connection to the socket; nothing is sent before the first call."""
        if str(stubs) not in sys.path:
            sys.path.append(str(stubs))
        self._grpc: Any = importlib.import_module("grpc")
        self.types: Any = importlib.import_module(STUBS)
        options = [("grpc.max_receive_message_length", LARGEST), ("grpc.enable_http_proxy", 0)]
        self._channel = self._grpc.insecure_channel(f"unix://{socket}", options=options)
        self._calls: dict[str, Any] = {}

    def ready(self, seconds: float) -> bool:
        """Return whether the engine accepts a connection within so many seconds."""
        try:
            self._grpc.channel_ready_future(self._channel).result(timeout=seconds)
        except self._grpc.FutureTimeoutError:
            return False
        return True

    def call(self, verb: str, *, seconds: float, **fields: Any) -> Any:
        """Call a verb with the fields of its request and return its response; Refused with the engine's words.

        A call that takes longer is given up with code ``DEADLINE_EXCEEDED``.
        """
        request = getattr(self.types, f"{verb}Request")(**fields)
        try:
            return self._method(verb)(request, timeout=seconds)
        except self._grpc.RpcError as error:
            raise Refused(verb, error.code().name, error.details() or "") from None

    def _method(self, verb: str) -> Any:
        if verb not in self._calls:
            service = IMAGES if verb in _OF_IMAGES else RUNTIME
            self._calls[verb] = self._channel.unary_unary(
                f"/{service}/{verb}",
                request_serializer=getattr(self.types, f"{verb}Request").SerializeToString,
                response_deserializer=getattr(self.types, f"{verb}Response").FromString,
            )
        return self._calls[verb]

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        self._channel.close()
