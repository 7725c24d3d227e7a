"""Published settings as options of ours, `--recipe NAME`, and those that cannot be had. Imports no torch.

The table is made from code, documentation and issue threads. No original features were at hand to compare with.
"""

import difflib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A published setting, for one feature type."""

    options: str
    """As on a command line."""

    work: str

    source: str
    """Where it is from, and how sure that is."""

    files: str
    """The files that it gives, and what the original's are where they differ."""

    notes: str = ""
    """What of the original is different, or not established: a run says it."""


_TWO = "`ID_rgb.npy` and `ID_flow.npy`, (N, 1024)"
_JOINT = "`ID.npy`, (N, 2048), RGB first"
_JPEG = (
    "The original read its frames back from JPEG files, and chose the frames of the last, cycled stack differently, "
    "so that the number of rows can differ by one."
)
_PILLOW = "video_features scales frames by Pillow's antialiased bilinear filter, not bicubically."
_RECODED = "It re-encodes videos, with loss, to change their frame rate."
_TVL1 = "Whose TV-L1 the original used is not established; ours is OpenCV's for CPUs."
_NO_SIZE = "How frames were scaled and cropped is not established: 256 pixels and the central crop are our choice."
_NO_FLOW = "The kind of flow is not stated either: TV-L1 is inferred."
_PWC = "The flow network is not stated: PWC-Net was the default of video_features at the time."
_DENSE_FLOW = (
    "The original squeezes frames to 340 x 256 pixels; ours keep their aspect. Its TV-L1 is dense_flow's: by "
    "inference OpenCV's for GPUs, with other values than that for CPUs, and its RGB begins with the second frame, "
    "ours with the first. It also has the central crop alone (`--crops center`), and frames squashed to 224 x 224, "
    "which cannot be had."
)
_CMCS_FILES = (
    "`ID-rgb.npy` and `ID-flow.npy`, (N, 10, 1024); the original has `.npz` files with `feature`, (10, N, 1024)"
)
_SLICES = (
    "The original computes each second by itself, which at 16 kHz gives the same; how its sound was resampled is "
    "not established. Here the number of rows follows from the length of the sound."
)
_CORNERS = "tl tr bl br"
_TEN_CENTER_FIRST = f"--crops c {_CORNERS} mc mtl mtr mbl mbr"
_TEN_CMCS = "--crops tl tr c bl br mtl mtr mc mbl mbr"

