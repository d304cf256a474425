"""The built-in callbacks by name: all that are public, and nothing else."""

import sys
from types import ModuleType

import pytest

import yolo_callbacks as ycb
from yolo_callbacks.callbacks import registry
from yolo_callbacks.callbacks.registry import public_callbacks


def test_they_are_the_callbacks_that_the_package_exports():
    exported = {name: getattr(ycb, name) for name in ycb.__all__}
    classes = {name: item for name, item in exported.items() if isinstance(item, type)}
    callbacks = {name for name, item in classes.items() if issubclass(item, ycb.Callback)} - {"Callback"}
    assert set(public_callbacks()) == callbacks
    assert all(cls is exported[name] and cls.__name__ == name for name, cls in public_callbacks().items())


def test_they_are_in_alphabetical_order():
    assert list(public_callbacks()) == sorted(public_callbacks())
    assert len(public_callbacks()) > 15


@pytest.fixture
def modules(monkeypatch):
    """Return a function that puts another module, with what it holds, among those of the callbacks."""

    def add(name, **content):
        full = f"{registry.callbacks.__name__}.{name}"
        module = ModuleType(full)
        vars(module).update(content)
        for item in content.values():
            if isinstance(item, type) and item.__module__ == __name__:
                item.__module__ = full
        monkeypatch.setitem(sys.modules, full, module)
        found = [*registry.iter_modules(registry.callbacks.__path__), type("Found", (), {"name": name})]
        monkeypatch.setattr(registry, "iter_modules", lambda path: found)

    return add


def test_of_a_module_its_own_public_callbacks_count(modules):
    own, hidden = type("Own", (ycb.Callback,), {}), type("_Hidden", (ycb.Callback,), {})
    helper = type("Helper", (), {})
    for cls in (own, hidden, helper):
        cls.__module__ = __name__
    before = public_callbacks()
    modules("aaa", Own=own, _Hidden=hidden, Helper=helper, Callback=ycb.Callback, number=3, CSVLogger=ycb.CSVLogger)
    assert {name: cls for name, cls in public_callbacks().items() if name not in before} == {"Own": own}
    assert public_callbacks()["CSVLogger"] is ycb.CSVLogger
