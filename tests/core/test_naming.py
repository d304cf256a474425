import pytest

from yolo_callbacks import EpochRecord
from yolo_callbacks.core.naming import FileTemplate, slug

RECORD = EpochRecord(
    7, {"metrics/mAP50-95(B)": 0.51234, "metrics/mAP50(B)": 0.75, "val/box_loss": 1.25, "fitness": 0.5}
)


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{epoch:03d}-{mAP50-95:.4f}", "weights/007-0.5123.pt"),
        ("{epoch}-{metrics/mAP50(B):.2f}.pt", "weights/7-0.75.pt"),  # a metric's slash makes no folder
        ("{val_loss:.1f}/{epoch}", "weights/1.2/7.pt"),  # a folder that was asked for
        ("best", None),
        ("{monitor:.3f}-{epoch}", "weights/0.900-7.pt"),
        ("best_model.h5", "weights/best_model.pt"),
        ("best_model.keras", "weights/best_model.pt"),
        ("v1.2", "weights/v1.2.pt"),
        ("/data/keep/{epoch}.pt", "/data/keep/7.pt"),
        ("C:\\ck\\best-{epoch}", "C:/ck/best-7.pt"),
        ("\\\\server\\share\\{epoch}", "//server/share/7.pt"),
        ("keep\\{epoch}", "weights/keep/7.pt"),
    ],
)
def test_render(template, path):
    if path is None:
        with pytest.raises(ValueError, match="is a file that Ultralytics itself writes"):
            FileTemplate(template)
    else:
        assert FileTemplate(template).render_record(RECORD, 0.9) == path


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{epch}", r"unknown key '\{epch\}' \(did you mean 'epoch'\?\)"),
        ("{val_accuracy:.2f}", r"unknown key '\{val_accuracy\}'"),
        ("{}", r"unknown key '\{\}'"),
        ("{epoch:.2q}", "format '.2q' does not fit '{epoch}'"),
        ("{mAP50:03d}", "format '03d' does not fit '{mAP50}'"),
        ("{epoch", "is not a valid template"),
        ("../outside", "leaves the run directory"),
        ("a/../../outside", "leaves the run directory"),
        ("..\\outside", "leaves the run directory"),
        ("last.pt", "is a file that Ultralytics itself writes"),
        ("Best.pt", "is a file that Ultralytics itself writes"),  # on Windows and macOS
    ],
)
def test_bad_templates_fail_at_construction(template, message):
    with pytest.raises(ValueError, match=message):
        FileTemplate(template)


def test_a_template_must_be_a_string():
    with pytest.raises(TypeError, match="must be a string"):
        FileTemplate(5)


def test_slug():
    assert slug("metrics/mAP50-95(B)") == "metrics-mAP50-95-B"
    assert slug("../../x") == "..-..-x"
    assert slug("///") == "monitor"


@pytest.mark.parametrize("name", ["person", "St. Bernard", "a/b", "a, b", "x[0]", "人 😀"])
def test_the_metric_of_a_class_in_a_name(name):
    template = FileTemplate("{epoch:02d}-{mAP50-95/" + name + ":.3f}")
    record = EpochRecord(3, {f"mAP50-95(M)/{name}": 0.25, f"mAP50-95(B)/{name}": 0.5})
    assert template.render_record(record, None) == "weights/03-0.250.pt"
    assert template.keys == ("epoch", f"mAP50-95/{name}")
    assert template.render_record(EpochRecord(4, {"fitness": 0.5}), None) == "weights/04-nan.pt"  # was not measured


def test_classes_of_every_script_make_different_files():
    names = [slug(f"mAP50-95/{name}") for name in ("人", "车", "salt & pepper", "salt/pepper")]
    assert names[0] != names[1]
    assert not any(set(name) & set('/\\:*?"<>| ') for name in names)