RECIPES = {
    ("mdvc", "i3d"): Recipe(
        "--extraction_fps 25 --stack_size 24 --step_size 24 --flow pwc",
        "MDVC (CVPRW 2020), ActivityNet Captions",
        "the code of v-iashin/MDVC, the README and code of v-iashin/video_features (4fa02bd), and an author (MDVC#7)",
        f"{_TWO}; the original has one HDF5 file with `ID/i3d_features/rgb` and `flow`, which `--pack` makes with "
        "`--key {stem}/i3d_features/{suffix}`",
        f"{_JPEG} Which weights of PWC-Net it had is not certain.",
    ),
    ("mdvc", "vggish"): Recipe(
        "--hop_seconds 0.96",
        "MDVC (CVPRW 2020), ActivityNet Captions, sound",
        "the code of v-iashin/MDVC, and an author (MDVC#7)",
        "`ID_vggish.npy`, (N, 128); the original has `ID/vggish_features` in its HDF5 file",
        "Of a video without sound the original has (0, 128); here it fails.",
    ),
    ("bmt", "i3d"): Recipe(
        "--extraction_fps 25 --stack_size 64 --step_size 64 --flow pwc",
        "BMT (BMVC 2020) and PDVC (ICCV 2021), ActivityNet Captions",
        "the code of v-iashin/BMT and ttengwang/PDVC, and BMT's README; the size of frames is inferred from MDVC",
        f"{_TWO}; PDVC joins RGB, flow and sound as it loads them",
        _JPEG,
    ),
    ("bmt", "vggish"): Recipe(
        "--hop_seconds 0.96 --output_name {stem}",
        "BMT (BMVC 2020) and PDVC (ICCV 2021), ActivityNet Captions, sound",
        "the code of v-iashin/BMT and ttengwang/PDVC, and BMT's README",
        "`ID.npy`, (N, 128), in a folder of their own",
    ),
    ("unav100", "i3d"): Recipe(
        "--extraction_fps 25 --stack_size 24 --step_size 8 --tail drop --flow pwc",
        "UnAV-100 (CVPR 2023)",
        "the README and code of ttgeng233/UnAV, and an author (UnAV#7), where a user got the same numbers of rows; "
        "the tail is from the code of v-iashin/video_features, and so, by inference, the size of frames",
        f"{_TWO}, in one folder with VGGish's; row i is centred at (8 i + 12) / 25 s",
        f"{_PWC} {_PILLOW} {_RECODED}",
    ),
    ("unav100", "vggish"): Recipe(
        "--hop_seconds 0.32",
        "UnAV-100 (CVPR 2023), sound",
        "the README and code of ttgeng233/UnAV, and an author (UnAV#7)",
        "`ID_vggish.npy`, (N, 128)",
    ),
    ("actionformer-thumos14", "i3d"): Recipe(
        "--stack_size 16 --step_size 4 --tail drop --flow tvl1 --i3d_variant deepmind --concatenate --output_name "
        "{stem}",
        "ActionFormer (ECCV 2022) and TriDet (CVPR 2023), THUMOS14",
        "the README and code of happyharrycn/actionformer_release, its authors (#5, #18, #55, #60, #150), and the "
        "code of Finspire13/pytorch-i3d-feature-extraction; TV-L1 and the variant of I3D are inferred from CMCS, "
        "whose features they took",
        f"{_JOINT}. A user counts 1269 rows of video_validation_0000051, of 169.79 s at 30 frames a second; here as "
        "many come of 5089 to 5092 frames",
        "The authors do not recall the crop: the central one is our choice. Frames that were only resized did not "
        "match. " + _TVL1,
    ),
    ("actionformer-anet", "i3d"): Recipe(
        "--extraction_fps 25 --stack_size 16 --step_size 16 --flow tvl1 --concatenate --output_name v_{stem}",
        "ActionFormer (ECCV 2022), ActivityNet 1.3",
        "the README and code of happyharrycn/actionformer_release",
        "`v_ID.npy`, (N, 2048), RGB first",
        f"{_NO_SIZE} Nor are the flow, the tail and the variant of I3D: TV-L1 and our defaults are our choice.",
    ),
    ("cmcs-thumos14", "i3d"): Recipe(
        "--stack_size 16 --step_size 4 --tail drop --flow tvl1 --i3d_variant deepmind --output_name {stem}-{suffix} "
        + _TEN_CMCS,
        "CMCS (CVPR 2019), THUMOS14",
        "the README and code of Finspire13's pytorch-i3d-feature-extraction and CMCS-Temporal-Action-Localization; an "
        "author finds ten crops some 2 mAP better (#4)",
        _CMCS_FILES,
        _DENSE_FLOW,
    ),
    ("cmcs-anet", "i3d"): Recipe(
        "--extraction_fps 25 --stack_size 16 --step_size 16 --tail drop --flow tvl1 --i3d_variant deepmind "
        "--output_name {stem}-{suffix} " + _TEN_CMCS,
        "CMCS (CVPR 2019), ActivityNet",
        "the README and code of Finspire13's pytorch-i3d-feature-extraction and CMCS-Temporal-Action-Localization",
        _CMCS_FILES,
        _DENSE_FLOW,
    ),
    ("wtalc-thumos14", "i3d"): Recipe(
        "--extraction_fps 25 --stack_size 16 --step_size 16 --tail drop --flow tvl1 --i3d_variant deepmind "
        "--concatenate --output_name {stem}",
        "W-TALC (ECCV 2018) and CO2-Net (MM 2021), THUMOS14",
        "an author (sujoyp/wtalc-pytorch#5, #9), and for the files the code, also of harlanhong/MM2021-CO2-Net",
        f"{_JOINT}; the original has them in one array of objects, `SET-I3D-JOINTFeatures.npy`",
        f"{_NO_SIZE} {_NO_FLOW}",
    ),
    ("cola-thumos14", "i3d"): Recipe(
        "--extraction_fps 25 --stack_size 16 --step_size 16 --tail drop --flow tvl1 --i3d_variant deepmind "
        "--output_name {suffix}/{stem}",
        "CoLA (CVPR 2021), BaSNet and LACP, THUMOS14",
        "the README and code of zhang-can/CoLA, and an author of LACP "
        "(Pilhyeon/Learning-Action-Completeness-from-Points#7); the tail and the variant of I3D are taken from W-TALC",
        "`rgb/ID.npy` and `flow/ID.npy`, (N, 1024); the original has such folders in `train` and `test`",
        f"{_NO_SIZE} {_NO_FLOW}",
    ),
    ("stpn", "i3d"): Recipe(
        "--extraction_fps 10 --stack_size 16 --step_size 16 --tail drop --flow tvl1 --i3d_variant deepmind "
        "--output_name {suffix}/{stem}",
        "STPN, as bellos1203/STPN reproduces it",
        "the README and code of bellos1203/STPN",
        "`rgb/ID.npy` and `flow/ID.npy`, (N, 1024); the original names them by number",
        f"The original reads frames of 224 x 224 pixels: that they are central crops is inferred. {_TVL1}",
    ),
    ("pgcn-thumos14", "i3d"): Recipe(
        "--stack_size 64 --step_size 8 --tail drop --flow tvl1",
        "P-GCN (ICCV 2019), TadTR and RTD-Net, THUMOS14",
        "an author (Alvin-Zeng/PGCN#5, #33) and the code; the frame rate is inferred; of TadTR a user says 8 / 8 "
        "(xlliu7/TadTR#17)",
        f"{_TWO}; the original has a file of PyTorch's for each stream",
        f"{_NO_SIZE} Its TV-L1 is that of wanglimin/dense_flow, whose parameters are not established; ours is "
        "OpenCV's for CPUs. Either variant of I3D may be the original's, whose port changed in April 2019.",
    ),
    ("mstcn", "i3d"): Recipe(
        "--stack_size 21 --step_size 1 --align center --flow tvl1 --i3d_variant deepmind --concatenate --transpose "
        "--output_name {stem}",
        "MS-TCN (CVPR 2019), MS-TCN++, ASFormer and DiffAct; 50Salads, GTEA and Breakfast",
        "authors (yabufarha/ms-tcn#16, #34, ChinaYi/ASFormer#12), and the code of ahsaniqbal/Kinetics-FeatureExtractor",
        "`ID.npy`, (2048, N), RGB first, a column for each frame; of 50Salads every second is used, at load",
        "The original computes flow on full-size frames and resizes it without scaling its values; its TV-L1 is "
        "OpenCV 2.4's for GPUs, and its flow is not rounded to 8 bits. It scales frames bilinearly. At the ends an "
        "author tells of zeros (`--edge zero`); the code repeats the end frames, as here. Its features of 50Salads "
        "have 8 frames less than the videos, as a user says.",
    ),
    ("xd-violence", "i3d"): Recipe(
        "--extraction_fps 24 --stack_size 16 --step_size 16 --tail drop --flow tvl1 --i3d_variant deepmind "
        f"--output_name {{suffix}}/{{stem}}__{{crop}} --crops c {_CORNERS}",
        "XD-Violence, HL-Net (ECCV 2020)",
        "an author (Roc-Ng/XDVioDet#5, #6, though #15 names C3D) and the README; the frame rate is of a user "
        "(JustinYuu/MACIL_SD#3); users could not reproduce the values (XDVioDet#16)",
        "`rgb/ID__0.npy` to `rgb/ID__4.npy`, and so for flow, (N, 1024): the centre, then the upper left, upper right, "
        "lower left and lower right corner",
        "The kind of flow is not stated: TV-L1 is our choice. The frame rate is not certain. The original's VGGish "
        "has a hop of 2/3 s, by inference, which is no multiple of 0.01 s and cannot be had.",
    ),
    ("ucf-crime-deepmil", "i3d"): Recipe(
        "--streams rgb --stack_size 16 --step_size 16 --tail drop --i3d_variant deepmind --output_name {stem}__{crop} "
        + _TEN_CENTER_FIRST,
        "UCF-Crime, DeepMIL",
        "the README of Roc-Ng/DeepMIL, and an author (#2, #5, #19)",
        "`ID__0.npy` to `ID__9.npy`, (N, 1024): the centre, the corners, and the same mirrored",
        "The order of the corners is not stated: that of XD-Violence is taken. A stack needs one frame more here, so "
        "that a whole number of stacks gives one row less.",
    ),
    ("pel4vad", "i3d"): Recipe(
        "--streams rgb --stack_size 16 --step_size 16 --tail drop --output_name {stem}_{crop} " + _TEN_CENTER_FIRST,
        "PEL4VAD (TIP), ShanghaiTech",
        "the README and code of yujiangpu20/PEL4VAD, and an author (#10, #13, #20); stacks of 16 are inferred from "
        "the step, and the rest from UCF-Crime",
        "`ID_0.npy` to `ID_9.npy`, (N, 1024): five crops, and the same mirrored",
        f"The order of the five crops is not established: that of XD-Violence is taken. {_PILLOW}",
    ),
    ("umt", "i3d"): Recipe(
        "--stack_size 32 --step_size 32 --tail drop --flow pwc",
        "UMT (CVPR 2022), TVSum and YouTube Highlights",
        "an author (TencentARC/UMT#7, #13), and the code for the files; size and tail are inferred from "
        "v-iashin/video_features",
        f"{_TWO}; the original names flow `ID_opt.npy`, and averages rows that overlap a clip by more than half",
        f"{_PWC} {_PILLOW} The original's sound is of another network, PANN.",
    ),
    ("video-features-2024", "i3d"): Recipe(
        "--stack_size 64 --step_size 64 --tail drop --flow raft",
        "video_features since 2024-01-20, with RAFT as its default",
        "the code of v-iashin/video_features",
        _TWO,
        f"{_PILLOW} {_RECODED} Its crop of flow is up to 3 pixels off that of RGB, since it keeps RAFT's padding.",
    ),
    ("deepmind", "i3d"): Recipe(
        "--extraction_fps 25 --flow tvl1 --i3d_variant deepmind",
        "kinetics-i3d (CVPR 2017), which trained the network",
        "the README of google-deepmind/kinetics-i3d, and for the flow the code of google-ai-edge/mediapipe",
        f"{_TWO}; the original has no features, but scores, from the sum of both streams' logits",
        "The original sees a clip as a whole, ours stacks of 64 frames. It scales frames bilinearly, its released "
        "graph by their height, and truncates flow to 8 bits where ours is rounded.",
    ),
    ("ave", "vggish"): Recipe(
        "--hop_seconds 1.0",
        "AVE (ECCV 2018), sound",
        "the README and code of YapengTian/AVE-ECCV18; the slices are inferred from MUSIC-AVQA",
        "`ID_vggish.npy`, (10, 128) of 10 s; the original has `audio_feature.h5` with `avadataset`, (videos, 10, 128)",
        _SLICES,
    ),
    ("avvp", "vggish"): Recipe(
        "--hop_seconds 1.0 --output_name {stem}",
        "AVVP / LLP (ECCV 2020), sound",
        "the README and code of YapengTian/AVVP-ECCV20; the slices are inferred from the shape",
        "`ID.npy`, (10, 128) of 10 s",
        _SLICES,
    ),
    ("music-avqa", "vggish"): Recipe(
        "--hop_seconds 1.0 --output_name {stem}",
        "MUSIC-AVQA (CVPR 2022), sound",
        "the README and code of GeWu-Lab/MUSIC-AVQA",
        "`ID.npy`, (60, 128) of 60 s, of which every sixth row is used, at load",
        _SLICES,
    ),
}

