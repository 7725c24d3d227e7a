"""Local media files, opened with care."""

import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.logging
from av.stream import Disposition

from utils.errors import MediaError
from utils.media.integrity import demuxer_errors
from utils.media.options import DecodeOptions
from utils.video_list import explain_missing

DecodeErrors = (av.FFmpegError, OSError, ValueError)

# FFmpeg's names of the containers that hold media themselves. Not among them: playlists and everything else that
# names further files (hls, dash, concat, imf, sdp, image2), text that is drawn, subtitles, devices.
FORMATS = (
    "mov,mp4,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,asf,asf_o,ogg,gif,apng,wav,w64,flac,mp3,aac,ac3,eac3,"
    "dts,dtshd,truehd,mlp,amr,amrnb,amrwb,aiff,au,caf,ape,wv,tta,tak,mpc,mpc8,voc,sox,oma,m4v,h264,hevc,vvc,evc,av1,obu,"
    "ivf,mjpeg,mjpeg_2000,dv,mxf,gxf,nut,rm,ivr,swf,yuv4mpegpipe,vc1,vc1test,dirac,h261,h263,cavsvideo,nsv,nuv,wtv,bink,"
    "smk,roq,film_cpk,flic,dsf,iff,loas,iamf,smjpeg,dxa,ea,lmlm4,mtv,mv,thp,vmd,vivo,xa,xmv,psxstr,pva,ty,kux,dhav,hcom,"
    "qcp,gsm,shn"
)
RESTART_SECONDS = 10  # by which a broadcast's time jumps where recordings were joined, rather than packets are missing
MAX_GAP_SECONDS = 3600  # that a frame is believed to be shown, or silence to last,
MIN_GAP_SECONDS = 60  # and that it always is
MIN_BYTES_PER_SECOND = 4  # of a file with such gaps
FALLBACK_FPS = Fraction(25)  # of a video that does not tell its rate, as in FFmpeg
BROADCAST = ("mpegts", "mpeg")  # containers that can be entered at any place, and whose clock may start anew


class Container:
    """A media file that is open, until `close`. Raises MediaError for what is none, or not allowed."""

    _is_open = False

    def __init__(self, path: str, options: DecodeOptions) -> None:
        self.path = path
        self.options = options
        self.demuxer_errors: list[str] = []
        """Messages of the demuxer that nobody has taken from here yet."""
        _check(path)
        demuxer_errors.start()
        try:
            with av.logging.Capture() as messages:
                self.av = av.open(
                    f"file:{path}",
                    mode="r",
                    options=codec_options(options),  # of the decoders that look into the streams
                    container_options={"protocol_whitelist": "file", "format_whitelist": FORMATS},
                    metadata_errors="replace",
                )
        except BaseException as error:
            demuxer_errors.stop()
            if not isinstance(error, DecodeErrors):
                raise
            raise MediaError("unreadable", f"{path}: not a media file that can be read: {cause(error)}") from error
        self._is_open = True
        self._take(messages)
        duration = self.av.duration
        self.seconds = duration / av.time_base if duration and duration > 0 else None

    def close(self) -> None:
        """Close the file, if it is open, after its decoders' threads have ended what they do: see `demuxer_errors`."""
        if self._is_open:
            self._is_open = False
            for stream in self.av.streams:
                if stream.codec_context is not None:
                    stream.codec_context.flush_buffers()
            self.av.close()
            demuxer_errors.stop()

    __del__ = close

    def allows_gap(self, gap_seconds: Fraction, end_seconds: Fraction) -> bool:
        """Return True if nothing may come for so long, up to a time since the begin, as in a slide show.

        Otherwise the time is damaged: a short file would become an endless one.
        """
        if gap_seconds <= MIN_GAP_SECONDS:
            return True
        is_within = self.seconds is None or end_seconds <= self.seconds + MIN_GAP_SECONDS
        return is_within and gap_seconds <= min(MAX_GAP_SECONDS, self.av.size / MIN_BYTES_PER_SECOND)

    def packets(self) -> Iterator["av.Packet[Any]"]:
        """Yield the packets of all streams."""
        packets = self.av.demux()
        while True:
            try:
                with av.logging.Capture() as messages:
                    packet = next(packets, None)
            except IndexError:  # PyAV, at the end of a file in which a stream appeared that was not there before
                return
            finally:
                self._take(messages)
            if packet is None or (not packet.size and packet.dts is None):  # the latter says that the file has ended
                return
            yield packet

    def _take(self, messages: list[tuple[int, str, str]]) -> None:
        demuxer = self.av.format.name  # which is the name under which it logs
        self.demuxer_errors += [
            text.strip() for level, by, text in messages if by == demuxer and level <= av.logging.ERROR
        ]

    def video(self) -> av.VideoStream | None:
        """Return the first video stream that is no cover picture."""
        streams = (s for s in self.av.streams.video if not s.disposition & Disposition.attached_pic)
        return next(streams, None)


def codec_options(options: DecodeOptions) -> dict[str, str]:
    """Return what keeps decoders from taking memory for a huge frame. They count what they add at its sides."""
    return {"max_pixels": str(2 * options.max_pixels + 2**16)}


def cause(error: BaseException) -> str:
    """Return what FFmpeg said, without the error number and the path that it adds."""
    return str(getattr(error, "strerror", None) or error)


def _check(path: str) -> None:
    """Check that a path is of a regular file that may be read, without opening it: a FIFO would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError as error:
        raise MediaError("no_permission", f"{path}: no permission to look there") from error
    except (OSError, ValueError) as error:
        raise MediaError("not_found", f"{path}: {explain_missing(path) or cause(error)}") from error
    if stat.S_ISDIR(mode):
        raise MediaError("not_a_file", f"{path}: a folder without media files that can be read")
    if not stat.S_ISREG(mode):
        raise MediaError("not_a_file", f"{path}: a pipe, socket or device, not a file")
    if not os.access(path, os.R_OK):
        raise MediaError("no_permission", f"{path}: no permission to read it")
