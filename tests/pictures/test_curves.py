"""The curves of a run: that they can be drawn, whatever things are called."""

import math

from matplotlib.image import imread

import yolo_callbacks as ycb
from tests.replaying.logs import rise_and_fall, write_csv
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.pictures.curves import draw_curves, render
from yolo_callbacks.run_dir.journal import Journal

ODD = ["d$_$x", "$", r"$\frac{$", "[old] 100%", "{a}^_", "\udce9 bytes of no text"]


def entries(*names):
    stop = ycb.Stop(f"stop, {names[0]} has had enough", 2, "EarlyStopping", reason=ycb.StopReason.PLATEAU)
    frozen = tuple(ycb.SetFrozen("frozen", 1, "FreezeBackbone", layers=(name,)) for name in names)
    metrics = {"fitness": 0.5}
    for number, name in enumerate(names):
        metrics |= {f"metrics/{name}": 0.25, f"val/{name}_loss": 0.001, f"lr/{name}": 1e-4 * (number + 1)}
    losses = {f"val/{name}_loss": 3.0 for name in names}
    return [
        Entry(ycb.EpochRecord(1, metrics), frozen, {f"{name}/wait": 0.0 for name in names}),
        Entry(ycb.EpochRecord(2, {**metrics, **losses}), (stop,), {f"{name}/wait": 1.0 for name in names}),
    ]


def test_any_name_of_a_run_a_metric_a_callback_or_a_layer(tmp_path):
    figure = draw_curves(entries(*ODD), ycb.Plan(planned_epochs=5), ODD[-1])
    figure.savefig(tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 0.05
    assert figure.get_suptitle().startswith("? bytes of no text")


def test_the_logarithms_of_losses_are_still_written_as_powers(tmp_path):
    figure = draw_curves(entries("box"), ycb.Plan(planned_epochs=5))
    figure.savefig(tmp_path / "curves.png")
    losses = figure.axes[1]
    assert any("10^" in label.get_text() and label.get_parse_math() for label in losses.get_yticklabels())


def test_where_the_time_goes_and_the_memory_are_drawn_where_they_were_measured(tmp_path):
    system = {"data_wait": 0.5, "data_seconds": 2.0, "save_seconds": 1.0, "rss_gb": 3.0, "disk_free_gb": 900.0}
    measured = {f"system/{name}": value for name, value in system.items()}
    both = [Entry(ycb.EpochRecord(n, {"fitness": 0.5, **(measured if n > 1 else {})})) for n in (1, 2, 3)]
    figure = draw_curves(both, ycb.Plan(planned_epochs=5), "run")
    drawn = {axis.get_title(): axis.get_legend_handles_labels()[1] for axis in figure.axes[4:]}
    assert drawn == {"Parts of an epoch (s)": ["data", "save"], "Memory (GiB)": ["rss"]}
    assert figure.get_suptitle().startswith("run · epoch 3 of 5")
    figure.savefig(tmp_path / "curves.png")
    assert len(draw_curves(both[:1], ycb.Plan()).axes) == 4
    odd = [Entry(ycb.EpochRecord(1, dict.fromkeys(measured, float("nan"))))]
    draw_curves(odd, ycb.Plan()).savefig(tmp_path / "curves.png")


def test_no_line_is_drawn_over_epochs_that_were_not_validated():
    def entry(epoch):
        fitness = {"metrics/mAP50(B)": 0.1 * epoch, "fitness": 0.1 * epoch} if epoch in (1, 2, 5) else {}
        return Entry(ycb.EpochRecord(epoch, {"train/box_loss": 1.0, **fitness}, validated=bool(fitness)))

    figure = draw_curves([entry(epoch) for epoch in range(1, 6)], ycb.Plan(planned_epochs=5))
    line = next(line for line in figure.axes[0].get_lines() if line.get_label() == "mAP50(B)")
    known = dict(zip(line.get_xdata(), line.get_ydata()))
    assert [epoch for epoch in (1, 2, 5) if math.isfinite(known[epoch])] == [1, 2, 5]
    assert math.isnan(known[3])  # which breaks the line
    assert line.get_marker() == "."
    (train,) = (line for line in figure.axes[1].get_lines() if line.get_label() == "box_loss")
    assert list(train.get_ydata()) == [1.0] * 5


def test_a_run_directory_that_reads_like_a_formula(tmp_path):
    journal = tmp_path / "d$_$x" / "callbacks" / "journal.jsonl"
    Journal(journal).begin(JournalContent(ycb.Plan(), (), entries("box")))
    render(journal, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 0.05


def test_a_rule_that_reads_like_a_formula(tmp_path):
    write_csv(tmp_path / "run", rise_and_fall(5, 20), epochs=20, warmup_epochs=0, close_mosaic=0)
    report = ycb.replay(tmp_path / "run", {"$_$.yaml": [ycb.EarlyStopping(patience=3)]})
    assert report.plot(tmp_path / "pareto.png").exists()
