"""Video -> I3D features of its RGB and flow streams."""

from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from models.flow import load_flow
from models.flow.pwc import BYTES_PER_FRAME
from models.i3d import CROP_SIZE, Config, checkpoint
from models.i3d.flow import StackFlows, flow_writer
from models.i3d.net import CHANNELS, I3D, VARIANTS
from models.i3d.predictions import class_names, describe
from models.i3d.transforms import center_crop, flow_in_pixels, normalize_rgb
from utils.devices import CPU, device_context, dtype_of, forbid_reduced_precision, precision_on
from utils.errors import MediaError
from utils.media.device_frames import frames_on_device
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.memory import items_that_fit, retry_with_half_batch
from utils.results import Arrays, Features, Predictions, Span
from utils.stacks import Stack, stacks
from utils.weights.checkpoint import load_or_randomize

CPU_BATCH = 4  # frames; more are no faster, and take more memory
LARGEST_BATCH = 256  # frames, on a GPU, where more are no faster: an estimate


class Extractor:
    """Holds the networks on one device. It sets PyTorch's precision flags, which are the whole process's."""

    def __init__(self, config: Config, device: str, num_sharing: int = 1) -> None:
        self.config = config
        self.device = torch.device(device)
        forbid_reduced_precision()
        self.dtype = dtype = dtype_of(precision_on(device, config.precision))
        self.i3d = {
            stream: load_i3d(config, stream, dtype, for_gpu=device != CPU).to(self.device) for stream in config.streams
        }
        if "flow" in config.streams:
            self.flow_method = load_flow(config.flow, config.flow_weights_path, self.device, dtype)
        if config.show_kinetics_pred or config.save_predictions:
            class_names(config.kinetics_class_labels)  # which says now what is wrong with them
        # The number of frames that flow is computed for together; the stacks of so many go through I3D together.
        if config.batch_size is not None:
            self.batch_size = config.batch_size
        elif self.device.type == "cpu":
            self.batch_size = CPU_BATCH
        else:
            self.batch_size = items_that_fit(device, BYTES_PER_FRAME[dtype.itemsize], LARGEST_BATCH, num_sharing)

    def extract(self, path: str, options: DecodeOptions, frames_folder: Path | None = None) -> Features:
        """Return the features of a video, float32 (N, 1024) a stream; its scaled frames are also written to
        `frames_folder`, if given, and with `keep_flow` its flow beside that.

        Raises MediaError, SaveError and OutOfMemoryError.
        """
        work = partial(self._extract, path, options, frames_folder)
        features, self.batch_size = retry_with_half_batch(work, self.batch_size)
        return features

    @torch.inference_mode()
    def _extract(self, path: str, options: DecodeOptions, frames_folder: Path | None, batch_size: int) -> Features:
        config = self.config
        on_flow = None
        if config.keep_flow and frames_folder is not None:
            on_flow = flow_writer(frames_folder.with_name(frames_folder.name.removesuffix("_frames") + "_flow"))
        rows: dict[str, list[Tensor]] = {stream: [] for stream in config.streams}
        spans: list[Span] = []
        with (
            device_context(str(self.device)),
            Video(path, config.min_side_size, config.extraction_fps, options) as video,
            frames_on_device(video, self.device, frames_folder) as frames,
        ):
            all_stacks = stacks(frames, config.stack_size + 1, config.step_size, config.tail == "cycle")
            flows = before = None
            while group := list(islice(all_stacks, max(1, batch_size // config.stack_size))):
                for stream, network in self.i3d.items():
                    if stream == "rgb":
                        images = self._rgb(group)
                    else:
                        if flows is None:
                            num_pairs = self._pairs_per_batch(batch_size, group[0].items[0])
                            flows = StackFlows(self.flow_method, num_pairs, on_flow)
                        images = flows.compute(group)
                        if options.sketch is not None:
                            for stack, of_stack in zip(group, images, strict=True):
                                middle = min(stack.num_distinct, config.stack_size) // 2
                                options.sketch.add_flow(stack.start, flow_in_pixels(of_stack[middle]))
                    rows[stream].append(network(images.transpose(1, 2)))
                if self.device.type == "cuda":
                    # At most two groups are under way, so that memory is bounded; a thread that waits sleeps.
                    done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                    done.record()
                    if before is not None:
                        before.synchronize()
                    before = done
                spans += [stack.span(config.stack_size, video.fps) for stack in group]
            if not spans:
                raise MediaError(
                    "too_short",
                    f"{path}: {video.num_frames} frames, and with --tail drop a stack of {config.stack_size} needs "
                    f"{config.stack_size + 1}",
                )
        features = {stream: torch.cat(of_groups) for stream, of_groups in rows.items()}
        report = ""
        if config.show_kinetics_pred:
            logits = [self.i3d[stream].classify(of_stream).float() for stream, of_stream in features.items()]
            report = describe(torch.stack(logits).sum(dim=0), spans, class_names(config.kinetics_class_labels))
        return Features(
            arrays={stream: of_stream.cpu().numpy() for stream, of_stream in features.items()},
            spans=spans,
            seconds=float(video.num_frames / video.fps),
            missing=video.missing,
            missing_seconds=video.missing_seconds,
            report=report,
            fps=float(video.fps),
        )

    @torch.inference_mode()
    def predict(self, arrays: Arrays) -> Predictions:
        """Return the probabilities of the Kinetics classes, (N, 400) a stream, and of both streams together."""
        logits = {
            stream: network.classify(torch.from_numpy(arrays[stream]).to(self.device)).float().cpu()
            for stream, network in self.i3d.items()
        }
        if len(logits) > 1:
            logits["both"] = torch.stack(list(logits.values())).sum(dim=0)
        probabilities = {stream: of_stream.softmax(dim=1).numpy() for stream, of_stream in logits.items()}
        return Predictions(class_names(self.config.kinetics_class_labels), probabilities)

    def _rgb(self, group: list[Stack[Tensor]]) -> Tensor:
        """Return what I3D sees of the frames of some stacks but their last ones, (B, T, 3, 224, 224)."""
        size = self.config.stack_size
        frames = [center_crop(frame, CROP_SIZE) for stack in group for frame in stack.items[:size]]
        return normalize_rgb(torch.stack(frames)).view(len(group), size, 3, CROP_SIZE, CROP_SIZE)

    def _pairs_per_batch(self, batch_size: int, frame: Tensor) -> int:
        """Return how many pairs of frames of that size (3, H, W) are computed together."""
        if self.config.batch_size is not None:
            return batch_size
        num_bytes = batch_size * BYTES_PER_FRAME[self.dtype.itemsize]
        return max(1, self.flow_method.pairs_that_fit(num_bytes, *frame.shape[1:]))


def load_i3d(config: Config, stream: str, dtype: torch.dtype, *, for_gpu: bool) -> I3D:
    """Return the network of a stream, ready for inference. Raises WeightsError."""
    network = I3D(CHANNELS[stream], VARIANTS[config.i3d_variant])
    load_or_randomize(network, getattr(config, f"i3d_{stream}_path"), checkpoint.our_key)
    return network.optimize(dtype, for_gpu=for_gpu).to(memory_format=torch.channels_last_3d)
