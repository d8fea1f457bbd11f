"""The zygote's memory as an image: the machine code is what it says, and what is given back is missed by nobody."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.worker import guest

_GUEST = Path(guest.__file__).parent
_LOAD = f"""
import importlib.util, os, sys

def load(name):
    spec = importlib.util.spec_from_file_location("_lambent_" + name, "{_GUEST}/" + name + ".py")
    module = sys.modules["_lambent_" + name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

kernel, image, counts, packing = load("kernel"), load("image"), load("counts"), load("packing")

def copies():
    # Pages of this process's own among those that its image has.
    with open("/proc/self/smaps") as file:
        wanted, found = False, 0
        for line in file:
            if "-" in line.split()[0]:
                wanted = "memfd:lambent" in line and " rw-p " in line
            elif wanted and line.startswith("Anonymous:"):
                found += int(line.split()[1])
        return found
"""
_LLVM = ("llvm-mc", "-filetype=obj")
ASSEMBLERS = {
    machine: ((f"{machine}-linux-gnu-as",), ("as",), (*_LLVM, f"-triple={machine}"))
    for machine in ("x86_64", "aarch64")
}
pytestmark = pytest.mark.skipif(
    platform.machine() not in ASSEMBLERS, reason="there is machine code for two kinds of processors"
)


def run(source: str, *arguments: str) -> str:
    """What a process of its own prints; its memory is not the tests'."""
    command = [sys.executable, "-I", "-S", "-c", _LOAD + source, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("machine", ASSEMBLERS)
def test_the_machine_code_is_what_an_assembler_makes_of_the_text_beside_it(machine: str, tmp_path: Path) -> None:
    fit = [command for command in ASSEMBLERS[machine] if command != ("as",) or platform.machine() == machine]
    assembler = next((command for command in fit if shutil.which(command[0])), None)
    if assembler is None:
        pytest.skip(f"no assembler for {machine} on this machine")
    code = run(f"print(*('|'.join(line) for line in image.MACHINES['{machine}'].code), sep='\\n')")
    lines = [line.split("|") for line in code.splitlines()]
    source, made = tmp_path / "code.s", tmp_path / "code.o"
    source.write_text("\n".join(re.sub(r"^(\w+):", r"\1:\n", text) for _, text in lines) + "\n")
    subprocess.run([*assembler, "-o", made, source], check=True)
    assert bytes.fromhex("".join(digits for digits, _ in lines)) in made.read_bytes()


def test_a_step_is_made_where_two_pieces_of_memory_are_equal_and_only_there() -> None:
    said = run("""
import ctypes, mmap
made = image.Image(image.MACHINES[os.uname().machine])
words = [ctypes.create_string_buffer(text, 16) for text in (b"eight678and more", b"eight678and more", b"eight678and else")]
text = ctypes.create_string_buffer(b"123456")
one, same, other = map(ctypes.addressof, words)
at = ctypes.addressof(text)
file = os.memfd_create("x")
calls = [
    (made.machine.pwrite, file, at, 1, 0, 0, 0, one, same, 2),
    (made.machine.pwrite, file, at + 1, 1, 1, 0, 0, one, other, 2),  # differs in the second eight
    (made.machine.pwrite, file, at + 2, 1, 2, 0, 0, one, other, 1),
    (made.machine.pwrite, file, at + 3, 1, 3, 0, 0, 0, 0, 0),
    (made.machine.pwrite, 99, at, 1),
]
print(made._work(calls), os.pread(file, 9, 0))
""")
    pwrite = {"x86_64": 18, "aarch64": 68}[platform.machine()]
    assert said == f"[1, {pwrite}, 1, 1, -9] b'1\\x0034'"


def test_counts_that_do_not_matter_are_equal_and_nothing_else_is_that_differs() -> None:
    said = run("""
import ctypes, struct
made = image.Image(image.MACHINES[os.uname().machine])
raised, other = image.RAISED << 32, image.RAISED + 1 << 32
pairs = [
    ((7, raised + 5, 7, raised + 2), (7, raised + 9, 7, raised + 1)),  # the last word, too
    ((7, raised + 5, 7, raised + 2), (7, raised + 9, 8, raised + 2)),
    ((7, raised + 5, 7, raised + 2), (7, other + 5, 7, raised + 2)),
    ((7, other + 5, 7, 9), (7, other + 9, 7, 9)),
    ((7, 5, 7, raised + 2), (7, 9, 7, raised + 2)),
]
text = ctypes.create_string_buffer(b"1")
file = os.memfd_create("x")
held = [[ctypes.create_string_buffer(struct.pack("=4Q", *side), 32) for side in pair] for pair in pairs]
calls = [
    (made.machine.pwrite, file, ctypes.addressof(text), 1, place, 0, 0, *map(ctypes.addressof, pair), 4)
    for place, pair in enumerate(held)
]
print([answer == 1 for answer in made._work(calls)])
""")
    assert said == "[True, False, False, False, False]"


_SETTLED = """
import collections, datetime, decimal, gc, json, logging, weakref
gc.collect()
gc.disable()
settled = counts.settle()
assert settled > 10000, settled
packing.fill()
objects = gc.get_objects()
gc.freeze()
gc.enable()
made = image.make()
made.lay()
"""


def test_what_is_held_of_the_zygotes_objects_costs_no_copies() -> None:
    said = run(
        _SETTLED
        + """
kept = list(objects)
made.give_back()
print(len(kept), copies())
"""
    )
    held, copied = map(int, said.split())
    assert held > 10000
    assert copied < 1536  # KiB; it is twice that where their counts matter


def test_a_count_that_was_forgotten_frees_nothing() -> None:
    """References are taken, given back with their pages, and dropped: more often than there have ever been any."""
    said = run(
        _SETTLED
        + """
names = [name for name in sys.modules if name != "__main__"]
watched = [weakref.ref(sys.modules[name]) for name in names]
for _ in range(200):
    kept = [each for name in names for each in [sys.modules[name]] * 50]
    made.give_back()
    del kept
    gc.collect()
assert all(watch() is sys.modules[name] for watch, name in zip(watched, names))
gc.unfreeze()
gc.collect()
moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
counted = collections.Counter(json.dumps({"at": str(moment), "n": str(decimal.Decimal("1.5"))}))
print(counted["0"], json.loads('[1, {"a": null}]'))
"""
    )
    assert said == "6 [1, {'a': None}]"


def test_what_comes_later_is_freed_as_ever_and_so_are_files() -> None:
    said = run(
        "file = open(os.devnull)\nnumber = file.fileno()\n"
        + _SETTLED
        + """
class Made:
    def __del__(self):
        print("freed")

one = Made()
one.itself = one
del one
gc.collect()
del file, objects
try:
    os.fstat(number)
except OSError:
    print("closed")
"""
    )
    assert said.split() == ["freed", "closed"]


def test_what_was_written_to_and_left_as_it_was_is_given_back() -> None:
    said = run("""
import gc
made = image.make()
kept = [bytes(100) for _ in range(20000)]
made.give_back()
before = copies()
held = [list(range(1000)), dict.fromkeys(map(str, range(20000)))]
references = gc.get_objects()
more = copies()
del held, references
made.give_back()
print(before, more, copies())
""")
    before, more, after = map(int, said.split())
    assert more > before
    assert after <= before + 256


def test_what_one_process_has_written_to_others_copy_ahead() -> None:
    said = run("""
import gc
made = image.make()
made.lay()
seen = gc.get_objects
def work():
    global kept
    kept = seen()
made.learn(work)
made.lay()
before = copies()
made.copy_ahead()
ahead = copies()
work()
print(before, ahead, copies())
""")
    before, ahead, after = map(int, said.split())
    assert ahead > before + 256
    assert after - ahead < (ahead - before) / 4


def test_nothing_is_given_back_beside_another_thread() -> None:
    said = run("""
import gc, threading
made = image.make()
references = gc.get_objects()
del references
event = threading.Event()
thread = threading.Thread(target=event.wait)
thread.start()
made.give_back()
before = copies()
event.set()
thread.join()
while len(os.listdir("/proc/self/task")) > 1:  # the kernel takes a moment longer
    os.sched_yield()
made.give_back()
print(before, copies())
""")
    before, after = map(int, said.split())
    assert after < before - 256


@pytest.mark.parametrize("seed", range(4))
def test_whatever_runs_in_between_finds_its_memory_as_it_left_it(seed: int) -> None:
    """Objects of every size come and go, in the image's memory and beside it; what they hold is checked throughout."""
    said = run(
        """
import gc, hashlib, random, signal
counts.settle()
packing.fill()
made = image.make()
heard = []
signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
draw = random.Random(int(sys.argv[1]))
held = {}
checks = {}

def grow():
    key = draw.randrange(400)
    size = draw.choice((8, 60, 500, 3000, 70000, 300000))
    data = draw.randbytes(size)
    if draw.random() < 0.3:
        data = bytes(size)  # as memory is that nobody has written to
    held[key] = [data, bytearray(data), {key: data[:40]}, [key] * draw.randrange(300)]
    checks[key] = hashlib.sha1(data).digest()

for turn in range(150):
    for _ in range(draw.randrange(30)):
        grow()
    for key in draw.sample(sorted(held), min(len(held), draw.randrange(40))):
        del held[key], checks[key]
    if draw.random() < 0.1:
        gc.collect()
    if draw.random() < 0.1:
        pid = os.fork()
        if pid == 0:
            made.give_back()
            os._exit(0 if all(hashlib.sha1(held[key][1]).digest() == checks[key] for key in held) else 1)
        assert os.waitpid(pid, 0)[1] == 0
    made.give_back()
    for key, (data, mutable, small, many) in held.items():
        assert hashlib.sha1(data).digest() == hashlib.sha1(mutable).digest() == checks[key]
        assert small == {key: data[:40]} and many == [key] * len(many)
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(heard) > 10)
""",
        str(seed),
    )
    assert said == "True"


def test_what_is_mapped_over_the_image_is_not_taken_for_it() -> None:
    """A mapping that is not the image's, where the image was, and that says what the image said: it stays as it is."""
    said = run("""
import ctypes, mmap
block = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
block[:] = b"image" * ((1 << 20) // 5) + b"!"
address = ctypes.addressof(ctypes.c_char.from_buffer(block))
made = image.make()
assert block[:5] == b"image"
libc = ctypes.CDLL(None)
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t) + (ctypes.c_int,) * 3 + (ctypes.c_long,)
libc.mmap(address, 1 << 20, 3, 0x32, -1, 0)  # MAP_FIXED, MAP_PRIVATE, MAP_ANONYMOUS
block[:] = b"image" * ((1 << 20) // 5) + b"!"
made.give_back()
print(block[:] == b"image" * ((1 << 20) // 5) + b"!")
""")
    assert said == "True"
