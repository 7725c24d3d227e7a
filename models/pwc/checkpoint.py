"""PWC-Net's published checkpoint: its file, and the names of its entries here."""

import re
from pathlib import Path

from utils.weights.published import WeightsFile

PWC = WeightsFile(
    title="PWC-Net",
    path=Path(__file__).parent / "checkpoints" / "pwc_net.pt",
    urls=("https://github.com/v-iashin/video_features/raw/4fa02bd/models/i3d/checkpoints/pwc_net.pt",),
    git_blob="003fc9d54635881f84758edb5c3fea5918e54f83",
    licence="CC BY-NC-SA 4.0: for non-commercial use only",
)

# In each part of the tree "module" (or "net", in later conversions) stands before a number word.
_NUMBER_WORDS = {"One": 0, "Two": 1, "Thr": 2, "Fou": 3, "Fiv": 4, "Six": 5}
_DECODERS = {"Six": "6", "Fiv": "5", "Fou": "4", "Thr": "3", "Two": "2"}


def our_key(published: str) -> str:
    """Return the name in `PWCNet` of an entry of the published state dict, in either of its two spellings.

    moduleExtractor.moduleOne.2.weight -> levels.0.1.0.weight
    netTwo.netUpfeat.bias -> decoders.2.upsample_dense.bias
    """
    parts = re.sub(r"\b(module|net)(?=[A-Z])", "", published).split(".")
    match parts:
        case ["Extractor", level, index, kind]:
            return f"levels.{_NUMBER_WORDS[level]}.{int(index) // 2}.0.{kind}"
        case ["Refiner", "Main", index, kind]:  # the last one is not in a Sequential
            return f"refiner.6.{kind}" if index == "12" else f"refiner.{int(index) // 2}.0.{kind}"
        case [level, "Upflow", kind]:
            return f"decoders.{_DECODERS[level]}.upsample_flow.{kind}"
        case [level, "Upfeat", kind]:
            return f"decoders.{_DECODERS[level]}.upsample_dense.{kind}"
        case [level, "Six", "0", kind]:
            return f"decoders.{_DECODERS[level]}.to_flow.{kind}"
        case [level, layer, "0", kind]:
            return f"decoders.{_DECODERS[level]}.dense.{_NUMBER_WORDS[layer]}.0.{kind}"
    raise KeyError(published)
