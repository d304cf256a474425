import json

from yolo_callbacks.run_dir.manifest import Manifest, read_manifest
from yolo_callbacks.support.background import Background
from yolo_callbacks.support.secrets import without_secrets


def test_secrets_are_taken_out_wherever_they_are():
    data = {
        "args": {"api_key": "k3y", "nested": [{"Password": "pw"}], "data": "https://user:pw@host/d.zip", "lr0": 0.01},
        "AUTH_TOKEN": "t",
        "empty_secret": "",
    }
    clean = json.dumps(without_secrets(data))
    assert not any(secret in clean for secret in ("k3y", '"pw"', "user:pw", '"t"'))
    assert "https://***@host/d.zip" in clean
    assert without_secrets(data)["args"]["lr0"] == 0.01


def test_tokens_in_urls_are_taken_out():
    text = "failed at https://h/x.zip?token=abc&X-Amz-Signature=zz#top twice"
    assert without_secrets({"error": text})["error"] == "failed at https://h/x.zip?***#top twice"


def test_updates_add_up(tmp_path):
    worker = Background("test")
    manifest = Manifest(tmp_path / "callbacks" / "run.json", worker)
    manifest.update(task="detect")
    manifest.update(status="finished")
    worker.close(5)
    data = read_manifest(manifest.path)
    assert (data["task"], data["status"], data["format"]) == ("detect", "finished", 1)


def test_an_unreadable_manifest_is_an_empty_one(tmp_path):
    assert read_manifest(tmp_path / "none.json") == {}
    (tmp_path / "bad.json").write_text("{")
    assert read_manifest(tmp_path / "bad.json") == {}
