"""The file system that every sandbox sees: a read-only root made once by the zygote, out of binds and a few made files.

/usr /bin /lib* /sbin, the interpreter's folders    the host's, read-only
/etc                                                 names, resolver, certificates; users made here
/dev                                                 null zero full random urandom
/proc                                                each sandbox mounts its own, in part masked
/var/task /tmp /opt                                  empty until a claim fills them
/var/runtime                                         the SDKs that every function finds, where they are installed
/run/lambent/guest                                   programs of ours that run a function; see bootstraps there
PACKAGES                                             every unpacked package; each sandbox detaches it at its claim
MOUNTED                                              folders that functions may have in /mnt; likewise

A sandbox of a container image leaves all this for the image's own at its claim.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Dict, List, Optional

kernel: Any = importlib.import_module("_lambent_kernel")

PACKAGES = "/run/lambent/packages"
GUEST = "/run/lambent/guest"
MOUNTED = "/run/lambent/mounted"

_DEVICES = ("null", "zero", "full", "random", "urandom")
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# What a function has no business with and its user may read. The rest of the kind is closed by its mode already (kcore,
# timer_list, sysrq-trigger on most kernels), and every mount is one more for each sandbox to make.
_MASKED = tuple(
    path
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger")
    if os.path.exists(path) and os.stat(path).st_mode & 0o006
)
_PROC = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC  # the flags of its mounts
_OWN = kernel.MS_NOSUID | kernel.MS_NODEV  # of a function's
_FOUND = ("resolv.conf", "hosts")  # of /etc, in images
_ETC = (
    "ssl",
    "pki",
    "ca-certificates",
    "ca-certificates.conf",
    "resolv.conf",
    "hosts",
    "nsswitch.conf",
    "localtime",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "mime.types",
    "protocols",
    "services",
    "os-release",
)


def enter_user_namespace() -> int:
    """Become root of a user namespace of our own, with a pid namespace that belongs to it. Answers as fork does.

    The pid namespace is needed because children are put into further ones, which only its owner may do.
    """
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
        with open("/proc/self/" + name, "w", encoding="ascii") as file:
            file.write(text)
    kernel.unshare(kernel.CLONE_NEWPID)
    return os.fork()


def enter_root(config: Dict[str, Any]) -> None:
    """Leave the host's file system for the sandboxes' own, for good."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    root = config["staging"]
    kernel.mount("tmpfs", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=8m")
    for folder in (
        "proc", "dev", "tmp", "opt", "etc", "mnt", "var/task", "var/runtime", "run",
        PACKAGES[1:], GUEST[1:], MOUNTED[1:],
    ):  # fmt: skip
        os.makedirs(os.path.join(root, folder), 0o755, exist_ok=True)
    os.symlink(sys.base_prefix, os.path.join(root, "var/lang"))  # where AWS's images have the interpreter
    _system(root, [*config["prefixes"], *config["folders"]])
    kernel.bind(config["guest"], root + GUEST, flags=kernel.MS_NOSUID | kernel.MS_NODEV)
    if config["runtime"]:
        kernel.bind(config["runtime"], root + "/var/runtime", flags=kernel.MS_NOSUID | kernel.MS_NODEV)
        # Modules of Node.js heed no NODE_PATH; they look for packages in every folder upwards.
        os.symlink("/var/runtime/node_modules", root + "/node_modules")
    _etc(root, config["users"])
    for device in _DEVICES:
        target = os.path.join(root, "dev", device)
        _touch(target)
        kernel.bind("/dev/" + device, target, read_only=False)
    for name, link in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink("/proc/self/" + link, os.path.join(root, "dev", name))
    kernel.bind(config["packages"], root + PACKAGES, flags=kernel.MS_NOSUID | kernel.MS_NODEV)
    if config["mounted"]:
        # In a mount of their own, with which they all go.
        kernel.mount("tmpfs", root + MOUNTED, "tmpfs", _OWN, "size=1m,mode=700")
        for number, folder in enumerate(config["mounted"]):
            place = "%s%s/%d" % (root, MOUNTED, number)
            os.mkdir(place, 0o700)
            kernel.bind(folder, place, read_only=False, flags=_OWN)
    # Ours is mounted after the new root is made and before the old one goes: a user namespace may mount a /proc only
    # while it sees another whole one.
    kernel.mount("proc", root + "/proc", "proc", _PROC)
    os.chdir(root)
    kernel.pivot_root_here()
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("none", "/", "", flags)


def mount_proc() -> None:
    """Mount the /proc of this process's pid namespace over the one that is there."""
    kernel.mount("proc", "/proc", "proc", _PROC)
    for path in _MASKED:
        kernel.bind("/dev/null", path, read_only=False)
    kernel.bind("/proc/sys", "/proc/sys", kept=_PROC)


def furnish(config: Dict[str, Any], claim: Dict[str, Any], kept: int) -> None:
    """Put a function's own into a fresh sandbox's file system, and take what is others' out of it.

    `kept`: the flags that whatever is made of PACKAGES keeps.
    """
    if config["mounted"]:
        _mount_folder(claim["mounted"])
    if claim["image"]:
        _enter_image(claim, kept)
    else:
        _fill(claim, kept)


def _fill(claim: Dict[str, Any], kept: int) -> None:
    """/tmp, package and layers, and nobody else's packages."""
    kernel.mount("tmpfs", "/tmp", "tmpfs", _OWN, "size=%dm,mode=1777" % claim["tmp_mb"])
    kernel.bind(PACKAGES + "/" + claim["package"], "/var/task", flags=_OWN, kept=kept)
    if claim["opt"] is not None:
        kernel.bind(PACKAGES + "/" + claim["opt"], "/opt", flags=_OWN, kept=kept)
    kernel.unmount(PACKAGES)


def _mount_folder(mounted: Optional[Dict[str, Any]]) -> None:
    """Mount the folder that a function has in /mnt, and take all of them out of sight."""
    if mounted is not None:
        kernel.mount("tmpfs", "/mnt", "tmpfs", _OWN, "size=16k,mode=755")
        os.mkdir(mounted["path"], 0o755)
        kernel.bind(MOUNTED + "/%d" % mounted["number"], mounted["path"], read_only=False, flags=_OWN)
        kernel.mount("none", "/mnt", "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | _OWN)
    kernel.unmount(MOUNTED)


def _enter_image(claim: Dict[str, Any], kept: int) -> None:
    """Leave that file system for a function's image, with its own /tmp, and what is ours of /dev, /etc and /proc.

    The image has something at each of these places, and links at none.
    """
    image = "/var/task"
    kernel.bind(PACKAGES + "/" + claim["package"], image, flags=_OWN, kept=kept)
    kernel.mount("tmpfs", image + "/tmp", "tmpfs", _OWN, "size=%dm,mode=1777" % claim["tmp_mb"])
    kernel.mount("/dev", image + "/dev", "", kernel.MS_BIND | kernel.MS_REC)
    if claim["mounted"] is not None:
        kernel.mount("/mnt", image + "/mnt", "", kernel.MS_BIND | kernel.MS_REC)
    for name in _FOUND:
        if os.path.isfile("/etc/" + name):
            kernel.bind("/etc/" + name, image + "/etc/" + name, flags=_OWN)
    # Under its own, as everywhere, lies one that is whole: without it none could be mounted anew.
    kernel.unmount("/proc")
    kernel.mount("/proc", image + "/proc", "", kernel.MS_BIND)
    os.chdir(image)
    kernel.pivot_root_here()
    mount_proc()


def readable(prefixes: List[str]) -> List[str]:
    """What a runtime needs to read where the machine's own file system is all there is."""
    etc = ["/etc/" + name for name in (*_ETC, "passwd", "group")]
    return ["/" + name for name in _SYSTEM] + prefixes + etc + ["/proc"]


def devices() -> List[str]:
    """The device nodes that a sandbox has."""
    return ["/dev/" + name for name in _DEVICES]


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _system(root: str, prefixes: List[str]) -> None:
    for name in _SYSTEM:
        source = "/" + name
        if os.path.islink(source):
            os.symlink(os.readlink(source), os.path.join(root, name))
        elif os.path.isdir(source):
            os.makedirs(os.path.join(root, name), 0o755)
            kernel.bind(source, os.path.join(root, name), flags=kernel.MS_NOSUID)
    for prefix in prefixes:
        if prefix == "/usr" or prefix.startswith("/usr/"):
            continue
        os.makedirs(root + prefix, 0o755, exist_ok=True)
        kernel.bind(prefix, root + prefix, flags=kernel.MS_NOSUID | kernel.MS_NODEV)


def _etc(root: str, users: List[int]) -> None:
    etc = os.path.join(root, "etc")
    for name in _ETC:
        source = os.path.realpath("/etc/" + name)
        target = os.path.join(etc, name)
        if os.path.isdir(source):
            os.makedirs(target, 0o755)
        elif os.path.isfile(source):
            _touch(target)
        else:
            continue
        kernel.bind(source, target, flags=kernel.MS_NOSUID | kernel.MS_NODEV)
    first, count = users
    numbers = [(0, "root")] + [(first + number, "sbx_user%d" % number) for number in range(count)]
    with open(os.path.join(etc, "passwd"), "w", encoding="ascii") as file:
        file.writelines("%s:x:%d:%d::/tmp:/sbin/nologin\n" % (name, uid, uid) for uid, name in numbers)
    with open(os.path.join(etc, "group"), "w", encoding="ascii") as file:
        file.writelines("%s:x:%d:\n" % (name, uid) for uid, name in numbers)
