import threading
import time

from tests.helpers import wait_for
from yolo_callbacks.support.sampler import Sampler


class Source:
    """Numbers to sample, one after the other; an exception is raised."""

    def __init__(self, *values):
        self.values, self.taken, self.threads = iter(values), 0, set()

    def __call__(self):
        self.threads.add(threading.current_thread())
        self.taken += 1
        value = next(self.values)
        if isinstance(value, Exception):
            raise value
        return value


def test_means_of_what_was_sampled_while_it_was_on():
    source = Source({"a": 1.0}, {"a": 3.0, "b": 5.0}, *[{}] * 10_000)
    sampler = Sampler("test", source, 0.001)
    time.sleep(0.05)
    assert source.taken == 0  # nobody has switched it on
    sampler.switch(on=True)
    wait_for(lambda: source.taken > 3)
    sampler.switch(on=False)
    assert sampler.take() == {"a": 2.0, "b": 5.0}
    assert sampler.take() == {}
    assert threading.current_thread() not in source.threads
    sampler.close()


def test_a_repeated_epoch_starts_anew():
    source = Source({"a": 1.0}, *[{}] * 10_000)
    sampler = Sampler("test", source, 0.001)
    sampler.switch(on=True)
    wait_for(lambda: source.taken > 2)
    sampler.switch(on=True)
    assert sampler.take() == {}
    sampler.close()


def test_an_error_is_logged_once_and_ends_it(said):
    source = Source({"a": 1.0}, RuntimeError("GPU is lost"), *[{"a": 9.0}] * 10)
    sampler = Sampler("test", source, 0.001)
    sampler.switch(on=True)
    wait_for(lambda: not sampler._thread.is_alive())
    assert said.warnings == ["sampling test failed; training continues: RuntimeError: GPU is lost"]
    assert sampler.take() == {"a": 1.0}
    sampler.close()


def test_one_that_hangs_keeps_nobody_waiting():
    gate, hangs = threading.Event(), threading.Event()

    def hang():
        hangs.set()
        gate.wait()
        return {"a": 1.0}

    sampler = Sampler("test", hang, 0.001)
    sampler.switch(on=True)
    assert hangs.wait(10)
    start = time.monotonic()
    sampler.switch(on=False)
    assert sampler.take() == {}
    sampler.close()
    assert time.monotonic() - start < 1
    assert sampler._thread.daemon
    gate.set()
    sampler._thread.join(10)
    assert not sampler._thread.is_alive()
