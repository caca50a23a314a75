"""Short programs that try an interface of the kernel for which Python has no function (layer 1: text alone).

Each exits with 0 where the kernel does what is asked, and otherwise says which call failed. The numbers of system
calls since 5.1 are the same on every machine; where an older one is needed, the machine is looked up.
"""

from __future__ import annotations

_START = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def check(name, result):
    if result < 0:
        sys.exit(f"{name}: {os.strerror(ctypes.get_errno())}")
    return result
"""

MOUNT_ATTRIBUTES = f"""{_START}
path = sys.argv[1].encode()
check("mount", libc.mount(path, path, b"", ctypes.c_ulong(4096), None))
attributes = struct.pack("4Q", 1, 0, 0, 0)
check("mount_setattr", libc.syscall(442, -100, path, 0x8000, attributes, len(attributes)))
"""
"""Make a bind mount read-only, recursively (mount_setattr(2)); in a mount namespace of its own."""

IDMAPPED_MOUNT = f"""{_START}
ready, go = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    os.close(go[1])
    os.write(ready[1], b"1" if libc.unshare(0x10000000) == 0 else b"0")
    os.read(go[0], 1)
    os._exit(0)
try:
    if os.read(ready[0], 1) != b"1":
        sys.exit("unshare: no user namespace")
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{{pid}}/{{name}}", "w") as file:
            file.write("0 5000 10")
    users = os.open(f"/proc/{{pid}}/ns/user", os.O_RDONLY)
    tree = check("open_tree", libc.syscall(428, -100, sys.argv[1].encode(), 1))
    attributes = struct.pack("4Q", 0x100000, 0, 0, users)
    check("mount_setattr", libc.syscall(442, tree, b"", 0x1000, attributes, len(attributes)))
finally:
    os.close(go[1])
    os.waitpid(pid, 0)
"""
"""Map the owners of a mount of the folder given (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

SECCOMP = f"""{_START}
if libc.prctl(22, 2, None, 0, 0) == 0 or ctypes.get_errno() != 14:
    sys.exit(f"prctl: {{os.strerror(ctypes.get_errno())}}")
"""
"""Offer a filter at no address: a kernel that has filters looks for it there (seccomp(2), EFAULT)."""

DEVICE_PROGRAM = f"""{_START}
number = {{"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}}.get(os.uname().machine, -1)
program = ctypes.create_string_buffer(bytes.fromhex("b700000001000000" "9500000000000000"))
text = ctypes.create_string_buffer(b"GPL")
attributes = ctypes.create_string_buffer(
    struct.pack("IIQQ", 15, 2, ctypes.addressof(program), ctypes.addressof(text)), 128
)
check("bpf", libc.syscall(number, 5, attributes, 128))
"""
"""Load a program that allows every device (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE): what denies them in version 2."""
