"""Raw calls into the kernel that Python's standard library does not offer."""

# Without the module on top of it, whose enumerations would be copied with every process that is forked.
import _socket
import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
# Made once: forked processes pay for every page that they touch.
_capability_header, _capabilities = (ctypes.c_uint * 2)(0x20080522, 0), (ctypes.c_uint * 6)()  # version 3
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def syscall(what: str, number: int, *arguments) -> int:
    """Plain ints are passed as C longs."""
    converted = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return checked(_libc.syscall(ctypes.c_long(number), *converted), what)


def prctl(what: str, option: int, first: int = 0, second: int = 0) -> int:
    return checked(_libc.prctl(option, first, second, 0, 0), what)


def unshare(flags: int) -> None:
    checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, data)]
    result = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    checked(result, f"mount {target}")


def unmount(target: str) -> None:
    detach = 2
    checked(_libc.umount2(target.encode(), ctypes.c_int(detach)), f"umount {target}")


def set_host_name(name: str) -> None:
    checked(_libc.sethostname(name.encode(), len(name)), "sethostname")


def receive(control: _socket.socket, size: int) -> tuple[bytes, list[int]]:
    """A packet and the descriptors that came with it."""
    packet, ancillary, _, _ = control.recvmsg(size, _socket.CMSG_SPACE(4 * 4))
    return packet, [number for _, _, data in ancillary for number in memoryview(data).cast("i")]


def cpu_clock(pid: int) -> int:
    """The number of a process's CPU clock, for clock_gettime; the kernel derives it from the pid."""
    return (~pid << 3) | 2


def drop_capabilities(kept: int = 0) -> None:
    """Keep only those of the bits in ``kept`` that are held."""
    checked(_libc.capget(_capability_header, _capabilities), "capget")
    kept &= _capabilities[1]
    _capabilities[:] = [kept, kept, 0, 0, 0, 0]
    checked(_libc.capset(_capability_header, _capabilities), "capset")


def sock_filter(program: bytes):
    """The ``struct sock_fprog`` for a BPF program, and its address."""

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))

    held = ctypes.create_string_buffer(program, len(program))
    described = Filter(len(program) // 8, ctypes.addressof(held))
    return (held, described), ctypes.addressof(described)
