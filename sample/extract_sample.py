"""Extracts the features of the sample clips, as `make sample` does.

Where there is no network to download the published weights from, untrained ones take their place, and the features,
which then mean nothing, go to a folder of their own.
"""

import sys
from pathlib import Path

import numpy as np

import main
import models
from utils import cli
from utils.errors import UnreachableError, WeightsError
from utils.weights.download import obtain

FEATURE_TYPES = ("i3d", "vggish")  # the others need the name of a model, or are a part of these
BANNER = """
****************************************************************************************************
  There is no network to download the published weights from:
{reason}

  Going on with UNTRAINED networks, to show that the program works. Their features mean NOTHING.
****************************************************************************************************
"""


def extract_sample(feature_type: str) -> int:
    """Run the program on the sample clips, print the shapes of the features, and return its exit status."""
    config = models.load_config(feature_type)()
    output_path, weights = "sample/output", "pretrained"
    try:
        obtain(config.weights_wanted())
    except UnreachableError as error:
        print(BANNER.format(reason="\n".join(f"    {line}" for line in str(error).splitlines())), file=sys.stderr)
        output_path, weights = "sample/output_untrained", "random"
    except WeightsError as error:
        print(error, file=sys.stderr)
        return cli.EXIT_CANNOT_START
    options = ["--feature_type", feature_type, "--file_with_video_paths", "sample/sample_video_paths.txt"]
    options += ["--on_extraction", "save_numpy", "--output_path", output_path, "--weights", weights]
    status = main.main(options)
    if status == cli.EXIT_OK:
        print(f"The features are in {output_path}:")
        for suffix in config.suffixes:
            for path in sorted(Path(output_path).glob(f"*_{suffix}.npy")):
                print(f"  {path.name} {np.load(path).shape}")
    return status


if __name__ == "__main__":
    sys.exit(max(extract_sample(feature_type) for feature_type in FEATURE_TYPES))