REFUSED = {
    "ms-tct": "MS-TCT, PDAN and TGM keep I3D's outputs at each time step, by default of other weights (rgb_charades)",
    "lgi": "LGI has other weights, trained on Charades (rgb_charades), and its author does not remember the stride",
    "vslnet": "VSLNet shifts the last window back to the end, and has other weights for Charades-STA (rgb_charades)",
    "scdm": "SCDM keeps I3D's outputs at time steps of pieces of 64 frames; only rgb600's weights matched, a user says",
    "tvr": "TVR has other weights, trained on Kinetics-600, which see values from 0 to 1",
    "rmn": "RMN: frame rate, size and files are not established",
    "vatex": "VATEX: which I3D its features are of is not established",
    "mmit": "MMIT: how its features were made is not established",
    "rtfm": "RTFM and MGFN: another network, I3D on ResNet-50, with 2048 numbers from RGB",
    "specvqgan": "SpecVQGAN: other networks, BN-Inception or ResNet-50",
    "uniav": "UniAV: another network, ONE-PEACE",
    "ccnet": "CCNet's best model: another network, ONE-PEACE",
    "avsbench": "AVSBench runs VGGish inside its training, on log-mel: it loads no features",
    "lavish": "LAVisH: another network, its own branch for sound, which stores no features",
    "g-tad": "G-TAD: another network, TSN",
    "bsn": "BSN: another network, TSN, of which it takes class scores",
    "bmn": "BMN: another network, TSN, of which it takes class scores",
    "mmaction2-anet": "mmaction2's ActivityNet features: another network, TSN",
    "tsp": "TSP: another network, R(2+1)D-34",
    "epic-slowfast": "ActionFormer's EPIC-Kitchens features: another network, SlowFast",
    "tridet-hacs": "TriDet's HACS features, 2048 numbers from RGB alone: another network, by inference",
    "moment-detr": "Moment-DETR: other networks, SlowFast and CLIP",
    "tvqa": "TVQA: another network, ResNet-101",
    "videomae-v2": "VideoMAE v2's THUMOS14 features: another network, VideoMAE v2",
    "mmt": "MMT: another network, S3D",
}

