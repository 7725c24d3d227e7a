"""The command line: what it takes, what it refuses, and what it says of that."""

import dataclasses
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import main
import models
from models import recipes
from models.run import run
from tests.helpers.oracles import REPOSITORY
from utils import cli

SAVING = "--feature_type i3d --video_paths a --on_extraction save_numpy --device_ids cpu"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    """What the program says as it ends with its options; in one line if they are wrong."""
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert ended.value.code == status
    out, err = capsys.readouterr()
    if status == 0:
        assert err == ""
        return out
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("arguments", [["--help"], ["--feature_type", "i3d", "--help"]])
def test_help_comes_at_once_without_heavy_packages(arguments: list[str]) -> None:
    command = [sys.executable, "main.py", *arguments]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        seconds.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    assert min(seconds) < 0.2  # of a processor, which the tests may not have for themselves
    probe = f"import sys; sys.argv = {command[1:]}\ntry: import main; main.main()\nexcept SystemExit: pass\n"
    probe += "assert not {'torch', 'torchvision', 'tensorflow', 'numpy', 'av'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)


def test_help_lists_extractors_common_options_examples_and_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--help", status=0)
    for name in models.EXTRACTORS:
        assert re.search(rf"^  {name} +\S.*$", text, re.MULTILINE)
    for group in cli.COMMON:
        for field in dataclasses.fields(group):
            assert (f"--{field.name}" in text) == bool(field.metadata)
    assert text.count("\n  python main.py --feature_type") == 4
    assert re.search("exit status: 0 .*; 1 .*; 2 .*; 3 .*; 130 ", text.replace("\n", " "))
    assert "--recipe NAME" in text
    assert "--stack_size" not in text


@pytest.mark.parametrize(("name", "other"), [("i3d", "--postprocess"), ("vggish", "--stack_size")])
def test_help_of_an_extractor_lists_its_options_and_no_others(
    capsys: pytest.CaptureFixture[str], name: str, other: str
) -> None:
    text = said(capsys, "--feature_type", name, "--help", status=0)
    for field in dataclasses.fields(models.load_config(name)):
        assert f"--{field.name}" in text
        if isinstance(field.default, int | str) and not isinstance(field.default, bool):
            assert f"(default: {field.default})" in re.sub(r"\s+", " ", text)
    assert other not in text
    assert "--video_paths" not in text


def test_values_reach_the_options_of_the_extractor_and_the_common_ones() -> None:
    arguments = "--feature_type i3d --video_paths a b --stack_size 24 --streams flow --keep_frames --max_loss 0.5"
    configs = {name: models.load_config(name) for name in models.EXTRACTORS}
    command = cli.parse(arguments.split(), configs, recipes)
    expected = models.load_config("i3d")(stack_size=24, streams=("flow",), keep_frames=True)  # type: ignore[call-arg]
    assert command.config == expected
    assert command.run.video_paths == ("a", "b")
    assert command.decode.max_loss == 0.5
    assert command.run.output_folder is None


