"""A job's random numbers depend on the job alone: on the seed of its ensemble, its index, and nothing else.

Before the function is called, these get their state from the two: the global generators of ``random``, of
NumPy and of the C library; the generators that lie in the payload's modules, each by its name; and what NumPy
takes from the operating system where a generator is made without a seed. So jobs differ, and a retry, a
replay, another order of jobs or number of slots give the same numbers.

While a module of the payload is imported they all depend on its name alone, since it is imported once for
many jobs; afterwards they are as they were before.

Whatever else draws random numbers takes ``CLOUDBURST_SEED``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.machinery
import os
import random
import struct
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from .lifelines import libc
from .payload import Payload

SCANNED = 200
"""Entries of a list, a dict or a class; larger ones are not searched for generators."""

_GLOBAL = "numpy.random.mtrand"
_ENTROPY = "numpy.random.bit_generator"
_WITH_A_STATE = ("scipy", "sklearn")
"""Packages whose objects may have a generator as their ``random_state``."""


def numbered(seed: int, index: int) -> int:
    """CLOUDBURST_SEED: 32 bits, and another one for each index of an ensemble."""
    left, right = index >> 16 & 0xFFFF, index & 0xFFFF
    # A Feistel network: whatever the function in it, no two numbers become one. This one is of MurmurHash3.
    for key in _keys(seed):
        mixed = (right ^ key) * 0x85EBCA6B & 0xFFFFFFFF
        mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
        left, right = right, left ^ mixed >> 16
    return left << 16 | right


@functools.lru_cache(maxsize=8)
def _keys(seed: int) -> Tuple[int, ...]:
    return struct.unpack(">8I", hashlib.blake2b(b"%d" % seed, person=b"number", digest_size=32).digest())


class Seeds:
    """Gives generators their state."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._key = b""
        """What all states are derived from; b"" before the first job."""
        self._pid = 0
        self._drawn = 0
        self._loaded = 0
        self._modules: Dict[str, Any] = {}
        self._names: Dict[int, Tuple[Any, str]] = {}
        """Generators of the payload's modules. One with two names keeps the one that it was found by."""
        self._places = _Places(self)
        if _ENTROPY in sys.modules:
            self._tap(sys.modules[_ENTROPY])
        sys.meta_path.insert(0, _Imports(self, payload))

    def before(self, seed: int, index: int) -> None:
        """The function of that job is called next; its module is imported."""
        self._begin(hashlib.blake2b(b"%d %d" % (seed, index), digest_size=32).digest())
        self._set_globals()
        self.look()
        self._set_generators(self._modules)

    def look(self) -> None:
        """Find the payload's modules, if some were imported; done before forks, so that they need not."""
        if len(sys.modules) != self._loaded:
            self._loaded = len(sys.modules)
            modules = ((name, getattr(module, "__dict__", {})) for name, module in list(sys.modules.items()))
            self._modules = {name: inside for name, inside in modules if self._ours(inside.get("__file__"))}

    @contextlib.contextmanager
    def importing(self, name: str, module: Any) -> Iterator[None]:
        """While a module is imported that is the payload's own."""
        outer = self._key, self._drawn
        state, legacy = random.getstate(), getattr(sys.modules.get(_GLOBAL), "get_state", None)
        legacy_state = legacy() if legacy else None
        self._begin(hashlib.blake2b(name.encode(), person=b"import", digest_size=32).digest())
        self._set_globals()
        try:
            yield
        finally:
            self._key, self._drawn = outer
            random.setstate(state)
            if legacy_state is not None:
                sys.modules[_GLOBAL].set_state(legacy_state)
            if self._key:
                if legacy_state is None:
                    self._set_legacy()
                self._set_generators({name: vars(module)})

    @contextlib.contextmanager
    def importing_numpys(self, name: str, module: Any) -> Iterator[None]:
        """While one of two modules of NumPy is imported, maybe by the job itself."""
        drawn = self._drawn
        yield
        self._drawn = drawn
        if name == _ENTROPY:
            self._tap(module)
        elif self._key:
            self._set_legacy()

    def _begin(self, key: bytes) -> None:
        self._key, self._pid, self._drawn = key, os.getpid(), 0

    def _state(self, name: str) -> int:
        return int.from_bytes(hashlib.blake2b(name.encode(), key=self._key, digest_size=16).digest(), "big")

    def _set_globals(self) -> None:
        random.seed(self._state("random"))
        self._set_legacy()
        state = self._state("C")
        try:
            c = libc()
            c.srand(state & 0xFFFFFFFF)
            c.srand48(state & 0x7FFFFFFF)
        except Exception:  # noqa: BLE001, S110 (where there is no ctypes)
            pass

    def _set_legacy(self) -> None:
        mtrand: Any = sys.modules.get(_GLOBAL)
        if hasattr(mtrand, "_rand"):
            _set(mtrand._rand, self._state("numpy"))

    def _tap(self, module: Any) -> None:
        """Let what NumPy takes for generators without a seed depend on the job, too."""
        entropy = getattr(module, "randbits", None)
        if entropy is None:
            return

        def randbits(bits: int) -> int:
            if not self._key or os.getpid() != self._pid:  # processes that a job forks must differ
                return int(entropy(bits))
            self._drawn += 1
            drawn = hashlib.shake_128(self._key + b"%d" % self._drawn).digest((bits + 7) // 8)
            return int.from_bytes(drawn, "big") >> -bits % 8

        module.randbits = randbits

    def _set_generators(self, modules: Dict[str, Any]) -> None:
        found: Dict[int, Tuple[Any, str]] = {}
        mtrand: Any = sys.modules.get(_GLOBAL)
        theirs = (getattr(mtrand, "_rand", None), random._inst)
        for module, inside in modules.items():
            for name, generator in self._generators(inside):
                if id(generator) not in found and not any(generator is one for one in theirs):
                    known = self._names.get(id(generator))
                    found[id(generator)] = known or (generator, "%s.%s" % (module, name))
        for generator, name in found.values():
            _set(generator, self._state(name))
        self._names.update(found)
        if modules is self._modules:
            self._names = found

    def _generators(self, inside: Dict[str, Any]) -> Iterator[Tuple[str, Any]]:
        """Those in a module's globals, and one level below."""
        for name, value in list(inside.items()):
            place = self._places[type(value)]
            if place is None or name == "__builtins__":
                continue
            if place is _itself:
                yield name, value
                continue
            for part, inner in place(value):
                if self._places[type(inner)] is _itself:
                    yield "%s.%s" % (name, repr(part)[:100]), inner

    def place(self, kind: type) -> Optional[Callable[[Any], Iterable[Tuple[Any, Any]]]]:
        """How to look for generators in a value of that type; None: not at all."""
        if _is_generator(kind):
            return _itself
        if issubclass(kind, dict):
            return _items
        if issubclass(kind, (list, tuple)):
            return _entries
        if issubclass(kind, type):
            return lambda value: _attributes(value) if self._defines(value) else ()
        if kind.__module__.partition(".")[0] in _WITH_A_STATE:
            return _random_state
        return _attributes if self._defines(kind) else None

    def _defines(self, kind: type) -> bool:
        module = sys.modules.get(str(getattr(kind, "__module__", "")))
        return self._ours(getattr(module, "__file__", None))

    def _ours(self, file: Any) -> bool:
        return isinstance(file, str) and file.startswith(self._payload.directory + os.sep)


class _Places(Dict[type, Any]):
    """How to look for generators in values of a type, asked once for each type."""

    def __init__(self, seeds: Seeds) -> None:
        super().__init__()
        self._seeds = seeds

    def __missing__(self, kind: type) -> Any:
        self[kind] = place = self._seeds.place(kind)
        return place


def _itself(value: Any) -> Iterable[Tuple[Any, Any]]:
    return [("", value)]


def _items(value: Dict[Any, Any]) -> Iterable[Tuple[Any, Any]]:
    return list(value.items()) if len(value) <= SCANNED else ()


def _entries(value: List[Any]) -> Iterable[Tuple[Any, Any]]:
    return list(enumerate(value)) if len(value) <= SCANNED else ()


def _attributes(value: Any) -> Iterable[Tuple[Any, Any]]:
    return _items(dict(getattr(value, "__dict__", {})))


def _random_state(value: Any) -> Iterable[Tuple[Any, Any]]:
    with contextlib.suppress(Exception):  # a property of theirs
        return [("random_state", value.random_state)]
    return ()


def _is_generator(kind: type) -> bool:
    if issubclass(kind, random.Random):
        return not issubclass(kind, random.SystemRandom)
    numpy: Any = sys.modules.get("numpy.random")
    names = ("Generator", "RandomState", "BitGenerator")
    return any(issubclass(kind, getattr(numpy, name, ())) for name in names)


def _set(generator: Any, state: int) -> None:
    """Where a class of the user's does not let us, its generator stays as it is."""
    with contextlib.suppress(Exception):
        if isinstance(generator, random.Random):
            random.Random.seed(generator, state)
            return
        bits = getattr(generator, "_bit_generator", generator)
        if hasattr(generator, "random_sample"):  # a RandomState
            try:
                generator.seed([state >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)])
                return
            except TypeError:  # its bits are not of the Mersenne twister
                pass
        bits.__setstate__(type(bits)(state).__getstate__())


class _Imports:
    """Finds the payload's modules, and those two of NumPy, to see them being imported."""

    def __init__(self, seeds: Seeds, payload: Payload) -> None:
        self._seeds = seeds
        self._payload = payload

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        numpys = name in (_GLOBAL, _ENTROPY)
        own = [place for place in (sys.path if path is None else path) if self._in_payload(place)]
        finder = importlib.machinery.PathFinder
        if not numpys and (not own or finder.find_spec(name, own) is None):
            return None
        spec = finder.find_spec(name, path, target)
        if spec is None or spec.loader is None or not (numpys or self._in_payload(spec.origin)):
            return spec
        execute = spec.loader.exec_module
        with contextlib.suppress(AttributeError):  # a loader of another kind is left alone
            importing = self._seeds.importing_numpys if numpys else self._seeds.importing

            def exec_module(module: Any) -> None:
                with importing(name, module):
                    execute(module)

            setattr(spec.loader, "exec_module", exec_module)  # noqa: B010
        return spec

    def _in_payload(self, place: Any) -> bool:
        directory = self._payload.directory
        return isinstance(place, str) and (place == directory or place.startswith(directory + os.sep))
