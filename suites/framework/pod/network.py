"""The network that an engine and its pods live in: a network namespace of the engine's own (layer 1).

Its loopback is not the machine's, so nobody else reaches its streaming server, and what its plugins make for pods
(veth(4), routes) goes with it: no interface, no rule and no file of that is ever the machine's.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from suites.framework import process

UP = "import fcntl,socket,struct;fcntl.ioctl(socket.socket(),0x8914,struct.pack('16sh22x',b'lo',1))"
"""Sets loopback up: SIOCSIFFLAGS with IFF_UP (netdevice(7)); a machine need not have ip(8)."""
STATE = "/var/lib/cni"
"""Where libcni keeps results, whatever it is told (containernetworking/cni, libcni/api.go, CacheDir)."""
HIDDEN = (
    f"if [ -d {STATE} ]; then mount -t tmpfs -o mode=755,nosuid,nodev seatrial {STATE}; "
    "else mkdir -p /run/lib/upper /run/lib/work && "
    "mount -t overlay -o lowerdir=/var/lib,upperdir=/run/lib/upper,workdir=/run/lib/work seatrial /var/lib && "
    f"mkdir -p {STATE}; fi"
)
"""Has what is written there be the engine's own, in a mount namespace and a /run of its own."""
NEEDED = ("loopback", "ptp", "host-local")
"""Plugins: the engine's own use of the first, the two ends of a pod's interface, and their addresses."""
VERSION = "0.4.0"
"""Of the interface to plugins (containernetworking/cni, SPEC.md): older than any that is still about."""
FILE = "10-seatrial.conflist"
_SUBNET = "10.88.0.0/16"
START_S = 5.0
"""What the helper gets to be there."""
_CARRIED = 3
_SERVE = """import socket
ours = socket.socket(fileno=3)
while asked := ours.recv(512).decode().split():
    try:
        made = socket.create_connection((asked[0], int(asked[1])), float(asked[2]))
    except OSError as error:
        ours.sendall(str(error.errno or 110).encode())
    else:
        socket.send_fds(ours, [b"0"], [made.fileno()])
        made.close()
"""
"""Connects where it is and hands the connections over, until nobody can ask any more."""


def configuration(folder: Path) -> str:
    """Return the list of plugins for pods; what they remember is kept below `folder`.

    A pair of interfaces for each pod, which is removed with it, and no address translation, so no rules.
    """
    addresses = {"type": "host-local", "subnet": _SUBNET, "dataDir": str(folder)}
    return json.dumps({"cniVersion": VERSION, "name": "seatrial", "plugins": [{"type": "ptp", "ipam": addresses}]})


class Door:
    """A helper in an engine's namespaces that connects there for us; `close` it.

    It is a process, because one that has threads cannot enter a user namespace (setns(2)).
    """

    def __init__(self, *, front: Sequence[str], python: str, fds: Mapping[int, int]) -> None:
        """Start it behind the words `front`, which enter those namespaces and are given the descriptors `fds`."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            words = (*front, python, "-I", "-S", "-c", _SERVE)
            self._child = process.spawn(words, environment={}, fds={_CARRIED: theirs.fileno(), **fds})

    def connect(self, host: str, port: int, seconds: float) -> socket.socket:
        """Have a connection to a port there; TimeoutError past the time, another OSError where it is refused.

        One who does not answer in time is asked no more: his late answer would be taken for the next one.
        """
        with self._lock:
            self._ours.settimeout(seconds + START_S)
            try:
                self._ours.sendall(f"{host} {port} {seconds}".encode())
                said, carried, _, _ = socket.recv_fds(self._ours, 16, 1)
            except TimeoutError:
                self._ours.close()
                raise
        if carried:
            return socket.socket(fileno=carried[0])
        number = int(said or errno.ECONNABORTED)
        raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """End it; safe to repeat."""
        self._ours.close()
        self._child.kill()


def interfaces(pid: int) -> Iterator[str]:
    """Yield the interfaces of a process's network, loopback left out (proc_pid_net(5))."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    yield from (name for name in (line.partition(":")[0].strip() for line in lines) if name != "lo")
