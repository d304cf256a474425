import pytest

from yolo_callbacks import ConfigError, CSVLogger, EarlyStopping, ModelCheckpoint, load_config


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "callbacks.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_names_and_parameters(config):
    callbacks = load_config(
        config(
            "# what a run keeps\n"
            "- EarlyStopping:\n    monitor: mAP50-95\n    patience: 0.25\n    min_delta: 1e-3\n"
            "- ModelCheckpoint: {save_top_k: 3, export: [onnx, torchscript]}\n"
            "- CSVLogger\n"
        )
    )
    stopping, checkpoint, logger = callbacks
    assert isinstance(stopping, EarlyStopping)
    assert (stopping.monitor, stopping.patience, stopping.min_delta) == ("mAP50-95", 0.25, 0.001)
    assert isinstance(checkpoint, ModelCheckpoint)
    assert checkpoint.export == ("onnx", "torchscript")
    assert isinstance(logger, CSVLogger)


def test_no_parameters_at_all(config):
    assert isinstance(load_config(config("- EarlyStopping:\n"))[0], EarlyStopping)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- EarlyStoping\n", "line 1: 'EarlyStoping' is not a callback (did you mean 'EarlyStopping'?)"),
        (
            "- CSVLogger\n- EarlyStopping:\n    patiense: 3\n",
            "line 3: EarlyStopping has no parameter 'patiense' (did you",
        ),
        (
            "- EarlyStopping:\n    monitor: fitness\n    patience: many\n",
            "line 3: EarlyStopping: patience='many' must be",
        ),
        (
            "- EarlyStopping:\n    monitor: fitnes\n",
            "line 2: EarlyStopping: monitor='fitnes' is not the name of a metric",
        ),
        ("- ReduceLROnPlateau:\n    cooldown: 1\n    factor: 3\n", "line 3: ReduceLROnPlateau: factor=3 must be"),
        ("- ModelCheckpoint:\n    filepath: '{epok}'\n", "line 2: ModelCheckpoint: filepath='{epok}.pt': unknown key"),
        ("- EarlyStopping:\n    patience: 3\n    patience: 4\n", "line 3: EarlyStopping has 'patience' twice"),
        ("EarlyStopping:\n  patience: 3\n", "line 1: the file must be a list of callbacks"),
        ("- EarlyStopping: 3\n", "line 1: the parameters of EarlyStopping must be"),
        ("- EarlyStopping\n  patience: 3\n", "line 2: not valid YAML"),
        (
            "- CSVLogger\n- EarlyStopping:\n  patience: 3\n  monitor: fitness\n",
            "line 3: 'patience' is not indented below 'EarlyStopping:': indent the parameters of EarlyStopping by "
            "four spaces",
        ),
        ("- EarlyStopping:\n    monitor: val/los\n", "line 2: EarlyStopping: monitor='val/los' is not the name of a"),
        ("- LearningRateScheduler\n", "LearningRateScheduler needs 'schedule' to be a function"),
        ("- - CSVLogger\n", "line 1: an item must be 'Name'"),
        ("- !!python/object/apply:os.system ['true']\n", "line 1: an item must be"),
        ("- EarlyStopping:\n    monitor: !!python/name:os.system\n", "line 2:"),
        (
            "- CSVLogger\n- CSVLogger\n",
            "callbacks.yaml: CSVLogger and CSVLogger-2 would both write callbacks/epochs.csv",
        ),
        ("", "callbacks.yaml: the file must be a list of callbacks"),
    ],
)
def test_every_mistake_is_named_with_file_and_line(config, text, message):
    path = config(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")
