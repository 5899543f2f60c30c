# Runs the program of file descriptor 3 behind walls, and writes the word it was
# given to descriptor 4 if the program came to its end. Exit codes: 0 the program
# ended, 1 it failed, 97 a wall could not be put up (reason on standard error).
# Arguments: word, working folder, home, CPU seconds, memory bytes, file bytes.


def _main():
    import ctypes
    import os
    import platform
    import resource
    import sys

    word, work, home, cpu, memory, files = sys.argv[1:]
    del sys.argv[1:]
    sys.orig_argv = []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def need(what, result):
        if result != 0:
            e = ctypes.get_errno()
            raise OSError(e, "%s: %s" % (what, os.strerror(e)))

    def mount(source, target, kind, flags, data=None):
        need(
            "mount " + target,
            libc.mount(
                source.encode(),
                target.encode(),
                kind.encode() if kind else None,
                ctypes.c_ulong(flags),
                data.encode() if data else None,
            ),
        )

    class Attr(ctypes.Structure):  # struct mount_attr, linux/mount.h
        _fields_ = [(n, ctypes.c_uint64) for n in ("set", "clear", "propagation", "userns")]

    def setattr_(target, recursive, **attr):
        a = Attr(**attr)
        call = 442  # mount_setattr, the same number on every architecture
        flags = 0x8000 if recursive else 0  # AT_RECURSIVE
        need("mount_setattr " + target, libc.syscall(call, -100, target.encode(), flags, ctypes.byref(a), 32))

    def walls():
        # Mounts: MS_REC|MS_PRIVATE; a /dev of five harmless devices, made in the
        # working folder and moved; then empty folders over what is hidden.
        mount("none", "/", None, 0x4000 | 0x40000)
        mount("tmpfs", work, "tmpfs", 2 | 8, "size=1m,mode=755")  # MS_NOSUID|MS_NOEXEC
        for device in ("null", "zero", "full", "random", "urandom"):
            if not os.path.exists("/dev/" + device):
                continue
            with open(os.path.join(work, device), "x"):
                pass
            mount("/dev/" + device, os.path.join(work, device), None, 0x1000)  # MS_BIND
        mount(work, "/dev", None, 0x2000)  # MS_MOVE
        kept = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))] + sys.path
        kept = [os.path.realpath(p) for p in kept if p]
        nosuid_nodev_noexec = 2 | 4 | 8
        for hide in ("/proc", "/tmp", "/var/tmp", "/run", home):
            hide = os.path.realpath(hide) if hide else ""
            if len(hide) < 2 or not os.path.isdir(hide):
                continue
            if any(k == hide or k.startswith(hide + "/") for k in kept):
                continue  # Python itself lies there
            mount("tmpfs", hide, "tmpfs", nosuid_nodev_noexec, "size=1m,mode=755")
        os.makedirs(work, exist_ok=True)
        mount("tmpfs", work, "tmpfs", nosuid_nodev_noexec, "size=16m,mode=700")
        rdonly = 1
        setattr_("/", True, set=rdonly)
        setattr_(work, False, clear=rdonly)
        os.chdir(work)

        for what, limit in (
            (resource.RLIMIT_CPU, int(cpu)),
            (resource.RLIMIT_AS, int(memory)),
            (resource.RLIMIT_FSIZE, int(files)),
            (resource.RLIMIT_NOFILE, 64),
            (resource.RLIMIT_NPROC, 0),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(what, (limit, limit))

        # No capabilities (struct __user_cap_header_struct, version 3), none to gain.
        need("no_new_privs", libc.prctl(38, 1, 0, 0, 0))
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        need("capset", libc.capset(header, (ctypes.c_uint32 * 6)()))

        # System calls that are refused with EPERM, by architecture: socket,
        # socketpair, clone, fork, vfork, execve, execveat, ptrace,
        # process_vm_readv, process_vm_writev, mount, umount2, pivot_root,
        # chroot, unshare, setns, bpf, perf_event_open, userfaultfd, add_key,
        # request_key, keyctl, open_by_handle_at, kcmp, personality; and memory
        # that no limit counts: shmget, msgget, memfd_create.
        tables = {
            "x86_64": (0xC000003E, [41, 53, 56, 57, 58, 59, 322, 101, 310, 311, 165, 166, 155,
                                    161, 272, 308, 321, 298, 323, 248, 249, 250, 304, 312, 135,
                                    29, 68, 319]),
            "aarch64": (0xC00000B7, [198, 199, 220, 221, 281, 117, 270, 271, 40, 39, 41,
                                     51, 97, 268, 280, 241, 282, 217, 218, 219, 265, 272, 92,
                                     194, 186, 279]),
        }  # fmt: skip
        arch, refused = tables[platform.machine()]
        # The same numbers everywhere: io_uring_*, open_tree to fspick, pidfd_getfd,
        # mount_setattr.
        refused = refused + [425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442]
        ld, jeq, jge, ret = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
        eperm, enosys, kill, allow = 0x50001, 0x50026, 0x80000000, 0x7FFF0000
        code = [(ld, 0, 0, 4), (jeq, 1, 0, arch), (ret, 0, 0, kill), (ld, 0, 0, 0)]
        if arch == 0xC000003E:  # no x32 calls
            code += [(jge, 0, 1, 0x40000000), (ret, 0, 0, kill)]
        code += [(jeq, 0, 1, 435), (ret, 0, 0, enosys)]  # clone3
        for nr in refused:
            code += [(jeq, 0, 1, nr), (ret, 0, 0, eperm)]
        code += [(ret, 0, 0, allow)]

        class Filter(ctypes.Structure):  # struct sock_filter
            _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]

        class Prog(ctypes.Structure):  # struct sock_fprog
            _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.POINTER(Filter))]

        filters = (Filter * len(code))(*[Filter(*c) for c in code])
        prog = Prog(len(code), filters)
        need("seccomp", libc.prctl(22, 2, ctypes.byref(prog), 0, 0))

    with os.fdopen(3, encoding="utf-8") as f:
        source = f.read()
    try:
        walls()
    except BaseException as e:
        print("%s: %s" % (type(e).__name__, e), file=sys.stderr)
        os._exit(97)

    code = 1
    try:
        exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})
        code = 0
    except BaseException as e:
        try:
            sys.stdout.flush()
            import traceback

            traceback.print_exception(type(e), e, e.__traceback__.tb_next, limit=-4)
        except BaseException:
            print(type(e).__name__, file=sys.stderr)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        pass
    if code == 0:
        os.write(4, word.encode())
    os._exit(code)


_main()
