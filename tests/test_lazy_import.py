import subprocess
import sys

HEAVY = ("torch", "ultralytics", "pandas", "matplotlib", "cv2", "numpy")


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(eval(result.stdout.strip().splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import yolo_callbacks") == set()


def test_nor_does_naming_everything_in_it():
    assert loaded_after("from yolo_callbacks import *") == set()


def test_nor_does_the_command_line():
    assert loaded_after("import yolo_callbacks.cli.main, yolo_callbacks.cli.list_callbacks") == set()


def test_every_public_name_is_there():
    import yolo_callbacks

    assert sorted(set(yolo_callbacks.__all__)) == yolo_callbacks.__all__
    for name in yolo_callbacks.__all__:
        assert getattr(yolo_callbacks, name) is not None
    assert set(dir(yolo_callbacks)) == set(yolo_callbacks.__all__)


def test_no_public_name_is_hidden_by_a_module_of_its_name():
    """Importing `package.name` as a module would put the module in the place of the lazily imported `name`."""
    from pathlib import Path

    import yolo_callbacks

    modules = {path.stem for path in Path(yolo_callbacks.__file__).parent.iterdir()}
    assert modules.isdisjoint(yolo_callbacks.__all__)
