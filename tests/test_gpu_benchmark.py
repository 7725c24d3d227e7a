"""The benchmark of a GPU, as far as it runs without one: its parts, what becomes of those that fail, and its table."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, pipeline
from benchmarks.kernels import CLASSES, class_of
from benchmarks.parts import Figure, Part, Result, run_part, table
from benchmarks.workers import Sample, rate_of
from tests.helpers.oracles import REPOSITORY
from tests.helpers.processes import is_running, wait_until

CPU = torch.device("cpu")


def measure_two() -> Iterator[Figure]:
    yield "answer", 42
    yield "name", "a name"


def fail(pid_file: Path) -> Iterator[Figure]:
    yield "first", 1.5
    pid_file.write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
    raise ValueError("it is broken")


def die() -> Iterator[Figure]:
    yield "first", 1.5
    os.kill(os.getpid(), signal.SIGSEGV)
    yield "never", 1


def hang() -> Iterator[Figure]:
    time.sleep(1000)
    yield "never", 1


def test_a_part_that_fails_dies_or_hangs_leaves_its_figures_and_no_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    measures: dict[str, Callable[[], Iterator[Figure]]] = {
        "good": measure_two,
        "fails": partial(fail, pid_file),
        "dies": die,
        "hangs": hang,
    }
    parts = [Part(name, measure, 4 if name == "hangs" else 120, f"{name} well") for name, measure in measures.items()]
    with ThreadPoolExecutor() as threads:
        results = dict(zip(measures, threads.map(lambda part: run_part(part, tmp_path), parts), strict=True))
    assert (results["good"].figures, results["good"].failure) == ({"answer": 42, "name": "a name"}, "")
    assert results["fails"].figures == results["dies"].figures == {"first": 1.5}
    assert results["fails"].failure.startswith("expected fails well; it ended with status 1; it said last: ")
    assert results["fails"].failure.endswith("ValueError: it is broken")
    assert results["dies"].failure == "expected dies well; it was killed by SIGSEGV"
    assert results["hangs"].failure.startswith("expected hangs well; it was not done after 4 s")
    assert not is_running(int(pid_file.read_text()))
    assert run_part(parts[0], tmp_path, seconds_left=0).failure == "expected good well; no time was left for it"


def hang_on(pid_file: Path) -> Iterator[Figure]:
    sleeping = subprocess.Popen(["sleep", "1000"])
    whole_file = pid_file.with_suffix(".part")
    whole_file.write_text(f"{os.getpid()} {sleeping.pid}")
    whole_file.rename(pid_file)
    yield from hang()


def run_one(folder: Path) -> None:
    run_part(Part("hangs on", partial(hang_on, folder / "pids"), 1000, "nothing"), folder)


def test_a_benchmark_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    benchmark = multiprocessing.get_context("spawn").Process(target=run_one, args=(tmp_path,))
    benchmark.start()
    wait_until((tmp_path / "pids").exists, seconds=120)
    benchmark.kill()
    for pid in (tmp_path / "pids").read_text().split():
        wait_until(lambda pid=int(pid): not is_running(pid))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("matching_costs_kernel", "ours"),
        ("add_and_activate_kernel", "ours"),
        (
            "sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x64_warpgroupsize1x1x1_g1_"
            "execute_segment_k_off_kernel__5x_cudnn",
            "convolution",
        ),
        (
            "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_256x128_32x3_nhwc_align8>"
            "(cutlass_tensorop_f16_s16816fprop_optimized_f16_256x128_32x3_nhwc_align8::Params)",
            "convolution",
        ),
        ("void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, false, 0, 0, int, float>", "convolution"),
        ("void implicit_convolve_sgemm<__half, __half, 1024, 5, 5, 3, 3, 3, 1, false, true, true>", "convolution"),
        ("_5x_cudnn_ampere_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1", "convolution"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT", "convolution"),
        ("void at::native::im2col_kernel<c10::Half>", "convolution"),
        ("void cudnn::engines_precompiled::nchwToNhwcKernel<__half, __half, float, false, true, 2>", "copies"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("Memset (Device)", "copies"),
        (
            "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<"
            "at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)::{lambda()#3}>",
            "copies",
        ),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy_vectorized<16, 512, 2>", "copies"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<c10::Half>>", "copies"),
        ("void at::native::(anonymous namespace)::max_pool_forward_nhwc<c10::Half, int>", "pool"),
        ("void at::native::(anonymous namespace)::max_pool3d_with_indices_single_out_frame<c10::Half>", "pool"),
        ("void cudnn::pooling_fw_kernel_max_nhwc<__half, float, 2, 0>", "pool"),
        (
            "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::(anonymous "
            "namespace)::leaky_relu_kernel(at::TensorIteratorBase&, c10::Scalar const&)::{lambda()#2}>",
            "pointwise",
        ),
        ("void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::Half>>", "pointwise"),
        ("void at::native::(anonymous namespace)::upsample_bilinear2d_out_frame<float, float>", "pointwise"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float>>>", "other"),
    ],
)
def test_a_kernel_is_classed_by_its_name(kernel: str, kind: str) -> None:
    assert class_of(kernel) == kind


@pytest.mark.parametrize(
    "ends",
    [
        [1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0],  # three workers together
        [0.0, 0.7, 1.0, 2.0, 2.7, 3.0, 4.0, 4.7, 5.0, 6.0],  # in turn, and a tenth video that makes no whole round
    ],
)
def test_a_rate_is_that_of_whole_rounds_after_the_first(ends: list[float]) -> None:
    samples = [Sample(t / 2, 10 + 2.5 * t, (t, 1000.0) if t % 2 else None) for t in range(20)]
    rate = rate_of(ends, 3, samples)
    assert rate.videos_per_s == 6 / 4
    assert rate.busy_cores == pytest.approx(5)
    assert rate.gpu_busy == pytest.approx((3 + 5 + 7 + 9) / 4 / 100)
    assert rate_of(ends, 3, []).gpu_busy is None


def test_goals_are_met_missed_or_not_measured() -> None:
    results = {
        "stages": Result({"flow: share of the matrix rate": 0.39}),
        "workers: 1": Result({"320x240: frames/s": 5000.0, "1920x1080: frames/s": 800.0}),
        "workers: 3": Result({"320x240: frames/s": 6100.0, "640x480: frames/s": 9000.0}, failure="died"),
        "plain": Result({"the plain version: frames/s": 300.0}),
    }
    verdicts = [str(goal) for goal in gpu.compare_with_goals(results)]
    assert [verdict.rpartition(": ")[2] for verdict in verdicts] == [
        "6,100, met",
        "800, NOT MET",
        "0.39, NOT MET",
        "20.33, met",
        "not measured",
    ]
    results["precision"] = Result({"mixed: rgb, least cosine with fp32": 0.99998, "mixed: flow, ...": 0.99991})
    assert str(gpu.compare_with_goals(results)[-1]).endswith(": 0.999910, met")
    lines = table(results).splitlines()
    assert lines[0] == "stages (0 s)"
    assert lines[1].split() == ["flow:", "share", "of", "the", "matrix", "rate", "0.39"]
    assert "  FAILED: died" in lines


def test_without_a_gpu_a_line_says_so(tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu", "--output", str(tmp_path / "gpu.json")]
    answer = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 3
    assert answer.stderr.startswith("benchmarks.gpu: no GPU to measure: ")
    assert answer.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_tests_say_becomes_figures(tmp_path: Path) -> None:
    tests = tmp_path / "test_some.py"
    tests.write_text(
        "import pytest\n"
        "def test_right(): pass\n"
        "def test_wrong(): assert 1 == 2, 'no'\n"
        "@pytest.mark.skip\n"
        "def test_left_out(): pass\n"
    )
    amount = gpu.Amount(pipeline.QUICK, (), 1, 0.0, None, (str(tests),))
    figures: dict[str, float | str] = {}
    with pytest.raises(AssertionError, match="pytest ended with status 1"):
        figures.update(gpu.run_tests(CPU, amount, tmp_path))
    failed = figures.pop("FAILED test_wrong")
    assert str(failed).startswith("AssertionError: no")
    assert figures == {"passed": 1, "failure": 1, "error": 0, "skipped": 1}


def test_stages_are_those_of_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "matrix_rate", lambda device, size: 7000.0)
    monkeypatch.setattr(pipeline, "measure_i3d", lambda *_: [("flow", {"per_s": 100.0}), ("save", {"per_s": 5.0})])
    monkeypatch.setattr(pipeline, "measure_vggish", lambda *_: [("sound: mel", {"per_s": 9.0})])
    monkeypatch.setattr(pipeline, "measure_decoding", lambda clip, size: {"planes_per_s": 11.0, "rgb_per_s": 1.0})
    whole = {"frames_per_s": 30.0, "plain_frames_per_s": 2.0, "ratio_to_plain": 15.0, "least_cosine": 1.0}
    monkeypatch.setattr(pipeline, "measure_whole", lambda *_: whole)
    flow_share = 100 * pipeline.GFLOP_PER_FRAME["flow"] / 7000
    measured = {part.name: dict(part.measure()) for part in gpu.parts(CPU, gpu.QUICK, tmp_path) if part.name in STAGES}
    assert measured["stages"] == {
        "matrix product: TFLOP/s": 7.0,
        "flow: frames/s": 100.0,
        "flow: share of the matrix rate": pytest.approx(flow_share),
        "save: frames/s": 5.0,
    }
    assert measured["sound"] == {"mel: s of sound a second": 9.0}
    assert measured["decoding"] == {"160x120: frames/s on a core": 11.0}
    assert measured["plain"] == {
        "the plain version: frames/s": 2.0,
        "ours in one process: frames/s": 30.0,
        "ratio": 15.0,
        "least cosine of ours with the plain version's": 1.0,
    }


STAGES = ("stages", "sound", "decoding", "plain")


@pytest.mark.slow
def test_the_other_parts_run_on_the_cpu_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick"]
    command += [
        "--output",
        str(tmp_path / "gpu.json"),
        "--parts",
        "device",
        "profile",
        "workers: 1",
        "memory",
        "precision",
    ]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert list(parts) == ["device", "clips", "profile", "workers: 1", "precision", "memory"]
    assert all(part["figures"] for part in parts.values())
    profile = parts["profile"]["figures"]
    for network in pipeline.GFLOP_PER_FRAME:
        classes = [profile[f"{network}: {kind}: us a frame"] for kind in CLASSES]
        assert sum(classes) == pytest.approx(profile[f"{network}: us a frame"])
        assert max(classes) == profile[f"{network}: convolution: us a frame"]
    assert parts["workers: 1"]["figures"]["160x120: frames/s"] > 0
    cosines = parts["precision"]["figures"]
    assert all(0.99 < cosine < 1 for cosine in cosines.values())
    assert "bf16: flow, least cosine with fp32" in answer.stdout