def test_rows_that_are_pictures_are_neither_joined_nor_turned(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SAVING.replace("i3d", "flow").split(), "--transpose"]
    configs = {"flow": models.load_config("flow")}
    with pytest.raises(SystemExit) as ended:
        run(cli.parse(arguments, configs, recipes))
    assert ended.value.code == 2
    assert "--transpose: the rows of flow features are pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--feature_type i3d", "one of --video_paths and --file_with_video_paths"),
        ("--feature_type i3d --video_paths a --file_with_video_paths b", "do not go together"),
        ("--video_paths a", "--feature_type is needed: i3d or vggish"),
        ("--feature_type c3d --video_paths a", "c3d"),
        ("--feature_type vggish --video_paths a --flow raft", "--flow is an option of i3d.*, not of vggish"),
        ("--feature_type vggish --stack_size=24", "--stack_size is an option of i3d.*, not of vggish"),
        ("--feature_type i3d --video_paths a --postprocess", "--postprocess is an option of vggish, not of i3d"),
        ("--feature_type i3d --video_path a", "--video_path: did you mean --video_paths?"),
        ("--feature_type i3d --video_paths a --stack_siz 24", "--stack_siz: did you mean --stack_size?"),
        ("--feature_type i3d --video_paths a --colour red", "--colour: there is no such option"),
        ("a.mp4 --feature_type i3d --video_paths a", "unexpected argument: a.mp4"),
        ("--feature_type i3d --video_paths a --output_path o", "--output_path .*save_numpy"),
        ("--feature_type i3d --video_paths a --overwrite", "--overwrite .*save_numpy"),
        ("--feature_type i3d --video_paths a --save_timestamps", "--save_timestamps .*save_numpy"),
        ("--feature_type i3d --video_paths a --save_predictions", "--save_predictions .*save_numpy"),
        ("--feature_type i3d --video_paths a --report 0", "--report .*save_numpy"),
        ("--feature_type i3d --video_paths a --on_extraction save_numpy --report -1", "--report -1"),
        ("--feature_type i3d --report_only --overwrite", "--report_only and --overwrite"),
        ("--feature_type i3d --pack a.h5 --video_paths a", "--pack and --video_paths"),
        ("--feature_type i3d --pack a.h5 --status", "--status and --pack"),
        ("--feature_type i3d --pack a.h5 --key {suffix}", "--key {suffix}: must have {stem}"),
        ("--feature_type i3d --video_paths a --key {stem}", "--key {stem}: is for --pack"),
        ("--feature_type i3d --video_paths a --transpose", "--transpose .*save_numpy"),
        (f"{SAVING} --dtype float64", "float64"),
        (f"{SAVING} --output_name {{suffix}}", "--output_name {suffix}: must have {stem}"),
        (f"{SAVING} --output_name {{stem}}", "of one video two are {stem}.npy"),
        (f"{SAVING} --output_name {{stem}}_{{crop}} --streams rgb", "{crop} is for files of one crop each"),
        (
            f"{SAVING} --output_name {{stem}} --concatenate --save_timestamps",
            "of two videos {stem}.npy and {stem}_time",
        ),
        ("--feature_type i3d --video_paths a --streams rgb --keep_flow", "--keep_flow: there is no flow"),
        ("--feature_type i3d --video_paths a --stack_size 8", "--stack_size 8: .* at least 9"),
        ("--feature_type i3d --video_paths a --stack_size many", "many"),
        ("--feature_type i3d --video_paths a --step_size 0", "--step_size 0"),
        ("--feature_type i3d --video_paths a --extraction_fps 0", "--extraction_fps 0"),
        ("--feature_type i3d --video_paths a --extraction_fps nan", "--extraction_fps nan"),
        ("--feature_type i3d --video_paths a --min_side_size 223", "--min_side_size 223"),
        ("--feature_type i3d --video_paths a --batch_size 0", "--batch_size 0"),
        ("--feature_type i3d --video_paths a --device_ids cpu --precision mixed", "mixed: a CPU .* fp32 or bf16"),
        ("--feature_type i3d --video_paths a --precision tf32", "tf32.*bf16.*fp32.*mixed"),
        ("--feature_type i3d --video_paths a --hardware_decoding", "--hardware_decoding: there is no such option"),
        ("--feature_type i3d --video_paths a --device_ids gpu", "'gpu'"),
        ("--feature_type i3d --video_paths a --device_ids 4096", "4096: no such GPU here; there is .*cpu"),
        ("--feature_type i3d --video_paths a --device_ids 0 0", "0 is given twice"),
        ("--feature_type i3d --video_paths a --workers_per_gpu 0", "--workers_per_gpu 0"),
        ("--feature_type i3d --video_paths a --streams depth", "depth"),
        ("--feature_type i3d --file_with_video_paths /no/such.txt", "/no/such.txt: No such file"),
        (f"--feature_type i3d --file_with_video_paths {os.devnull}", "names no video"),
        ("--feature_type i3d --video_paths a --weights random --pwc_path p.pt", "--pwc_path"),
        ("--feature_type i3d --video_paths a --weights random --flow raft --raft_path p", "--raft_path .* random"),
        ("--feature_type i3d --video_paths a --flow farneback", "farneback.*pwc.*raft.*tvl1"),
        ("--feature_type i3d --video_paths a --raft_path p", "--raft_path: is for --flow raft, not for pwc"),
        ("--feature_type i3d --video_paths a --flow tvl1 --pwc_path p", "--pwc_path: is for --flow pwc, not for tvl1"),
        ("--feature_type vggish --video_paths a --weights random --postprocess", "no random PCA"),
        *(
            (f"--feature_type vggish --video_paths a --hop_seconds {hop}", f"--hop_seconds {hop}: must be .* to 10")
            for hop in ("0.0", "-1.0", "0.001", "0.015", "0.2900001", "10.01", "inf", "nan")
        ),
        ("--feature_type vggish --video_paths a --hop_seconds 1/3", "--hop_seconds: invalid float value: '1/3'"),
        ("--feature_type i3d --video_paths a --hop_seconds 1", "--hop_seconds is an option of vggish, not of i3d"),
        ("--feature_type vggish --video_paths a --max_pixels 0", "--max_pixels 0"),
        ("--feature_type vggish --video_paths a --max_loss 1.5", "--max_loss 1.5"),
        ("--feature_type vggish --video_paths a --timeout_per_video 0", "--timeout_per_video 0"),
        ("--feature_type vggish --video_paths a --timeout_per_video nan", "--timeout_per_video nan"),
        ("--feature_type vggish --video_paths a --log_level loud", "loud"),
        *(
            (f"--feature_type vggish --video_paths a --shard {shard}", f"--shard: '{shard}': must be K/N")
            for shard in ("0/8", "9/8", "x", "1/0", "0/0", "3/8/2", "3", "/", "1.0/8", "\u0661/8", "1/9999999999")
        ),
        ("--feature_type vggish --video_paths a --shard -1/3", "--shard: expected one argument"),
        ("--feature_type vggish --status --shard 1/2", "--video_paths and --file_with_video_paths is needed"),
        ("--feature_type vggish --dry_run", "--video_paths and --file_with_video_paths is needed"),
        ("--feature_type vggish --video_paths a --json", "add --status"),
        ("--feature_type vggish --status --dry_run", "--status and --dry_run do not"),
        ("--feature_type vggish --status --overwrite", "--status and --overwrite do not"),
        ("--feature_type vggish --status --skip_failed", "--status and --skip_failed do not"),
        ("--feature_type vggish --video_paths a --dry_run --output_path o", "--output_path .*save_numpy"),
        (
            "--feature_type vggish --video_paths a --on_extraction save_numpy --shard 1/2 --overwrite",
            "--shard and --overwrite .*another --output_path",
        ),
    ],
)
def test_a_wrong_option_gets_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    assert re.search(message, said(capsys, *options.split()))


def test_a_shard_with_blanks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'3 / 8': must be K/N" in said(capsys, "--feature_type", "i3d", "--video_paths", "a", "--shard", "3 / 8")


def test_class_labels_that_are_not_there_are_refused_where_they_are_used(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--feature_type", "i3d", "--video_paths", "a", "--kinetics_class_labels", "/no/such.txt"]
    assert "no such file: /no/such.txt" in said(capsys, *options, "--show_kinetics_pred")
    assert (
        cli.parse(options, {"i3d": models.load_config("i3d")}, recipes).config.kinetics_class_labels == "/no/such.txt"
    )


UNGUARDED = """
import sys
import main

print("once", file=sys.stderr)
sys.exit(main.main("--feature_type vggish --weights random --video_paths a.wav --device_ids cpu".split()))
"""


def test_a_call_from_a_script_without_a_guard_fails_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, str(tmp_path / "script.py")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert answer.returncode == 3
    lines = [line for line in answer.stderr.splitlines() if "__main__" in line]
    assert len(lines) == 1
    assert "Traceback" not in answer.stderr
