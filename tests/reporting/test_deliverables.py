"""Which files of a run are worth keeping elsewhere."""

from yolo_callbacks.reporting.deliverables import deliverables


def test_deliverables_are_no_scratch_files(tmp_path):
    names = ["args.yaml", "results.csv", "results.png", "callbacks/run.json", "callbacks/journal.1.jsonl"]
    names += ["callbacks/journal.jsonl", "weights/best.pt", "weights/last.pt", "weights/best.kept.pt", "weights/a.pt"]
    names += ["export/best.onnx", "export/report.json", "export/m_openvino/m.bin", "export/.scratch/x.onnx"]
    names += ["export/best.onnx.rejected", "export/old_openvino.old/m.bin", "export/best.log", "weights/preempted.pt"]
    names += ["callbacks/.epochs.csv.tmp", "elsewhere/b.pt"]
    for name in names:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
    (tmp_path / "out.pt").touch()
    kept = [{"role": "best", "file": "weights/a.pt"}, {"role": "backup", "file": "weights/preempted.pt"}]
    kept += [{"role": "best", "file": str(tmp_path / "out.pt")}, {"role": "best", "file": "weights/lost.pt"}]
    assert set(deliverables(tmp_path / "run", kept)) == {
        *("args.yaml", "results.csv", "callbacks/run.json", "callbacks/journal.jsonl", "results.png"),
        *("weights/best.pt", "weights/a.pt", "weights/out.pt"),
        *("export/best.onnx", "export/report.json", "export/m_openvino/m.bin"),
    }
    assert set(deliverables(tmp_path / "run", kept, ["plots"])) == {"results.png"}