_HEAD = """\
# Recipes

<!-- What `python main.py --recipe list` prints; the table is models/recipes.py -->

`--recipe NAME` sets the options of a published setting. Options that are given besides it win, and `--no_concatenate`
turns off a switch that it sets. Those that name and lay out files need a way of saving.

```bash
python main.py --recipe unav100 --feature_type i3d --video_paths a.mp4 --on_extraction save_numpy
```

The table is made from code, documentation and issue threads (`#7` is one) of the repositories on GitHub that are named.
No original features were at hand to compare with. A run tells what of the original is different or not established.
ID is a video's name without its ending, and N the number of rows. `--i3d_variant deepmind` is for DeepMind's network
and the port piergiaj/pytorch-i3d, which has its batch-norm epsilon.
"""


def find(name: str, feature_type: str | None) -> tuple[Sequence[str], str]:
    """Return the options that a recipe sets, as words, and what a run is to say of it, if anything.

    Raises ValueError where there is none for the feature type.
    """
    if name in REFUSED:
        raise ValueError(f"--recipe {name} cannot be had. {REFUSED[name]}")
    feature_types = [kind for other, kind in RECIPES if other == name]
    if not feature_types:
        close = difflib.get_close_matches(name, [*dict.fromkeys(name for name, _ in RECIPES), *REFUSED])
        hint = f"did you mean {' or '.join(close)}?" if close else "--recipe list tells which there are"
        raise ValueError(f"--recipe {name}: there is no such recipe; {hint}")
    if feature_type not in feature_types:
        raise ValueError(f"--recipe {name} is for --feature_type {' or '.join(feature_types)}")
    recipe = RECIPES[name, feature_type]
    return recipe.options.split(), recipe.notes and f"recipe {name}: {recipe.notes}"


def describe() -> str:
    """Return all recipes as text, which is docs/recipes.md."""
    parts = [_HEAD]
    for (name, feature_type), recipe in RECIPES.items():
        command = f"--feature_type {feature_type} {recipe.options}"
        parts.append(f"## {name}, {feature_type}\n\n{recipe.work}:\n\n```\n{command}\n```\n")
        items = {"Gives": recipe.files, "Differs or is unknown": recipe.notes, "Source": recipe.source}
        parts.append("".join(_item(f"{title}: {text}") for title, text in items.items() if text))
    parts.append("## Those that cannot be had\n\nAsked for one of these by name, the program says why not.\n")
    parts.append("".join(_item(f"`{name}`. {reason}") for name, reason in REFUSED.items()))
    return "\n".join(parts).rstrip()


def _item(text: str) -> str:
    return textwrap.fill(f"- {text}", 118, subsequent_indent="  ", break_on_hyphens=False) + "\n"
